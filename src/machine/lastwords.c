#include "machine/lastwords.h"
#include "base/macros.h"

#include <stdbool.h>
#include <string.h>

void lastwords_add(struct lastwords *w, const void *p, size_t n)
{
    const char *text = p;
    if (n > sizeof(w->text)) {
        text += n - sizeof(w->text);
        n = sizeof(w->text);
    }
    size_t kept = MIN_OF(w->len, sizeof(w->text) - n);
    memmove(w->text, w->text + w->len - kept, kept);
    memcpy(w->text + kept, text, n);
    w->len = kept + n;
}

struct line {
    const char *text;
    size_t len;
};

static bool is_printable(char c)
{
    return (unsigned char)c > 0x20 && c != 0x7f;
}

/* Without what surrounds it: blanks, a carriage return, "[    1.234567] ". */
static struct line strip(struct line l)
{
    static const char stamp[] = "[ 0123456789.";
    size_t n = 0;
    while (n < l.len && strchr(stamp, l.text[n]))
        n++;
    if (n && n < l.len && l.text[0] == '[' && l.text[n] == ']')
        l = (struct line){l.text + n + 1, l.len - n - 1};
    while (l.len && !is_printable(l.text[0]))
        l = (struct line){l.text + 1, l.len - 1};
    while (l.len && !is_printable(l.text[l.len - 1]))
        l.len--;
    return l;
}

void lastwords_telling(const struct lastwords *w, char *out, size_t size)
{
    /* Linux, kernel/panic.c: what follows are registers and stack. */
    static const char panic[] = "Kernel panic";
    struct line found = {0};
    for (const char *p = w->text, *end = w->text + w->len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct line l = strip((struct line){p, (size_t)((nl ? nl : end) - p)});
        if (l.len)
            found = l;
        if (memmem(l.text, l.len, panic, sizeof(panic) - 1))
            break;
        p = nl ? nl + 1 : end;
    }
    size_t n = MIN_OF(found.len, size - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = is_printable(found.text[i]) ? found.text[i] : ' ';
    out[n] = '\0';
}
