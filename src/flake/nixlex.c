#include "flake/nixlex.h"

#include <stdbool.h>
#include <string.h>

#define LETTERS    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS     "0123456789"
#define PATH_CHARS LETTERS DIGITS "._-+"

/* ---- Words ---- */

static size_t name_length(const char *s)
{
    return *s && strchr(LETTERS "_", *s) ? strspn(s, LETTERS DIGITS "_'-") : 0;
}

/* "x:y" is one without quotes, not a function. */
static size_t url_length(const char *s)
{
    size_t scheme = *s && strchr(LETTERS, *s) ? strspn(s, LETTERS DIGITS "+-.") : 0;
    if (!scheme || s[scheme] != ':')
        return 0;
    size_t rest = strspn(s + scheme + 1, LETTERS DIGITS "%/?:@&=+$,-_.!~*'");
    return rest ? scheme + 1 + rest : 0;
}

/* Of a path without quotes: "a/b", "./x", "/x". */
static size_t path_length(const char *s)
{
    size_t n = strspn(s, PATH_CHARS), segments = 0;
    for (size_t more; s[n] == '/' && (more = strspn(s + n + 1, PATH_CHARS)); segments++)
        n += 1 + more;
    return segments ? n + (s[n] == '/') : 0;
}

static size_t operator_length(const char *s)
{
    static const char *const operators[] = {"...", "==", "!=", "<=", ">=", "//"};
    for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
        if (strncmp(s, operators[i], strlen(operators[i])) == 0)
            return strlen(operators[i]);
    size_t digits = strspn(s, DIGITS);
    return digits ? digits : 1;
}

/* ---- Brackets and strings ---- */

static enum nix_token push(struct nixlex *l, char what)
{
    if (l->depth == NIX_MAX_DEPTH)
        return NIX_TOO_DEEP;
    l->open[l->depth++] = what;
    return NIX_OPEN;
}

static void keep(struct nixlex *l, const char *p, size_t n)
{
    (void)!buf_append(&l->text, p, n);
}

/* One character behind a backslash. */
static void keep_escaped(struct nixlex *l, char c)
{
    char real = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    keep(l, &real, 1);
}

/* What stands at l->at in "...": its length; 0 where "${", the end of the string or that of the text is. */
static size_t take_plain(struct nixlex *l)
{
    const char *s = l->at;
    if (!*s || *s == '"' || (s[0] == '$' && s[1] == '{'))
        return 0;
    if (*s == '\\' && s[1]) {
        keep_escaped(l, s[1]);
        return 2;
    }
    /* Of "$${" the first dollar takes the second one along. */
    size_t n = s[0] == '$' && s[1] == '$' ? 2 : 1;
    keep(l, s, n);
    return n;
}

/* The same in two single quotes. */
static size_t take_indented(struct nixlex *l)
{
    const char *s = l->at;
    bool quotes = s[0] == '\'' && s[1] == '\'';
    if (quotes && (s[2] == '$' || s[2] == '\'')) {
        keep(l, s[2] == '$' ? "$" : "''", s[2] == '$' ? 1 : 2);
        return 3;
    }
    if (quotes && s[2] == '\\' && s[3]) {
        keep_escaped(l, s[3]);
        return 4;
    }
    if (!*s || quotes || (s[0] == '$' && s[1] == '{'))
        return 0;
    size_t n = s[0] == '$' && s[1] == '$' ? 2 : 1;
    keep(l, s, n);
    return n;
}

/* Of an indented string what is before and behind the only line that it can be used with. */
static void trim(struct nixlex *l)
{
    while (l->text.len && strchr(" \n", l->text.data[l->text.len - 1]))
        l->text.data[--l->text.len] = '\0';
    buf_drop(&l->text, strspn(buf_cstr(&l->text), " \n"));
}

/* Behind a string's beginning; inside: behind a part that is evaluated. */
static enum nix_token lex_string(struct nixlex *l, char quote, bool inside)
{
    buf_clear(&l->text);
    for (size_t n; (n = quote == '"' ? take_plain(l) : take_indented(l)); l->at += n)
        ;
    if (*l->at == '$') {
        l->at += 2;
        enum nix_token t = push(l, quote);
        return inside && t == NIX_OPEN ? NIX_OTHER : t;
    }
    if (!*l->at)
        return NIX_END;
    l->at += quote == '"' ? 1 : 2;
    if (inside)
        return NIX_CLOSE;
    if (quote != '"')
        trim(l);
    return NIX_STRING;
}

static enum nix_token close_bracket(struct nixlex *l)
{
    char c = *l->at++, opened = l->depth ? l->open[--l->depth] : '\0';
    if (c == '}' && (opened == '"' || opened == '\''))
        return lex_string(l, opened, true);
    bool fits = c == '}' ? opened == '{' || opened == '$' : opened == (c == ')' ? '(' : '[');
    return fits ? NIX_CLOSE : NIX_END;
}

/* ---- All of it ---- */

/* False: a comment that has no end. */
static bool skip_blank(struct nixlex *l)
{
    for (;;) {
        l->at += strspn(l->at, " \t\r\n");
        if (*l->at == '#') {
            l->at += strcspn(l->at, "\r\n");
        } else if (strncmp(l->at, "/*", 2) == 0) {
            const char *end = strstr(l->at + 2, "*/");
            if (!end)
                return false;
            l->at = end + 2;
        } else {
            return true;
        }
    }
}

/* The longest of what can begin here. */
static enum nix_token lex_word(struct nixlex *l)
{
    const char *s = l->at;
    size_t name = name_length(s), url = url_length(s), path = path_length(s);
    size_t n = MAX_OF(name, MAX_OF(url, path));
    if (!n)
        n = operator_length(s);
    buf_clear(&l->text);
    keep(l, s, n);
    l->at += n;
    if (n == name || n == url)
        return n == name ? NIX_NAME : NIX_STRING;
    return n > 1 ? NIX_OTHER : *s == '.' ? NIX_DOT : *s == '=' ? NIX_EQUALS : *s == ';' ? NIX_SEMICOLON : NIX_OTHER;
}

enum nix_token nixlex_next(struct nixlex *l)
{
    if (!skip_blank(l) || !*l->at)
        return NIX_END;
    if (strncmp(l->at, "''", 2) == 0) {
        l->at += 2;
        return lex_string(l, '\'', false);
    }
    if (*l->at == '"') {
        l->at++;
        return lex_string(l, '"', false);
    }
    if (strncmp(l->at, "${", 2) == 0) {
        l->at += 2;
        return push(l, '$');
    }
    if (strchr("{([", *l->at))
        return push(l, *l->at++);
    if (strchr("})]", *l->at))
        return close_bracket(l);
    return lex_word(l);
}

void nixlex_done(struct nixlex *l)
{
    buf_done(&l->text);
}
