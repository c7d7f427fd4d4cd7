/*
 * The way out for all text but the output of exec: whatever others wrote (guests, Nix, files, servers) is in it,
 * nothing reaches a terminal that it would obey (base/text.h).
 */
#include "base/text.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MVM_PRINTF(5, 0) int print(FILE *f, const char *before, const char *after, bool lines, const char *fmt,
                                  va_list ap)
{
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    if (n < 0)
        return -ENOMEM;
    size_t len = text_clean(text, (size_t)n, lines);
    fprintf(f, "%s%.*s%s", before, (int)len, text, after);
    free(text);
    return ferror(f) ? -EPIPE : 0;
}

int ui_out(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = print(stdout, "", "", true, fmt, ap);
    va_end(ap);
    return r;
}

int ui_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = print(stdout, "", "\n", false, fmt, ap);
    va_end(ap);
    return r;
}

void ui_colored(const char *color, const char *fmt, ...)
{
    bool colored = ui.color && isatty(STDOUT_FILENO);
    va_list ap;
    va_start(ap, fmt);
    (void)!print(stdout, colored ? color : "", colored ? "\033[0m" : "", false, fmt, ap);
    va_end(ap);
}

void ui_say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ui_clear();
    (void)!print(stderr, "mvmctl: ", "\n", false, fmt, ap);
    va_end(ap);
}

void ui_say_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ui_clear();
    (void)!print(stderr, ui.color ? "\033[31mmvmctl:\033[0m " : "mvmctl: ", "\n", false, fmt, ap);
    va_end(ap);
}

void ui_say_detail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)!print(stderr, "  | ", "\n", false, fmt, ap);
    va_end(ap);
}

/* ---- JSON ---- */

/* In JSON every character has an escape: nothing is lost but bytes that are no UTF-8, which JSON cannot hold. */
static void put_json(FILE *f, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c;
        n = text_next(text + i, len - i, &c);
        if (text_is_printable(c))
            fwrite(text + i, 1, n, f);
        else
            fprintf(f, "\\u%04x", c == TEXT_INVALID ? 0xfffd : c);
    }
}

static void print_object(FILE *f, json_object *o)
{
    put_json(f, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
}

void ui_print_json(json_object *o)
{
    (void)!ui_print_json_part("", o, "\n");
}

int ui_print_json_part(const char *before, json_object *o, const char *after)
{
    fputs(before, stdout);
    print_object(stdout, o);
    fputs(after, stdout);
    return ferror(stdout) ? -EPIPE : 0;
}

void ui_event(json_object *o)
{
    print_object(stderr, o);
    fputc('\n', stderr);
    fflush(stderr);
}
