/* Any lines as Nix's log: what is passed on can be shown, counts stay within what they count. */
#include "fuzz.h"

#include "base/text.h"
#include "buildlog/nixlog.h"

#include <string.h>

static void check_text(const char *s)
{
    for (size_t at = 0, n = strlen(s); at < n;) {
        uint32_t c;
        at += text_next(s + at, n - at, &c);
        MUST(text_is_printable(c) || c == '\n' || c == '\t');
    }
}

static void on_building(void *data, const char *tag, const char *derivation)
{
    check_text(tag);
    check_text(derivation);
}

static void on_line(void *data, const char *tag, const char *text)
{
    check_text(tag);
    check_text(text);
}

static void on_message(void *data, const char *text)
{
    check_text(text);
}

static void on_changed(void *data)
{
    struct progress_build b = nixlog_counts(data);
    MUST(b.built <= b.to_build && b.copied <= b.to_copy && b.fetched <= b.to_fetch);
    check_text(b.current);
}

static void check_failure(const struct nix_errors *f)
{
    MUST(f->kind < NIX_ERROR_KINDS);
    check_text(f->derivation);
    check_text(f->url);
    check_text(f->why);
    check_text(f->specified);
    check_text(f->got);
    for (int i = 0; i < NIX_ERROR_NAMES; i++)
        check_text(f->names[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct nixlog_ops ops = {on_building, on_line, on_message, on_changed};
    static struct nixlog l;
    l = (struct nixlog){.ops = &ops, .data = &l};
    while (size) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) : size;
        if (n == 0)
            nixlog_step(&l);
        char *line = malloc(n ? n : 1);
        MUST(line);
        memcpy(line, data, n);
        nixlog_line(&l, line, n);
        free(line);
        check_failure(&l.failure);
        size -= end ? n + 1 : n;
        data += end ? n + 1 : n;
    }
    on_changed(&l);
    return 0;
}
