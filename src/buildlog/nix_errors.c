#include "buildlog/nix_errors.h"
#include "base/macros.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define STORE      "/nix/store/"
#define STORE_HASH 33 /* characters of a store path's hash, and the dash */

static void copy(char *out, size_t size, const char *from, size_t n)
{
    snprintf(out, size, "%.*s", (int)text_cut(from, n, size - 1), from);
}

void nix_errors_short_name(const char *text, char *out, size_t size)
{
    const char *store = strstr(text, STORE);
    const char *hash = store ? store + sizeof(STORE) - 1 : "";
    bool is_path = strspn(hash, "0123456789abcdefghijklmnopqrstuvwxyz") == STORE_HASH - 1 &&
                   hash[STORE_HASH - 1] == '-' && hash[STORE_HASH];
    const char *name = is_path ? hash + STORE_HASH : text;
    size_t n = strcspn(name, "'\" ");
    if (n > 4 && strncmp(name + n - 4, ".drv", 4) == 0)
        n -= 4;
    copy(out, size, name, n);
}

/* What stands between the next pair of quotes; where it ends, NULL where there is none. */
static const char *quoted(const char *text, char *out, size_t size)
{
    const char *open = strchr(text, '\'');
    const char *close = open ? strchr(open + 1, '\'') : NULL;
    if (!close)
        return NULL;
    copy(out, size, open + 1, (size_t)(close - open - 1));
    return close + 1;
}

/* The value behind "label:" of a message of several lines. */
static void labelled(const char *text, const char *label, char *out, size_t size)
{
    const char *at = strstr(text, label);
    if (!at)
        return;
    at += strlen(label);
    at += strspn(at, " ");
    copy(out, size, at, strcspn(at, " \n"));
}

static void take_derivation(struct nix_errors *f, const char *path)
{
    if (f->n_failed < NIX_ERROR_NAMES)
        nix_errors_short_name(path, f->names[f->n_failed], sizeof(f->names[0]));
    if (f->n_failed++ == 0)
        snprintf(f->derivation, sizeof(f->derivation), "%s", path);
}

/* ---- The messages ---- */

static bool is_builder(struct nix_errors *f, const char *message)
{
    static const char *const starts[] = {"builder for '" STORE, "Cannot build '" STORE};
    char path[256];
    size_t i = 0;
    while (i < ARRAY_SIZE(starts) && strncmp(message, starts[i], strlen(starts[i])) != 0)
        i++;
    const char *rest = i < ARRAY_SIZE(starts) ? quoted(message, path, sizeof(path)) : NULL;
    if (!rest)
        return false;
    take_derivation(f, path);
    if (f->kind > NIX_ERROR_UNKNOWN)
        return true;
    if (strcmp(f->fetch.derivation, path) == 0 && f->fetch.why[0]) {
        f->kind = NIX_ERROR_FETCH;
        snprintf(f->url, sizeof(f->url), "%s", f->fetch.url);
        snprintf(f->why, sizeof(f->why), "%s", f->fetch.why);
        return true;
    }
    f->kind = NIX_ERROR_BUILDER;
    const char *reason = strstr(rest, "Reason: builder ");
    rest = reason ? reason + strlen("Reason: builder ") : rest + strspn(rest, " ");
    copy(f->why, sizeof(f->why), rest, strcspn(rest, ";\n"));
    /* "failed to produce output path for output 'out' at '<a path of the sandbox>'" */
    char *at = strstr(f->why, " at '" STORE);
    if (at)
        *at = '\0';
    return true;
}

static bool is_hash(struct nix_errors *f, const char *message)
{
    static const char derivation[] = "hash mismatch in fixed-output derivation '";
    static const char input[] = "NAR hash mismatch in input '";
    char path[256];
    bool drv = strncmp(message, derivation, sizeof(derivation) - 1) == 0;
    if (!drv && strncmp(message, input, sizeof(input) - 1) != 0)
        return false;
    const char *rest = quoted(message, drv ? path : f->url, drv ? sizeof(path) : sizeof(f->url));
    if (drv && rest)
        take_derivation(f, path);
    if (!rest || f->kind > NIX_ERROR_UNKNOWN)
        return rest != NULL;
    f->kind = NIX_ERROR_HASH;
    if (drv) {
        labelled(rest, "specified:", f->specified, sizeof(f->specified));
        labelled(rest, "got:", f->got, sizeof(f->got));
        return true;
    }
    const char *expected = strstr(rest, "expected ");
    rest = expected ? quoted(expected, f->specified, sizeof(f->specified)) : NULL;
    if (rest)
        (void)!quoted(rest, f->got, sizeof(f->got));
    return true;
}

/* "unable to download 'URL': why (6) why exactly" and what git says. */
static bool fetch_line(const char *line, char *url, size_t url_size, char *why, size_t why_size)
{
    static const char *const starts[] = {"unable to download '",
                                         "Failed to fetch git repository '",
                                         "failed to fetch '",
                                         "fatal: unable to access '",
                                         "curl: (",
                                         "cannot download "};
    size_t i = 0;
    while (i < ARRAY_SIZE(starts) && strncmp(line, starts[i], strlen(starts[i])) != 0)
        i++;
    if (i == ARRAY_SIZE(starts))
        return false;
    const char *rest = strchr(starts[i], '\'') ? quoted(line, url, url_size) : NULL;
    if (rest)
        rest += strspn(rest, ": ");
    else
        rest = line;
    copy(why, why_size, rest, strcspn(rest, "\n"));
    return true;
}

void nix_errors_message(struct nix_errors *f, const char *message)
{
    if (strncmp(message, "error: ", 7) == 0)
        message += 7;
    char why[300], url[300] = "";
    if (is_builder(f, message) || is_hash(f, message) || f->kind > NIX_ERROR_UNKNOWN)
        return;
    if (fetch_line(message, url, sizeof(url), why, sizeof(why))) {
        f->kind = NIX_ERROR_FETCH;
        snprintf(f->url, sizeof(f->url), "%s", url);
        snprintf(f->why, sizeof(f->why), "%s", why);
    } else if (f->kind == NIX_ERROR_NONE) {
        f->kind = NIX_ERROR_UNKNOWN;
        copy(f->why, sizeof(f->why), message, strcspn(message, "\n"));
    }
}

void nix_errors_line(struct nix_errors *f, const char *derivation, const char *line)
{
    struct nix_errors_fetch *t = &f->fetch;
    line += strspn(line, " ");
    if (strncmp(line, "error: ", 7) == 0)
        line += 7;
    bool trying = strncmp(line, "trying ", 7) == 0; /* nixpkgs' fetchurl, before each attempt */
    char url[300] = "", why[300] = "";
    if (!trying && !fetch_line(line, url, sizeof(url), why, sizeof(why)))
        return;
    if (trying)
        copy(url, sizeof(url), line + 7, strcspn(line + 7, " \n"));
    if (trying || strcmp(t->derivation, derivation) != 0)
        *t = (struct nix_errors_fetch){0};
    snprintf(t->derivation, sizeof(t->derivation), "%s", derivation);
    if (url[0])
        snprintf(t->url, sizeof(t->url), "%s", url);
    /* curl's own line says more than the script's "cannot download" behind it. */
    if (!t->why[0])
        snprintf(t->why, sizeof(t->why), "%s", why);
}
