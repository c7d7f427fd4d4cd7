#include "supervisor/lastwords.h"
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

static bool contains(struct line l, const char *what)
{
    return memmem(l.text, l.len, what, strlen(what)) != NULL;
}

/* Puts more behind what is in out. */
static void put(char *out, size_t size, const char *text, size_t len)
{
    size_t at = strlen(out), n = MIN_OF(len, size - 1 - at);
    for (size_t i = 0; i < n; i++)
        out[at + i] = is_printable(text[i]) ? text[i] : ' ';
    out[at + n] = '\0';
}

void lastwords_telling(const struct lastwords *w, char *out, size_t size)
{
    /* Linux, arch/x86/kernel/dumpstack.c and kernel/panic.c: what happened ("int3: 0000 [#1] SMP"), where, registers
     * and stack, and at last that it is the end. */
    struct line found = {0}, first = {0}, place = {0};
    bool panic = false;
    for (const char *p = w->text, *end = w->text + w->len; p < end && !panic;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct line l = strip((struct line){p, (size_t)((nl ? nl : end) - p)});
        if (l.len)
            found = l;
        if (!first.len && (contains(l, "BUG: ") || contains(l, " [#1]")))
            first = l;
        if (!place.len && contains(l, "RIP: "))
            place = l;
        panic = contains(l, "Kernel panic");
        p = nl ? nl + 1 : end;
    }
    out[0] = '\0';
    put(out, size, found.text, found.len);
    if (!panic || !first.len)
        return;
    put(out, size, " (", 2);
    put(out, size, first.text, first.len);
    put(out, size, ", ", place.len ? 2 : 0);
    put(out, size, place.text, place.len);
    put(out, size, ")", 1);
}
