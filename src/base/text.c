#include "base/text.h"
#include "base/macros.h"

#include <string.h>

/* A sequence's length by its first byte, and the least character that needs so many (RFC 3629, section 3). */
static const struct {
    unsigned char mask, lead;
    uint32_t least;
} sequences[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

size_t text_next(const char *s, size_t len, uint32_t *ret_char)
{
    unsigned char first = (unsigned char)s[0];
    size_t extra = 0;
    *ret_char = TEXT_INVALID;
    while (extra < ARRAY_SIZE(sequences) && (first & sequences[extra].mask) != sequences[extra].lead)
        extra++;
    if (extra == ARRAY_SIZE(sequences) || extra >= len)
        return 1;
    uint32_t c = first & (unsigned char)~sequences[extra].mask;
    for (size_t i = 1; i <= extra; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    }
    if (c < sequences[extra].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 1;
    *ret_char = c;
    return extra + 1;
}

bool text_is_printable(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7f && c <= 0x9f);
    bool reorders = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    return c != TEXT_INVALID && !control && !reorders;
}

size_t text_clean(char *text, size_t len, bool lines)
{
    size_t out = 0;
    for (size_t in = 0; in < len;) {
        uint32_t c;
        size_t n = text_next(text + in, len - in, &c);
        if (text_is_printable(c) || (lines && (c == '\n' || c == '\t'))) {
            memmove(text + out, text + in, n);
            out += n;
        } else if (!(lines && c == '\r' && (in + 1 == len || text[in + 1] == '\n'))) {
            text[out++] = c == '\n' || c == '\t' || c == '\r' ? ' ' : '?';
        }
        in += n;
    }
    return out;
}

void text_one_line(char *s)
{
    s[text_clean(s, strlen(s), false)] = '\0';
}

size_t text_cut(const char *s, size_t len, size_t max)
{
    size_t n = max;
    if (len <= max)
        return len;
    while (n && max - n < ARRAY_SIZE(sequences) && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return n;
}

void text_drop_colors(char *s)
{
    char *to = s;
    for (const char *from = s; *from;) {
        size_t n = from[0] == '\033' && from[1] == '[' ? 2 + strspn(from + 2, "0123456789;:") : 0;
        if (n && ((from[n] >= 'A' && from[n] <= 'Z') || (from[n] >= 'a' && from[n] <= 'z')))
            from += n + 1;
        else
            *to++ = *from++;
    }
    *to = '\0';
}
