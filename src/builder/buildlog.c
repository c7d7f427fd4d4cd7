#include "builder/buildlog.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Nix's internal-json lines are "@nix {...}". Source of the numbers: Nix, src/libutil/logging.hh. */
#define ACTIVITY_BUILD  105
#define RESULT_LOG_LINE 101
#define RESULT_PROGRESS 105
#define LEVEL_ERROR     0
#define LEVEL_WARN      1

#define LOG_FOLDER "logs"
#define MAX_FILE   (64u << 20)
#define MAX_LINE   4000

/* ---- Where lines go ---- */

/* Removes terminal sequences ("\033[31m"), in place. */
static void strip_colors(char *line)
{
    char *to = line;
    for (const char *from = line; *from; from++) {
        if (from[0] == '\033' && from[1] == '[') {
            from += 2 + strspn(from + 2, "0123456789;");
            if (!*from)
                break;
            continue;
        }
        *to++ = *from;
    }
    *to = '\0';
}

static void keep_tail(struct buildlog *l, const char *line, size_t n)
{
    while (l->tail.len && l->tail.len + n + 1 > l->tail.max) {
        const uint8_t *nl = memchr(l->tail.data, '\n', l->tail.len);
        buf_drop(&l->tail, nl ? (size_t)(nl + 1 - l->tail.data) : l->tail.len);
    }
    if (n + 1 <= l->tail.max && buf_append(&l->tail, line, n) == 0)
        (void)!buf_append(&l->tail, "\n", 1);
}

static void write_file(struct buildlog *l, const char *line, size_t n)
{
    if (l->fd < 0 || l->written + n + 1 > MAX_FILE)
        return;
    struct iovec iov[2] = {{(void *)(uintptr_t)line, n}, {(void *)(uintptr_t) "\n", 1}};
    if (writev(l->fd, iov, 2) < 0)
        fd_closep(&l->fd); /* a full disk: the build itself may still succeed */
    l->written += n + 1;
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
    strip_colors(line);
    size_t n = strlen(line);
    write_file(l, line, n);
    keep_tail(l, line, n);
    progress_verbose(l->progress, "%s", line);
}

/* A text of several lines. */
static void say_lines(struct buildlog *l, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        say(l, "%.*s", (int)MIN_OF(n, (size_t)MAX_LINE), text);
        text += n + (text[n] == '\n');
    }
}

/* ---- Nix's events ---- */

/* "/nix/store/<32 characters>-hello-image.drv" is "hello-image" to people. */
static void short_name(const char *text, char *out, size_t size)
{
    const char *store = strstr(text, "/nix/store/");
    const char *name = store && strlen(store) > 44 ? store + 44 : text;
    size_t n = strcspn(name, "'\" ");
    if (n > 4 && strncmp(name + n - 4, ".drv", 4) == 0)
        n -= 4;
    snprintf(out, size, "%.*s", (int)MIN_OF(n, size - 1), name);
}

static void show(struct buildlog *l)
{
    progress_detail(l->progress, "%u of %u built%s%s", l->done, MAX_OF(l->expected, l->done),
                    l->n_building ? ", building " : "", l->n_building ? l->building[l->n_building - 1].name : "");
}

static void on_start(struct buildlog *l, json_object *o, int64_t id, int64_t type)
{
    const char *text = "";
    if (type != ACTIVITY_BUILD || l->n_building == ARRAY_SIZE(l->building))
        return;
    (void)!json_get_string(o, "text", &text, NULL);
    struct buildlog_build *b = &l->building[l->n_building++];
    b->id = id;
    short_name(text, b->name, sizeof(b->name));
    say(l, "building %s", b->name);
    show(l);
}

static void on_stop(struct buildlog *l, int64_t id)
{
    for (unsigned i = 0; i < l->n_building; i++) {
        if (l->building[i].id != id)
            continue;
        l->building[i] = l->building[--l->n_building];
        l->done++;
        show(l);
        return;
    }
}

static const char *name_of(const struct buildlog *l, int64_t id)
{
    for (unsigned i = 0; i < l->n_building; i++)
        if (l->building[i].id == id)
            return l->building[i].name;
    return "";
}

static void on_result(struct buildlog *l, json_object *o, int64_t id, int64_t type)
{
    json_object *fields;
    if (json_get_array(o, "fields", &fields, NULL) < 0 || json_object_array_length(fields) == 0)
        return;
    if (type == RESULT_LOG_LINE) {
        const char *line = json_object_get_string(json_object_array_get_idx(fields, 0));
        say(l, "%s> %s", name_of(l, id), line ? line : "");
    } else if (type == RESULT_PROGRESS && json_object_array_length(fields) >= 2) {
        int64_t expected = json_object_get_int64(json_object_array_get_idx(fields, 1));
        if (expected > 0 && expected < 1000000 && l->n_building)
            l->expected = MAX_OF(l->expected, (unsigned)expected);
    }
}

/* Nix repeats the builder's last lines in its error; in the error that the user sees they are there already. */
static void on_error(struct buildlog *l, char *text)
{
    strip_colors(text);
    char *more = strstr(text, ";\n");
    CLEAN_FREE char *head = more ? strndup(text, (size_t)(more - text)) : NULL;
    say_lines(l, head ? head : text);
}

static void on_line(struct buildlog *l, const char *line, size_t len)
{
    static const char prefix[] = "@nix ";
    CLEAN_JSON json_object *o = NULL;
    const char *action, *msg;
    int64_t id = 0, type = 0, level = 0;
    if (len < sizeof(prefix) || strncmp(line, prefix, sizeof(prefix) - 1) != 0) {
        say(l, "%.*s", (int)len, line);
        return;
    }
    if (json_parse(line + 5, len - 5, &o, NULL) < 0 || json_get_string(o, "action", &action, NULL) < 0)
        return;
    (void)!json_get_int(o, "id", &id, NULL);
    (void)!json_get_int(o, "type", &type, NULL);
    (void)!json_get_int(o, "level", &level, NULL);
    if (strcmp(action, "start") == 0) {
        on_start(l, o, id, type);
    } else if (strcmp(action, "stop") == 0) {
        on_stop(l, id);
    } else if (strcmp(action, "result") == 0) {
        on_result(l, o, id, type);
    } else if (strcmp(action, "msg") == 0 && level <= LEVEL_WARN && json_get_string(o, "msg", &msg, NULL) == 0) {
        CLEAN_FREE char *text = strdup(msg);
        if (text && level == LEVEL_ERROR)
            on_error(l, text);
        else if (text)
            say_lines(l, text);
    }
}

void buildlog_lines(struct buildlog *l, const char *lines, size_t len)
{
    while (len) {
        const char *nl = memchr(lines, '\n', len);
        size_t n = nl ? (size_t)(nl - lines) : len;
        on_line(l, lines, MIN_OF(n, (size_t)INT32_MAX));
        n += nl != NULL;
        lines += n;
        len -= n;
    }
}

void buildlog_step(struct buildlog *l)
{
    buf_clear(&l->tail);
}

/* ---- The file ---- */

/* The oldest logs go. */
static void sweep(int dirfd)
{
    for (;;) {
        int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        if (!d)
            return;
        unsigned n = 0;
        char oldest[300] = "";
        struct timespec oldest_at = {0};
        for (struct dirent *e; (e = readdir(d));) {
            struct stat st;
            if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                continue;
            bool older = st.st_mtim.tv_sec < oldest_at.tv_sec ||
                         (st.st_mtim.tv_sec == oldest_at.tv_sec && st.st_mtim.tv_nsec < oldest_at.tv_nsec);
            if (n++ == 0 || older) {
                snprintf(oldest, sizeof(oldest), "%s", e->d_name);
                oldest_at = st.st_mtim;
            }
        }
        closedir(d);
        if (n <= BUILDLOG_KEEP || unlinkat(dirfd, oldest, 0) < 0)
            return;
    }
}

int buildlog_open(struct buildlog *l, struct home *h, const char *id, struct progress *p, struct mvm_error *err)
{
    l->progress = p;
    char name[80];
    snprintf(name, sizeof(name), "%.16s.log", id);
    CLEAN_FD int dir = path_open_dir(h->cache_fd, LOG_FOLDER, err);
    if (dir < 0)
        return dir;
    l->fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->fd < 0)
        return mvm_error_errno(err, -errno, "cannot write the build's log");
    sweep(dir);
    l->path = path_join(h->cache, LOG_FOLDER, name, NULL);
    return l->path ? 0 : mvm_error_errno(err, -ENOMEM, "log");
}

void buildlog_done(struct buildlog *l)
{
    fd_closep(&l->fd);
    buf_done(&l->tail);
    free(l->path);
    l->path = NULL;
}
