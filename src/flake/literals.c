#include "flake/literals.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
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
    static const char *const schemes[] = {"path:", "git+file:", "file:"};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(url, schemes[i], n) != 0)
            continue;
        url += n;
        if (strncmp(url, "///", 3) == 0)
            url += 2;
        if (url[0] != '/' || url[1] == '/')
            return NULL;
        char *path = strndup(url, strcspn(url, "?#"));
        if (path)
            flake_url_decode(path);
        return trimmed(path);
    }
    return NULL;
}

/* The word before the '=' before here: "url" of `inputs.x.url = `. */
static bool is_value_of(const char *text, const char *here, const char *word)
{
    size_t n = strlen(word);
    while (here > text && isspace((unsigned char)here[-1]))
        here--;
    if (here == text || *--here != '=')
        return false;
    while (here > text && isspace((unsigned char)here[-1]))
        here--;
    return (size_t)(here - text) >= n && memcmp(here - n, word, n) == 0 &&
           ((size_t)(here - text) == n || !isalnum((unsigned char)here[-(ptrdiff_t)n - 1]));
}

/* Does the set around here say type = "path"? */
static bool is_path_set(const char *text, const char *here)
{
    const char *from = here, *end = here + strcspn(here, "}");
    while (from > text && *from != '{')
        from--;
    for (const char *at = from; (at = memmem(at, (size_t)(end - at), "\"path\"", 6)); at++)
        if (is_value_of(text, at, "type"))
            return true;
    return false;
}

/* The literal's end: its closing quote. */
static const char *literal_end(const char *s)
{
    while (*s && *s != '"')
        s += s[0] == '\\' && s[1] ? 2 : 1;
    return s;
}

static int judge(const char *text, const char *quote, const char *end, int (*found)(void *data, const char *path),
                 void *data)
{
    CLEAN_FREE char *value = strndup(quote + 1, (size_t)(end - quote - 1));
    if (!value)
        return -ENOMEM;
    CLEAN_FREE char *path = strncmp(value, "file:", 5) != 0 ? flake_url_path(value) : NULL;
    if (!path && value[0] == '/' && is_value_of(text, quote, "url"))
        path = trimmed(strndup(value, strcspn(value, "?#")));
    if (!path && value[0] == '/' && is_value_of(text, quote, "path") && is_path_set(text, quote))
        path = trimmed(strdup(value));
    return path ? found(data, path) : 0;
}

int flake_literals(const char *text, int (*found)(void *data, const char *path), void *data)
{
    int r = 0;
    for (const char *s = text; r == 0 && *s;) {
        if (*s == '#') {
            s += strcspn(s, "\n");
        } else if (strncmp(s, "/*", 2) == 0) {
            const char *end = strstr(s + 2, "*/");
            s = end ? end + 2 : s + strlen(s);
        } else if (*s == '"') {
            const char *end = literal_end(s + 1);
            r = judge(text, s, end, found, data);
            s = *end ? end + 1 : end;
        } else {
            s++;
        }
    }
    return r;
}
