#include "guest/servicelog.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/macros.h"
#include "wire/msg.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_CAP (1u << 20)
#define MAX_LINE 950 /* of MSG_LOG's text, which begins with the name */
/* Of all services together, half of what the host takes from a guest (docs/protocol.md, "What frames cost"), in the
 * same units. */
#define LINE_RATE  5000
#define LINE_BURST 10000
#define LINE_BYTES 512 /* so many more are another line's worth */

static void open_file(struct servicelog *l, int flags)
{
    char path[128];
    snprintf(path, sizeof(path), "/run/mvm/log/%s.log", l->name);
    l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0644);
    l->size = 0;
}

void servicelog_open(struct servicelog *l, const char *name, size_t services, void (*say)(void *data, const char *line),
                     void *data)
{
    uint64_t n = MAX_OF(services, (size_t)1);
    *l = (struct servicelog){.name = name, .fd = -1, .line = BUF_INIT(MAX_LINE), .say = say, .data = data};
    bucket_init(&l->share, MAX_OF(LINE_RATE / n, (uint64_t)1), MAX_OF(LINE_BURST / n, (uint64_t)1), clock_now());
    open_file(l, 0);
}

static void keep(struct servicelog *l, const void *p, size_t n)
{
    if (l->size + n > FILE_CAP) {
        char path[128], old[136];
        snprintf(path, sizeof(path), "/run/mvm/log/%s.log", l->name);
        snprintf(old, sizeof(old), "%s.1", path);
        rename(path, old);
        fd_closep(&l->fd);
        open_file(l, O_TRUNC);
    }
    if (l->fd >= 0 && fd_write_all(l->fd, p, n) == 0)
        l->size += n;
}

void servicelog_say(const struct servicelog *l, const char *text)
{
    char line[sizeof(((struct msg_log *)0)->text)];
    snprintf(line, sizeof(line), "%s: %s", l->name, text);
    l->say(l->data, line);
}

void servicelog_end(struct servicelog *l)
{
    if (l->line.len == 0)
        return;
    if (bucket_take(&l->share, 1 + l->line.len / LINE_BYTES, clock_now()))
        servicelog_say(l, buf_cstr(&l->line));
    else
        l->left_out++;
    buf_clear(&l->line);
}

void servicelog_take(struct servicelog *l, const char *p, size_t n)
{
    keep(l, p, n);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || l->line.len == MAX_LINE)
            servicelog_end(l);
        if (p[i] != '\n' && p[i])
            (void)!buf_append(&l->line, &p[i], 1);
    }
}

void servicelog_settle(struct servicelog *l)
{
    char text[128];
    if (l->left_out == 0)
        return;
    snprintf(text, sizeof(text), "%llu lines left out: it prints more than %llu a second",
             (unsigned long long)l->left_out, (unsigned long long)l->share.rate);
    l->left_out = 0;
    servicelog_say(l, text);
}
