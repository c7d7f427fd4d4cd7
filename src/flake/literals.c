#include "flake/literals.h"
#include "flake/nixlex.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                                                   ? c - '0'
           : tolower((unsigned char)c) >= 'a' && tolower((unsigned char)c) <= 'f' ? tolower((unsigned char)c) - 'a' + 10
                                                                                  : -1;
}

void flake_url_decode(char *s)
{
    char *to = s;
    for (; *s; s++) {
        int hi = s[0] == '%' ? hex_digit(s[1]) : -1;
        int lo = hi >= 0 ? hex_digit(s[2]) : -1;
        if (lo >= 0 && (hi || lo)) {
            *to++ = (char)(hi * 16 + lo);
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* Slashes at the end mean nothing. */
static char *trimmed(char *path)
{
    for (size_t n = path ? strlen(path) : 0; n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    return path;
}

char *flake_url_path(const char *url)
{
    static const char *const schemes[] = {"path:", "git+file:", "hg+file:", "tarball+file:", "file+file:", "file:"};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(url, schemes[i], n) != 0)
            continue;
        url += n;
        if (url[0] == '/' && url[1] == '/') /* the authority is empty, or it is another machine's */
            url += 2;
        if (url[0] != '/')
            return NULL;
        char *path = strndup(url, strcspn(url, "?#"));
        if (path)
            flake_url_decode(path);
        return trimmed(path);
    }
    return NULL;
}

/* ---- Attributes ---- */

/*
 * Nix evaluates nothing to learn a flake's inputs: the file is a set, `inputs` is one, so are those in it, and what
 * url, type and path say are literals. They may be written as a.b.c or as sets within each other, in any mixture: an
 * attribute's place is told by the hash of the names that lead to it.
 */
enum attribute { OTHER, URL, TYPE, PATH };

struct scope {
    enum { NAME, VALUE, REST } expects; /* a name's next part; what the name stands for; nothing, until ';' */
    bool set_inputs, inputs;            /* the set, or the name, is `inputs` or in it */
    enum attribute last;                /* of the name's parts */
    uint64_t set, parent, here;         /* the places of the set, of the name's last part but one, and of the name */
};

struct literal {
    enum attribute kind;
    uint64_t set;
    char *path; /* of TYPE: NULL */
};

#define ROOT         1 /* the place of the file's own set */
#define ELSEWHERE    2 /* of those that are no value of an attribute */
#define MAX_LITERALS 1000

struct literals {
    struct nixlex lex;
    struct scope scopes[NIX_MAX_DEPTH + 1];
    size_t depth;
    struct literal v[MAX_LITERALS];
    size_t n;
};

static void literals_free(struct literals **l)
{
    for (size_t i = 0; *l && i < (*l)->n; i++)
        free((*l)->v[i].path);
    if (*l)
        nixlex_done(&(*l)->lex);
    free(*l);
}

/* FNV-1a. */
static uint64_t place_below(uint64_t place, const void *name, size_t n)
{
    for (const uint8_t *p = name; n--; p++)
        place = (place ^ *p) * 0x100000001b3;
    return (place ^ 0x100) * 0x100000001b3;
}

static void add_name(struct scope *s, const char *name, size_t n)
{
    static const char *const names[] = {[URL] = "url", [TYPE] = "type", [PATH] = "path"};
    s->inputs = s->inputs || (s->here == ROOT && strcmp(name, "inputs") == 0);
    s->last = OTHER;
    for (size_t i = URL; i < ARRAY_SIZE(names); i++)
        if (strcmp(name, names[i]) == 0)
            s->last = (enum attribute)i;
    s->parent = s->here;
    s->here = place_below(s->here, name, n);
}

static void begin_name(struct scope *s)
{
    s->expects = NAME;
    s->inputs = s->set_inputs;
    s->here = s->set;
    s->last = OTHER;
}

static int add_value(struct literals *l, const struct scope *s, const char *value)
{
    char *path = NULL;
    if (!s->inputs || (s->last == TYPE && strcmp(value, "path") != 0) || s->last == OTHER)
        return 0;
    if (s->last != TYPE) {
        path = s->last == URL ? flake_url_path(value) : NULL;
        if (!path && value[0] == '/')
            path = trimmed(s->last == URL ? strndup(value, strcspn(value, "?#")) : strdup(value));
        if (!path)
            return 0;
    }
    if (l->n == MAX_LITERALS) {
        free(path);
        return -EOVERFLOW;
    }
    l->v[l->n++] = (struct literal){s->last, s->parent, path};
    return 0;
}

static void open_scope(struct literals *l)
{
    struct scope *s = &l->scopes[l->depth], *in = &l->scopes[++l->depth];
    char what = l->lex.open[l->lex.depth - 1];
    *in = *s;
    if (what == '$' && s->expects == NAME) /* ${"x"} is a name */
        return;
    s->expects = REST;
    if (what == '(' && in->expects == VALUE)
        return;
    bool value = what == '{' && in->expects == VALUE;
    in->set = value ? in->here : ELSEWHERE;
    in->set_inputs = value && in->inputs;
    begin_name(in);
    if (what != '{')
        in->expects = REST;
}

static void close_scope(struct literals *l)
{
    const struct scope *in = &l->scopes[l->depth];
    struct scope *s = &l->scopes[--l->depth];
    if (s->expects == NAME)
        *s = *in;
}

static int judge(struct literals *l, enum nix_token t)
{
    struct scope *s = &l->scopes[l->depth];
    const char *text = buf_cstr(&l->lex.text);
    if (t == NIX_OPEN)
        open_scope(l);
    else if (t == NIX_CLOSE)
        close_scope(l);
    else if (t == NIX_SEMICOLON)
        begin_name(s);
    else if (s->expects == NAME && (t == NIX_NAME || t == NIX_STRING))
        add_name(s, text, l->lex.text.len);
    else if (s->expects == NAME && t == NIX_EQUALS)
        s->expects = VALUE;
    else if (s->expects == VALUE && t == NIX_STRING) {
        s->expects = REST;
        return add_value(l, s, text);
    } else if ((s->expects != NAME || t != NIX_DOT) &&
               (s->expects != VALUE || t != NIX_NAME || strcmp(text, "rec") != 0))
        s->expects = REST;
    return 0;
}

static bool is_path_set(const struct literals *l, uint64_t set)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].kind == TYPE && l->v[i].set == set)
            return true;
    return false;
}

int flake_literals(const char *text, int (*found)(void *data, const char *path), void *data)
{
    CLEANUP(literals_free) struct literals *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->lex = (struct nixlex)NIXLEX_INIT(text);
    l->scopes[0] = (struct scope){.expects = VALUE, .here = ROOT};
    enum nix_token t;
    int r = 0;
    while (r == 0 && (t = nixlex_next(&l->lex)) != NIX_END)
        r = t == NIX_TOO_DEEP ? -EOVERFLOW : judge(l, t);
    for (size_t i = 0; r == 0 && i < l->n; i++)
        if (l->v[i].kind == URL || (l->v[i].kind == PATH && is_path_set(l, l->v[i].set)))
            r = found(data, l->v[i].path);
    return r;
}
