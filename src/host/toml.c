/*
 * Tables. What may be added to a table later depends on how it came to be:
 *
 *   IMPLICIT  on the way to another ([a.b] makes a)   one header may still name it, headers may add to it
 *   HEADER    by its own header                       headers may add tables, keys come in its section only
 *   DOTTED    on the way of a dotted key              dotted keys of the same section, and headers, may add to it
 *   CLOSED    inline, or an array in brackets         nothing
 *   ELEMENTS  the array of [[a]]                      further [[a]]; other headers go on in its last element
 */
#include "host/toml_scan.h"

#include <errno.h>
#include <string.h>

enum { IMPLICIT, HEADER, DOTTED, CLOSED, ELEMENTS };

static const char *const type_names[] = {
    [TOML_STRING] = "string",      [TOML_INTEGER] = "integer", [TOML_FLOAT] = "float", [TOML_BOOL] = "boolean",
    [TOML_DATETIME] = "date-time", [TOML_ARRAY] = "array",     [TOML_TABLE] = "table",
};
_Static_assert(ARRAY_SIZE(type_names) == TOML_TYPE_COUNT, "every type has a name");

const char *toml_type_name(enum toml_type type)
{
    return type_names[type];
}

static bool has_children(const struct toml_value *v)
{
    return v->type == TOML_ARRAY || v->type == TOML_TABLE;
}

void toml_free(struct toml_value *v)
{
    while (v) {
        struct toml_value *next = v->next;
        if (has_children(v))
            toml_free(v->list.first); /* as deep as TOML_MAX_DEPTH */
        else if (v->type == TOML_STRING || v->type == TOML_DATETIME) {
            if (v->string.text)
                explicit_bzero(v->string.text, strlen(v->string.text)); /* config.toml may have secrets */
            free(v->string.text);
        }
        free(v->key);
        free(v);
        v = next;
    }
}

static struct toml_value *find(const struct toml_value *table, const char *key)
{
    struct toml_value *v = table->list.first;
    while (v && strcmp(v->key, key) != 0)
        v = v->next;
    return v;
}

const struct toml_value *toml_find(const struct toml_value *table, const char *key)
{
    return find(table, key);
}

/* A new table at the end of a table or array. It takes over the key (NULL in arrays). */
static int add_table(struct toml_scan *s, struct toml_value *parent, char **key, uint8_t origin,
                     struct toml_value **ret)
{
    if (parent->depth == TOML_MAX_DEPTH)
        return toml_fail(s, "more than %d levels", TOML_MAX_DEPTH);
    if (++s->n_values > TOML_MAX_VALUES)
        return mvm_error_set(s->err, -EMSGSIZE, "line %u: more than %d values", s->line, TOML_MAX_VALUES);
    struct toml_value *v = calloc(1, sizeof(*v));
    if (!v)
        return mvm_error_errno(s->err, -ENOMEM, "line %u", s->line);
    v->type = TOML_TABLE;
    v->line = s->line;
    v->origin = origin;
    v->depth = (uint8_t)(parent->depth + 1);
    if (key)
        v->key = TAKE_PTR(*key);
    if (parent->list.last)
        parent->list.last->next = v;
    else
        parent->list.first = v;
    parent->list.last = v;
    *ret = v;
    return 0;
}

static int taken(struct toml_scan *s, const struct toml_value *by)
{
    return toml_fail(s, "'%.60s' is defined already, on line %u", by->key, by->line);
}

/* ---- Values ---- */

static int parse_value(struct toml_scan *s, struct toml_value *v);

static int parse_array(struct toml_scan *s, struct toml_value *v)
{
    v->type = TOML_ARRAY;
    v->origin = CLOSED;
    for (s->at++;;) {
        struct toml_value *element = NULL;
        toml_skip_lines(s);
        if (*s->at == ']')
            break;
        int r = add_table(s, v, NULL, CLOSED, &element);
        if (r == 0)
            r = parse_value(s, element);
        if (r < 0)
            return r;
        toml_skip_lines(s);
        if (*s->at == ',')
            s->at++;
        else if (*s->at != ']')
            return toml_fail(s, "an array lacks ',' or ']'");
    }
    s->at++;
    return 0;
}

/* "a.b = value" into the table. */
static int parse_pair(struct toml_scan *s, struct toml_value *table)
{
    struct toml_value *v;
    for (bool last = false; !last;) {
        CLEAN_FREE char *key = NULL;
        int r = toml_scan_key(s, &key, &last);
        if (r < 0)
            return r;
        v = find(table, key);
        if (v && (last || v->type != TOML_TABLE || v->origin != DOTTED))
            return taken(s, v);
        if (!v)
            r = add_table(s, table, &key, DOTTED, &v);
        if (r < 0)
            return r;
        table = v;
    }
    if (*s->at != '=')
        return toml_fail(s, "'=' is missing behind key '%.60s'", v->key);
    s->at++;
    toml_skip_blanks(s);
    return parse_value(s, v);
}

static int parse_inline_table(struct toml_scan *s, struct toml_value *v)
{
    s->at++;
    toml_skip_blanks(s);
    for (bool more = *s->at != '}'; more;) {
        int r = parse_pair(s, v);
        if (r < 0)
            return r;
        toml_skip_blanks(s);
        more = *s->at == ',';
        if (more)
            s->at++;
        else if (*s->at != '}')
            return toml_fail(s, "an inline table lacks ',' or '}'");
    }
    s->at++;
    return 0;
}

/* Whatever stands at s->at becomes v, which is an empty table so far. */
static int parse_value(struct toml_scan *s, struct toml_value *v)
{
    v->origin = CLOSED;
    if (*s->at == '[')
        return parse_array(s, v);
    if (*s->at == '{')
        return parse_inline_table(s, v);
    /* Filled beside, so that v is whole whenever it is freed. */
    struct toml_value scalar = {0};
    int r = toml_scan_scalar(s, &scalar);
    if (r < 0)
        return r;
    v->type = scalar.type;
    if (scalar.type == TOML_STRING || scalar.type == TOML_DATETIME)
        v->string = scalar.string;
    else if (scalar.type == TOML_INTEGER)
        v->integer = scalar.integer;
    else if (scalar.type == TOML_FLOAT)
        v->number = scalar.number;
    else
        v->boolean = scalar.boolean;
    return 0;
}

/* ---- Headers ---- */

/* The table that a part of a header other than its last leads to. */
static int enter(struct toml_scan *s, struct toml_value *table, char **key, struct toml_value **ret)
{
    struct toml_value *v = find(table, *key);
    if (!v)
        return add_table(s, table, key, IMPLICIT, ret);
    if (!has_children(v) || v->origin == CLOSED)
        return taken(s, v);
    *ret = v->origin == ELEMENTS ? v->list.last : v;
    return 0;
}

static int define_table(struct toml_scan *s, struct toml_value *table, char **key, struct toml_value **ret)
{
    struct toml_value *v = find(table, *key);
    if (!v)
        return add_table(s, table, key, HEADER, ret);
    if (v->type != TOML_TABLE || v->origin != IMPLICIT)
        return taken(s, v);
    v->origin = HEADER;
    v->line = s->line;
    *ret = v;
    return 0;
}

static int define_element(struct toml_scan *s, struct toml_value *table, char **key, struct toml_value **ret)
{
    struct toml_value *v = find(table, *key);
    if (v && v->origin != ELEMENTS)
        return taken(s, v);
    if (!v) {
        int r = add_table(s, table, key, ELEMENTS, &v);
        if (r < 0)
            return r;
        v->type = TOML_ARRAY;
    }
    return add_table(s, v, NULL, HEADER, ret);
}

/* "[a.b]" or "[[a.b]]": the table whose section begins. */
static int parse_header(struct toml_scan *s, struct toml_value *root, struct toml_value **ret)
{
    bool element = s->at[1] == '[';
    struct toml_value *table = root;
    s->at += 1 + element;
    for (bool last = false; !last;) {
        CLEAN_FREE char *key = NULL;
        int r = toml_scan_key(s, &key, &last);
        if (r == 0 && !last)
            r = enter(s, table, &key, &table);
        else if (r == 0)
            r = element ? define_element(s, table, &key, &table) : define_table(s, table, &key, &table);
        if (r < 0)
            return r;
    }
    if (strncmp(s->at, "]]", 1u + element) != 0)
        return toml_fail(s, "a table's header lacks '%s'", element ? "]]" : "]");
    s->at += 1 + element;
    *ret = table;
    return 0;
}

int toml_parse(const char *text, size_t len, struct toml_value **ret, struct mvm_error *err)
{
    if (len > TOML_MAX_SIZE)
        return mvm_error_set(err, -EMSGSIZE, "more than %zu bytes", TOML_MAX_SIZE);
    CLEAN_TOML struct toml_value *root = calloc(1, sizeof(*root));
    CLEAN_FREE char *copy = strndup(text, len);
    if (!root || !copy)
        return mvm_error_errno(err, -ENOMEM, "TOML");
    root->type = TOML_TABLE;
    root->line = 1;
    root->origin = HEADER;
    struct toml_scan s = {.at = copy, .line = 1, .err = err};
    int r = toml_check_text(&s);
    if (r == 0 && strlen(copy) != len)
        r = mvm_error_set(err, -EINVAL, "a NUL at byte %zu", strlen(copy));
    struct toml_value *section = root;
    for (toml_skip_lines(&s); r == 0 && *s.at; toml_skip_lines(&s)) {
        r = *s.at == '[' ? parse_header(&s, root, &section) : parse_pair(&s, section);
        if (r == 0)
            r = toml_end_line(&s);
    }
    if (r == 0)
        *ret = TAKE_PTR(root);
    return r;
}
