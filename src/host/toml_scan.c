#include "host/toml_scan.h"
#include "base/buf.h"
#include "host/toml_date.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

int toml_fail(struct toml_scan *s, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return mvm_error_set(s->err, -EINVAL, "line %u: %s", s->line, text);
}

/* ---- Characters ---- */

/* The length of the UTF-8 sequence at p (Unicode 15, table 3-7: shortest form, no surrogates), 0 where it is none. */
static unsigned utf8_length(const uint8_t *p)
{
    if (p[0] < 0x80)
        return 1;
    unsigned n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    uint32_t c = p[0] & (0xffu >> (n + 1));
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) /* the NUL at the end is none either */
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

int toml_check_text(struct toml_scan *s)
{
    struct toml_scan at = *s;
    for (const uint8_t *p = (const uint8_t *)s->at; *p;) {
        unsigned n = utf8_length(p);
        if (n == 0)
            return toml_fail(&at, "the text is not UTF-8");
        if ((*p < 0x20 && *p != '\t' && *p != '\n' && !(*p == '\r' && p[1] == '\n')) || *p == 0x7f)
            return toml_fail(&at, "control character 0x%02x", *p);
        at.line += *p == '\n';
        p += n;
    }
    return 0;
}

static int append_utf8(struct buf *b, uint32_t c)
{
    uint8_t u[4];
    size_t n = 1;
    if (c < 0x80) {
        u[0] = (uint8_t)c;
    } else if (c < 0x800) {
        n = 2;
        u[0] = (uint8_t)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        n = 3;
        u[0] = (uint8_t)(0xe0 | c >> 12);
    } else {
        n = 4;
        u[0] = (uint8_t)(0xf0 | c >> 18);
    }
    for (size_t i = 1; i < n; i++)
        u[i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
    return buf_append(b, u, n);
}

/* ---- Space ---- */

void toml_skip_blanks(struct toml_scan *s)
{
    s->at += strspn(s->at, " \t");
}

static bool skip_line_end(struct toml_scan *s)
{
    if (s->at[0] == '\r' && s->at[1] == '\n')
        s->at++;
    if (*s->at != '\n')
        return false;
    s->at++;
    s->line++;
    return true;
}

static void skip_comment(struct toml_scan *s)
{
    toml_skip_blanks(s);
    if (*s->at == '#')
        s->at += strcspn(s->at, "\r\n");
}

void toml_skip_lines(struct toml_scan *s)
{
    do
        skip_comment(s);
    while (skip_line_end(s));
}

int toml_end_line(struct toml_scan *s)
{
    skip_comment(s);
    if (*s->at && !skip_line_end(s))
        return toml_fail(s, "unexpected '%.*s' where the line should end", (int)utf8_length((const uint8_t *)s->at),
                         s->at);
    return 0;
}

/* ---- Strings ---- */

static int append(struct toml_scan *s, struct buf *b, const char *p, size_t n)
{
    int r = buf_append(b, p, n);
    return r < 0 ? mvm_error_errno(s->err, r, "line %u", s->line) : 0;
}

/* \uXXXX, \UXXXXXXXX: digits hexadecimal digits at s->at. */
static int scan_unicode(struct toml_scan *s, unsigned digits, struct buf *b)
{
    uint32_t c = 0;
    if (strspn(s->at, DIGITS "abcdefABCDEF") < digits)
        return toml_fail(s, "an escape of %u hexadecimal digits has fewer", digits);
    for (unsigned i = 0; i < digits; i++, s->at++)
        c = c << 4 | (uint32_t)(*s->at <= '9' ? *s->at - '0' : (*s->at | 0x20) - 'a' + 10);
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return toml_fail(s, "escape of U+%04X, which is no character", c);
    int r = append_utf8(b, c);
    return r < 0 ? mvm_error_errno(s->err, r, "line %u", s->line) : 0;
}

static int scan_escape(struct toml_scan *s, bool multiline, struct buf *b)
{
    static const char names[] = "btnfr\"\\", meant[] = "\b\t\n\f\r\"\\";
    char c = *++s->at;
    const char *name = c ? strchr(names, c) : NULL;
    if (name) {
        s->at++;
        return append(s, b, &meant[name - names], 1);
    }
    if (c == 'u' || c == 'U') {
        s->at++;
        return scan_unicode(s, c == 'u' ? 4 : 8, b);
    }
    /* A backslash at the end of a line swallows all white space up to the next character. */
    size_t blanks = strspn(s->at, " \t\r");
    if (multiline && s->at[blanks] == '\n') {
        do
            toml_skip_blanks(s);
        while (skip_line_end(s));
        return 0;
    }
    return toml_fail(s, "unknown escape '\\%.*s'", c ? (int)utf8_length((const uint8_t *)s->at) : 0, s->at);
}

/* Up to the closing quote on the same line. */
static int scan_line_string(struct toml_scan *s, char quote, struct buf *b)
{
    const char *stop = quote == '"' ? "\"\\\r\n" : "'\r\n";
    for (s->at++;;) {
        size_t n = strcspn(s->at, stop);
        int r = append(s, b, s->at, n);
        if (r < 0)
            return r;
        s->at += n;
        if (*s->at == quote) {
            s->at++;
            return 0;
        }
        r = *s->at == '\\' ? scan_escape(s, false, b) : toml_fail(s, "a string lacks its closing quote");
        if (r < 0)
            return r;
    }
}

/* Up to three closing quotes; one or two more of them before those belong to the string. */
static int scan_long_string(struct toml_scan *s, char quote, struct buf *b)
{
    struct toml_scan opening = *s;
    const char *stop = quote == '"' ? "\"\\\n" : "'\n", quotes[] = {quote, '\0'};
    s->at += 3;
    skip_line_end(s);
    for (;;) {
        size_t n = strcspn(s->at, stop);
        size_t closing = strspn(s->at + n, quotes);
        int r = append(s, b, s->at, n + (closing >= 3 ? MIN_OF(closing, 5u) - 3 : closing));
        s->at += n + MIN_OF(closing, 5u);
        if (r < 0 || closing >= 3)
            return r;
        if (closing)
            continue;
        if (!*s->at)
            return toml_fail(&opening, "a string lacks its closing quotes");
        if (*s->at == '\\') {
            r = scan_escape(s, true, b);
        } else {
            r = append(s, b, "\n", 1);
            skip_line_end(s);
        }
        if (r < 0)
            return r;
    }
}

/* *ret is owned by the caller and has a NUL behind its *ret_len bytes. */
static int scan_string(struct toml_scan *s, bool may_be_long, char **ret, size_t *ret_len)
{
    CLEAN_BUF struct buf b = BUF_INIT(TOML_MAX_SIZE);
    const char quote = *s->at;
    bool is_long = may_be_long && s->at[1] == quote && s->at[2] == quote;
    int r = buf_reserve(&b, 1); /* an empty one is text, too */
    if (r < 0)
        return mvm_error_errno(s->err, r, "line %u", s->line);
    r = is_long ? scan_long_string(s, quote, &b) : scan_line_string(s, quote, &b);
    if (r < 0)
        return r;
    b.data[b.len] = '\0';
    *ret_len = b.len;
    *ret = (char *)TAKE_PTR(b.data);
    return 0;
}

int toml_scan_key(struct toml_scan *s, char **ret, bool *ret_last)
{
    CLEAN_FREE char *key = NULL;
    toml_skip_blanks(s);
    size_t n = strspn(s->at, LETTERS DIGITS "_-");
    if (*s->at == '"' || *s->at == '\'') {
        int r = scan_string(s, false, &key, &n);
        if (r < 0)
            return r;
        if (strlen(key) != n)
            return toml_fail(s, "a key has a NUL");
    } else {
        if (n == 0)
            return toml_fail(s, "a key is missing");
        key = strndup(s->at, n);
        if (!key)
            return mvm_error_errno(s->err, -ENOMEM, "line %u", s->line);
        s->at += n;
    }
    toml_skip_blanks(s);
    *ret_last = *s->at != '.';
    if (!*ret_last)
        s->at++;
    *ret = TAKE_PTR(key);
    return 0;
}

/* ---- Numbers ---- */

#define MAX_NUMBER 128 /* characters */

/* The word without underscores, each of which must stand between two digits of the set. */
static bool without_underscores(const char *word, size_t n, const char *digits, char out[static MAX_NUMBER])
{
    size_t len = 0;
    if (n >= MAX_NUMBER)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (word[i] != '_')
            out[len++] = word[i];
        else if (i == 0 || i + 1 == n || !strchr(digits, word[i - 1]) || !strchr(digits, word[i + 1]))
            return false;
    }
    out[len] = '\0';
    return true;
}

static int scan_based(struct toml_scan *s, const char *word, size_t n, struct toml_value *v)
{
    static const struct {
        char letter;
        int base;
        const char *digits;
    } bases[] = {{'x', 16, DIGITS "abcdefABCDEF"}, {'o', 8, "01234567"}, {'b', 2, "01"}};
    char text[MAX_NUMBER];
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
        if (word[1] != bases[i].letter)
            continue;
        if (!without_underscores(word + 2, n - 2, bases[i].digits, text) || !*text ||
            text[strspn(text, bases[i].digits)])
            break;
        errno = 0;
        v->integer = strtoll(text, NULL, bases[i].base);
        v->type = TOML_INTEGER;
        return errno ? toml_fail(s, "the integer does not fit 64 bits") : 0;
    }
    return toml_fail(s, "'%.*s' is no value", (int)MIN_OF(n, 60u), word);
}

/* Digits without a leading zero, then perhaps a fraction and an exponent: what kind of number, -1: none. */
static int decimal_type(const char *p)
{
    enum toml_type type = TOML_INTEGER;
    p += *p == '+' || *p == '-';
    size_t n = strspn(p, DIGITS);
    if (n == 0 || (n > 1 && *p == '0'))
        return -1;
    p += n;
    if (*p == '.') {
        type = TOML_FLOAT;
        n = strspn(++p, DIGITS);
        if (n == 0)
            return -1;
        p += n;
    }
    if (*p == 'e' || *p == 'E') {
        type = TOML_FLOAT;
        p++;
        p += *p == '+' || *p == '-';
        n = strspn(p, DIGITS);
        if (n == 0)
            return -1;
        p += n;
    }
    return *p ? -1 : (int)type;
}

static int scan_number(struct toml_scan *s, const char *word, size_t n, struct toml_value *v)
{
    char text[MAX_NUMBER];
    bool is_signed = *word == '+' || *word == '-';
    if (n > 2 && word[0] == '0' && strchr("xob", word[1]))
        return scan_based(s, word, n, v);
    if (n - is_signed == 3 && (strncmp(word + is_signed, "inf", 3) == 0 || strncmp(word + is_signed, "nan", 3) == 0)) {
        v->type = TOML_FLOAT;
        v->number = copysign(word[is_signed] == 'i' ? INFINITY : NAN, *word == '-' ? -1 : 1);
        return 0;
    }
    int type = without_underscores(word, n, DIGITS, text) ? decimal_type(text) : -1;
    if (type < 0)
        return toml_fail(s, "'%.*s' is no value", (int)MIN_OF(n, 60u), word);
    v->type = (enum toml_type)type;
    errno = 0;
    if (type == TOML_FLOAT)
        v->number = strtod(text, NULL);
    else
        v->integer = strtoll(text, NULL, 10);
    return errno && type == TOML_INTEGER ? toml_fail(s, "the integer does not fit 64 bits") : 0;
}

static int scan_datetime(struct toml_scan *s, struct toml_value *v)
{
    size_t n = toml_date_length(s->at);
    if (n == 0)
        return toml_fail(s, "'%.*s' is no date or time", (int)strcspn(s->at, " \t\r\n,]}#"), s->at);
    v->string.text = strndup(s->at, n);
    if (!v->string.text)
        return mvm_error_errno(s->err, -ENOMEM, "line %u", s->line);
    v->string.len = n;
    v->type = TOML_DATETIME;
    s->at += n;
    return 0;
}

int toml_scan_scalar(struct toml_scan *s, struct toml_value *v)
{
    if (*s->at == '"' || *s->at == '\'') {
        v->type = TOML_STRING;
        return scan_string(s, true, &v->string.text, &v->string.len);
    }
    size_t n = strcspn(s->at, " \t\r\n,]}#"), digits = strspn(s->at, DIGITS);
    if ((digits == 4 && s->at[4] == '-') || (digits == 2 && s->at[2] == ':'))
        return scan_datetime(s, v);
    const char *word = s->at;
    if (n == 0)
        return toml_fail(s, "a value is missing");
    s->at += n;
    if ((n == 4 && strncmp(word, "true", 4) == 0) || (n == 5 && strncmp(word, "false", 5) == 0)) {
        v->type = TOML_BOOL;
        v->boolean = *word == 't';
        return 0;
    }
    return scan_number(s, word, n, v);
}
