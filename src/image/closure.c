#include "image/closure.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define HASH_LENGTH 32
#define MAX_BASE_NAME                                                                                                  \
    (HASH_LENGTH + 1 + 211) /* Nix: src/libstore/path.hh, StorePath::MaxPathLen                                        \
                             */
#define MAX_REFERENCES 100000

struct parser {
    struct closure *g;
    char *at; /* NULL behind the last line */
    unsigned line;
    struct mvm_error *err;
};

void closure_done(struct closure *g)
{
    free(g->text);
    free(g->paths);
    free(g->references);
    *g = (struct closure){0};
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

/* Makes room for one more member. It is doubled whenever the count reaches a power of two. */
static int grow(void **list, size_t n, size_t size)
{
    if (n & (n - 1))
        return 0;
    void *more = reallocarray(*list, n ? n * 2 : 1, size);
    if (!more)
        return -ENOMEM;
    *list = more;
    return 0;
}

static int add_path(struct closure *g, char *path)
{
    void *list = g->paths;
    int r = grow(&list, g->n, sizeof(*g->paths));
    g->paths = list;
    if (r == 0)
        g->paths[g->n++] = path;
    return r;
}

static int add_reference(struct closure *g, char *from, char *to)
{
    void *list = g->references;
    int r = grow(&list, g->n_references, sizeof(*g->references));
    g->references = list;
    if (r == 0)
        g->references[g->n_references++] = (struct closure_reference){from, to};
    return r;
}

static int parse_count(const char *s, unsigned long *ret)
{
    size_t n = strlen(s);
    if (n == 0 || n > 6 || strspn(s, "0123456789") != n)
        return -EINVAL;
    *ret = strtoul(s, NULL, 10);
    return *ret <= MAX_REFERENCES ? 0 : -EINVAL;
}

static int parse_references(struct parser *p, char *from)
{
    const char *count = next_line(p);
    unsigned long n = 0;
    if (!count || parse_count(count, &n) < 0)
        return bad(p, count ? "not a number of references" : "the record ends early");
    for (; n; n--) {
        char *reference = next_line(p);
        if (!reference || !is_store_path(reference))
            return bad(p, reference ? "not a store path" : "the record ends early");
        if (add_reference(p->g, from, reference) < 0)
            return mvm_error_errno(p->err, -ENOMEM, "references graph");
    }
    return 0;
}

static int parse_record(struct parser *p, char *path)
{
    if (!is_store_path(path))
        return bad(p, "not a store path");
    if (add_path(p->g, path) < 0)
        return mvm_error_errno(p->err, -ENOMEM, "references graph");
    const char *deriver = next_line(p);
    if (!deriver || (*deriver && !is_store_path(deriver)))
        return bad(p, deriver ? "not a deriver" : "the record ends early");
    return parse_references(p, path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_once_each(struct closure *g)
{
    size_t kept = 0;
    if (g->n)
        qsort(g->paths, g->n, sizeof(*g->paths), by_text);
    for (size_t i = 0; i < g->n; i++)
        if (kept == 0 || strcmp(g->paths[kept - 1], g->paths[i]) != 0)
            g->paths[kept++] = g->paths[i];
    g->n = kept;
}

static char **find(const struct closure *g, char *path)
{
    return g->n ? bsearch(&path, g->paths, g->n, sizeof(*g->paths), by_text) : NULL;
}

static int check_closed(const struct closure *g, struct mvm_error *err)
{
    for (size_t i = 0; i < g->n_references; i++)
        if (!find(g, g->references[i].to))
            return mvm_error_set(err, -EINVAL, "references graph: %s is referred to but not listed",
                                 g->references[i].to);
    return 0;
}

int closure_peel(struct closure *g, struct mvm_error *err)
{
    CLEAN_FREE bool *referred = calloc(g->n + 1, sizeof(*referred));
    if (!referred)
        return mvm_error_errno(err, -ENOMEM, "references graph");
    for (size_t i = 0; i < g->n_references; i++) {
        char **to = find(g, g->references[i].to);
        if (to && find(g, g->references[i].from))
            referred[to - g->paths] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < g->n; i++)
        if (referred[i])
            g->paths[kept++] = g->paths[i];
    g->n = kept;
    return 0;
}

static int parse_all(struct closure *g, struct mvm_error *err)
{
    struct parser p = {.g = g, .at = g->text, .err = err};
    for (char *path; (path = next_line(&p));) {
        int r = parse_record(&p, path);
        if (r < 0)
            return r;
    }
    sort_once_each(g);
    return check_closed(g, err);
}

int closure_parse(struct closure *g, const void *text, size_t len, struct mvm_error *err)
{
    *g = (struct closure){0};
    if (len && memchr(text, '\0', len))
        return mvm_error_set(err, -EINVAL, "references graph: it is no text");
    g->text = calloc(1, len + 1);
    if (!g->text)
        return mvm_error_errno(err, -ENOMEM, "references graph");
    if (len)
        memcpy(g->text, text, len);
    int r = parse_all(g, err);
    if (r < 0)
        closure_done(g);
    return r;
}
