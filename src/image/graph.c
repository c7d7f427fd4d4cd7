#include "image/graph.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define HASH_LENGTH 32
#define MAX_BASE_NAME                                                                                                  \
    (HASH_LENGTH + 1 + 211) /* Nix: src/libstore/path.hh, StorePath::MaxPathLen                                        \
                             */
#define MAX_REFERENCES 100000

struct parser {
    struct graph *g;
    char *at; /* NULL behind the last line */
    unsigned line;
    char **references; /* owned; checked once all paths are known */
    size_t n_references;
    struct mvm_error *err;
};

static void parser_done(struct parser *p)
{
    free(p->references);
}

void graph_done(struct graph *g)
{
    free(g->text);
    free(g->paths);
    *g = (struct graph){0};
}

/* The next line, or NULL. A last line without a newline counts, an empty one there does not. */
static char *next_line(struct parser *p)
{
    if (!p->at || *p->at == '\0')
        return NULL;
    p->line++;
    return strsep(&p->at, "\n");
}

static int bad(struct parser *p, const char *what)
{
    return mvm_error_set(p->err, -EINVAL, "references graph, line %u: %s", p->line, what);
}

static bool is_store_path(const char *s)
{
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?=";
    if (strncmp(s, STORE_PREFIX, sizeof(STORE_PREFIX) - 1) != 0)
        return false;
    s += sizeof(STORE_PREFIX) - 1;
    size_t n = strlen(s);
    return n > HASH_LENGTH + 1 && n <= MAX_BASE_NAME && s[HASH_LENGTH] == '-' && s[0] != '.' && strspn(s, allowed) == n;
}

/* Room is doubled whenever the count reaches a power of two. */
static int append(char ***list, size_t *n, char *s)
{
    if ((*n & (*n - 1)) == 0) {
        char **more = reallocarray(*list, *n ? *n * 2 : 1, sizeof(*more));
        if (!more)
            return -ENOMEM;
        *list = more;
    }
    (*list)[(*n)++] = s;
    return 0;
}

static int parse_count(const char *s, unsigned long *ret)
{
    size_t n = strlen(s);
    if (n == 0 || n > 6 || strspn(s, "0123456789") != n)
        return -EINVAL;
    *ret = strtoul(s, NULL, 10);
    return *ret <= MAX_REFERENCES ? 0 : -EINVAL;
}

static int parse_references(struct parser *p)
{
    const char *count = next_line(p);
    unsigned long n = 0;
    if (!count || parse_count(count, &n) < 0)
        return bad(p, count ? "not a number of references" : "the record ends early");
    for (; n; n--) {
        char *reference = next_line(p);
        if (!reference || !is_store_path(reference))
            return bad(p, reference ? "not a store path" : "the record ends early");
        if (append(&p->references, &p->n_references, reference) < 0)
            return mvm_error_errno(p->err, -ENOMEM, "references graph");
    }
    return 0;
}

static int parse_record(struct parser *p, char *path)
{
    if (!is_store_path(path))
        return bad(p, "not a store path");
    if (append(&p->g->paths, &p->g->n, path) < 0)
        return mvm_error_errno(p->err, -ENOMEM, "references graph");
    const char *deriver = next_line(p);
    if (!deriver || (*deriver && !is_store_path(deriver)))
        return bad(p, deriver ? "not a deriver" : "the record ends early");
    return parse_references(p);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_once_each(struct graph *g)
{
    size_t kept = 0;
    if (g->n)
        qsort(g->paths, g->n, sizeof(*g->paths), by_text);
    for (size_t i = 0; i < g->n; i++)
        if (kept == 0 || strcmp(g->paths[kept - 1], g->paths[i]) != 0)
            g->paths[kept++] = g->paths[i];
    g->n = kept;
}

static int check_closed(const struct parser *p)
{
    for (size_t i = 0; i < p->n_references; i++)
        if (!bsearch(&p->references[i], p->g->paths, p->g->n, sizeof(*p->g->paths), by_text))
            return mvm_error_set(p->err, -EINVAL, "references graph: %s is referred to but not listed",
                                 p->references[i]);
    return 0;
}

static int parse_all(struct graph *g, struct mvm_error *err)
{
    CLEANUP(parser_done) struct parser p = {.g = g, .at = g->text, .err = err};
    for (char *path; (path = next_line(&p));) {
        int r = parse_record(&p, path);
        if (r < 0)
            return r;
    }
    sort_once_each(g);
    return check_closed(&p);
}

int graph_parse(struct graph *g, const void *text, size_t len, struct mvm_error *err)
{
    *g = (struct graph){0};
    if (len && memchr(text, '\0', len))
        return mvm_error_set(err, -EINVAL, "references graph: it is no text");
    g->text = calloc(1, len + 1);
    if (!g->text)
        return mvm_error_errno(err, -ENOMEM, "references graph");
    if (len)
        memcpy(g->text, text, len);
    int r = parse_all(g, err);
    if (r < 0)
        graph_done(g);
    return r;
}
