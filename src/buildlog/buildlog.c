#include "buildlog/buildlog.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILE   (64u << 20)
#define MAX_LINE   4000
#define BUILDING   "building "
#define SHOW_EVERY (100 * 1000000ull) /* ns between two tellings of bytes alone */

/* ---- Where lines go ---- */

static void keep_tail(struct buildlog *l, const char *line, size_t n)
{
    while (l->tail.len && l->tail.len + n + 1 > l->tail.max) {
        const uint8_t *nl = memchr(l->tail.data, '\n', l->tail.len);
        buf_drop(&l->tail, nl ? (size_t)(nl + 1 - l->tail.data) : l->tail.len);
    }
    if (n + 1 <= l->tail.max && buf_append(&l->tail, line, n) == 0)
        (void)!buf_append(&l->tail, "\n", 1);
}

static void write_line(struct buildlog *l, const char *line, size_t n)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)line, n}, {(void *)(uintptr_t) "\n", 1}};
    if (l->fd >= 0 && writev(l->fd, iov, 2) < 0)
        fd_closep(&l->fd); /* a full disk: the build itself may still succeed */
    l->written += n + 1;
}

static void keep_line(struct buildlog *l, const char *line, size_t n)
{
    if (l->written + n + 1 > MAX_FILE)
        l->left_out++;
    else
        write_line(l, line, n);
}

/* One line of text, to everybody. */
static void say(struct buildlog *l, const char *fmt, ...) MVM_PRINTF(2, 3);
static void say(struct buildlog *l, const char *fmt, ...)
{
    char line[MAX_LINE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    size_t n = strlen(line);
    keep_line(l, line, n);
    keep_tail(l, line, n);
    progress_verbose(l->progress, "%s", line);
}

/* ---- What Nix's log tells ---- */

static void on_building(void *data, const char *tag, const char *derivation)
{
    say(data, BUILDING "%s: %s", tag, derivation);
}

static void on_line(void *data, const char *tag, const char *text)
{
    say(data, "%s> %s", tag, text);
}

static void on_message(void *data, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        say(data, "%.*s", (int)MIN_OF(n, (size_t)MAX_LINE), text);
        text += n + (text[n] == '\n');
    }
}

/* Bytes change often and are told now and then; the rest at once. */
static void on_changed(void *data)
{
    struct buildlog *l = data;
    struct progress_build b = nixlog_counts(&l->nix);
    uint64_t now = clock_now();
    bool same = b.built == l->shown.built && b.to_build == l->shown.to_build && b.copied == l->shown.copied &&
                b.to_copy == l->shown.to_copy && strcmp(b.current, l->shown_current) == 0;
    if (same && now - l->shown_at < SHOW_EVERY)
        return;
    l->shown = b;
    l->shown_at = now;
    snprintf(l->shown_current, sizeof(l->shown_current), "%s", b.current);
    progress_build(l->progress, &b);
}

static const struct nixlog_ops nix_ops = {
    .building = on_building, .line = on_line, .message = on_message, .changed = on_changed};

static void take_line(struct buildlog *l, const char *line, size_t n)
{
    char text[MAX_LINE];
    if (nixlog_line(&l->nix, line, n))
        return;
    snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(n, (size_t)MAX_LINE), line);
    nixlog_plain(text);
    say(l, "%s", text);
}

void buildlog_lines(struct buildlog *l, const char *lines, size_t len)
{
    l->nix.ops = &nix_ops;
    l->nix.data = l;
    while (len) {
        const char *nl = memchr(lines, '\n', len);
        size_t n = nl ? (size_t)(nl - lines) : len;
        take_line(l, lines, MIN_OF(n, (size_t)INT32_MAX));
        n += nl != NULL;
        lines += n;
        len -= n;
    }
}

void buildlog_step(struct buildlog *l)
{
    buf_clear(&l->tail);
    nixlog_step(&l->nix);
}

/* ---- The file ---- */

int buildlog_open(struct buildlog *l, struct home *h, const char *ref, const char *attr, const char *fingerprint,
                  struct progress *p, struct mvm_error *err)
{
    l->progress = p;
    snprintf(l->entry.ref, sizeof(l->entry.ref), "%s", ref);
    snprintf(l->entry.attr, sizeof(l->entry.attr), "%s", attr);
    int fd = build_history_begin(h, &l->entry, fingerprint, err);
    if (fd < 0)
        return fd;
    l->fd = fd;
    return 0;
}

void buildlog_finish(struct buildlog *l, struct home *h, const struct mvm_error *why)
{
    if (l->fd < 0 || !l->entry.id[0])
        return;
    if (l->left_out) { /* the end is what tells most */
        char note[80];
        int n =
            snprintf(note, sizeof(note), "[%llu lines were left out; the last ones:]", (unsigned long long)l->left_out);
        write_line(l, note, (size_t)n);
        write_line(l, buf_cstr(&l->tail), l->tail.len);
    }
    fd_closep(&l->fd);
    build_history_finish(h, &l->entry, why);
}

void buildlog_done(struct buildlog *l)
{
    fd_closep(&l->fd);
    buf_done(&l->tail);
}

/* ---- One derivation of it ---- */

/* "building TAG: PATH": true where that is the derivation, with its tag. */
static bool begins(char *line, const char *derivation, char *tag, size_t size)
{
    char name[96];
    char *path = strstr(line, ": /nix/store/");
    if (strncmp(line, BUILDING, sizeof(BUILDING) - 1) != 0 || !path)
        return false;
    path += 2;
    nix_errors_short_name(path, name, sizeof(name));
    const char *base = strrchr(path, '/') + 1;
    if (strcmp(path, derivation) != 0 && strcmp(base, derivation) != 0 && strcmp(name, derivation) != 0)
        return false;
    snprintf(tag, size, "%.*s> ", (int)(path - 2 - (line + sizeof(BUILDING) - 1)), line + sizeof(BUILDING) - 1);
    return true;
}

int buildlog_extract(int fd, const char *derivation, int (*out)(void *data, const char *line, size_t n), void *data,
                     struct mvm_error *err)
{
    char tag[128] = "";
    CLEAN_FREE char *line = NULL;
    size_t cap = 0;
    int copy = dup(fd), r = 0;
    FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
    if (!f) {
        fd_closep(&copy);
        return mvm_error_errno(err, -errno, "cannot read the log");
    }
    for (ssize_t n; r >= 0 && (n = getline(&line, &cap, f)) > 0;) {
        line[strcspn(line, "\n")] = '\0';
        size_t skip = strlen(tag);
        if (skip == 0)
            (void)begins(line, derivation, tag, sizeof(tag));
        else if (strncmp(line, tag, skip) == 0)
            r = out(data, line + skip, strlen(line + skip));
    }
    fclose(f);
    return r < 0 ? r : tag[0] != '\0';
}
