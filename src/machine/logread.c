#include "machine/logread.h"
#include "base/fd.h"
#include "vmdir/vmdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {
    [LOGREAD_CONSOLE] = VMDIR_CONSOLE, [LOGREAD_AGENT] = VMDIR_AGENT, [LOGREAD_VMM] = VMDIR_VMM};
_Static_assert(ARRAY_SIZE(names) == LOGREAD_LOGS, "every log has a file");

const char *logread_name(enum logread_log log)
{
    static const char *const words[] = {
        [LOGREAD_CONSOLE] = "console", [LOGREAD_AGENT] = "agent", [LOGREAD_VMM] = "vmm"};
    _Static_assert(ARRAY_SIZE(words) == LOGREAD_LOGS, "every log has a name");
    return words[log];
}

/* ---- Files ---- */

static int open_one(int dirfd, const char *name, const char *suffix)
{
    char file[64];
    snprintf(file, sizeof(file), "%s%s", name, suffix);
    return openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static void open_pair(struct logread_source *s, unsigned which, int dirfd, const char *name, const char *suffix)
{
    struct stat st;
    char times[64];
    logfile_times_name(name, suffix, times);
    fd_closep(&s->fds[which]);
    fd_closep(&s->times[which]);
    s->fds[which] = open_one(dirfd, name, suffix);
    s->times[which] = open_one(dirfd, times, "");
    s->ends[which] = s->fds[which] >= 0 && fstat(s->fds[which], &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void begin_file(struct logread_source *s, unsigned which)
{
    s->now = which;
    s->offset = s->times_offset = 0;
    s->have_next = false;
    s->begin = s->len = 0;
    s->skip_break = false;
}

static ino_t inode_of(int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static ino_t inode_named(int dirfd, const char *name, const char *suffix)
{
    CLEAN_FD int fd = open_one(dirfd, name, suffix);
    return inode_of(fd);
}

/* The file that was read to its end has been rotated away: the one after it. */
static bool next_file(struct logread *l, enum logread_log log)
{
    struct logread_source *s = &l->sources[log];
    ino_t mine = inode_of(s->fds[1]), newest = inode_named(l->dirfd, names[log], "");
    if (newest == 0 || newest == mine)
        return false;
    /* Where there were two rotations since, the file between them is NAME.1. */
    bool between = mine && inode_named(l->dirfd, names[log], ".1") != mine;
    open_pair(s, 1, l->dirfd, names[log], between ? ".1" : "");
    begin_file(s, 1);
    return s->fds[1] >= 0;
}

void logread_open(struct logread *l, int dirfd, bool whole)
{
    *l = (struct logread){.dirfd = dirfd, .whole = whole};
    for (unsigned i = 0; i < LOGREAD_LOGS; i++) {
        struct logread_source *s = &l->sources[i];
        s->fds[0] = s->fds[1] = s->times[0] = s->times[1] = -1;
        open_pair(s, 1, dirfd, names[i], "");
        open_pair(s, 0, dirfd, names[i], ".1");
        if (s->fds[0] >= 0 && inode_of(s->fds[0]) == inode_of(s->fds[1])) /* rotated between the two */
            open_pair(s, 1, dirfd, names[i], "");
    }
    logread_rewind(l);
}

void logread_done(struct logread *l)
{
    if (l->dirfd < 0)
        return;
    for (unsigned i = 0; i < LOGREAD_LOGS; i++) {
        for (unsigned k = 0; k < 2; k++) {
            fd_closep(&l->sources[i].fds[k]);
            fd_closep(&l->sources[i].times[k]);
        }
    }
}

void logread_rewind(struct logread *l)
{
    for (unsigned i = 0; i < LOGREAD_LOGS; i++) {
        begin_file(&l->sources[i], 0);
        l->sources[i].have_line = l->sources[i].given = false;
        l->sources[i].at = 0;
    }
}

void logread_follow(struct logread *l)
{
    l->follow = true;
}

void logread_end(struct logread *l)
{
    l->follow = l->whole = false;
    for (unsigned i = 0; i < LOGREAD_LOGS; i++)
        l->sources[i].ends[1] = UINT64_MAX;
}

/* ---- Lines ---- */

/* The time of what begins at this place: that of the last record which is not behind it. */
static void look_up_time(struct logread_source *s, uint64_t place)
{
    for (;;) {
        if (!s->have_next) {
            int fd = s->times[s->now];
            if (fd < 0 || pread(fd, &s->next, sizeof(s->next), (off_t)s->times_offset) != (ssize_t)sizeof(s->next))
                return;
            s->times_offset += sizeof(s->next);
            s->have_next = true;
        }
        if (s->next.offset > place)
            return;
        s->at = s->next.at;
        s->have_next = false;
    }
}

/* More of the file that is read. False at its end. */
static bool fill(struct logread *l, struct logread_source *s)
{
    bool open_end = s->now == 1 && l->follow;
    size_t room = sizeof(s->text) - s->begin - s->len;
    if (s->begin && room < LOGREAD_LINE) {
        memmove(s->text, s->text + s->begin, s->len);
        s->begin = 0;
        room = sizeof(s->text) - s->len;
    }
    if (!open_end)
        room = s->offset < s->ends[s->now] ? MIN_OF((uint64_t)room, s->ends[s->now] - s->offset) : 0;
    ssize_t n =
        s->fds[s->now] >= 0 && room ? pread(s->fds[s->now], s->text + s->begin + s->len, room, (off_t)s->offset) : 0;
    if (n <= 0)
        return false;
    s->offset += (uint64_t)n;
    s->len += (size_t)n;
    return true;
}

static void take_line(struct logread_source *s, size_t n, bool whole)
{
    look_up_time(s, s->offset - s->len);
    s->line_len = n;
    s->skip_break = whole;
    s->have_line = true;
}

static void drop_line(struct logread_source *s)
{
    size_t n = s->line_len + s->skip_break;
    s->begin += n;
    s->len -= n;
    s->line_len = 0;
    s->have_line = false;
}

/* A kernel that can drive PCI complains about a machine without any, which ours are on purpose (pci_arch_init in
 * Linux's arch/x86/pci/init.c; no parameter silences it): "[    0.123456] PCI: Fatal: ...". */
static bool is_expected(enum logread_log log, const char *text, size_t len)
{
    static const char complaint[] = "] PCI: Fatal: No config space access function found";
    size_t n = sizeof(complaint) - 1;
    len -= len && text[len - 1] == '\r';
    return log == LOGREAD_CONSOLE && len > n && text[0] == '[' && memcmp(text + len - n, complaint, n) == 0;
}

/* Has the source's next line ready, where there is one. */
static bool prepare_any(struct logread *l, enum logread_log log)
{
    struct logread_source *s = &l->sources[log];
    while (!s->have_line) {
        const char *nl = memchr(s->text + s->begin, '\n', s->len);
        if (nl || s->len >= LOGREAD_LINE) {
            size_t n = nl ? (size_t)(nl - (s->text + s->begin)) : LOGREAD_LINE;
            take_line(s, MIN_OF(n, (size_t)LOGREAD_LINE), nl && n <= LOGREAD_LINE);
            return true;
        }
        if (fill(l, s))
            continue;
        bool rotated = s->now == 0 || (l->follow && inode_named(l->dirfd, names[log], "") != inode_of(s->fds[1]));
        if (s->len && (rotated || !l->whole))
            take_line(s, s->len, false);
        else if (s->now == 0)
            begin_file(s, 1);
        else if (!l->follow || !next_file(l, log))
            return false;
    }
    return true;
}

static bool prepare(struct logread *l, enum logread_log log)
{
    struct logread_source *s = &l->sources[log];
    bool ready;
    while ((ready = prepare_any(l, log)) && is_expected(log, s->text + s->begin, s->line_len))
        drop_line(s);
    return ready;
}

/* "hello: text" is a line of the service hello, and "mvm: service hello started" is about it. */
static void find_service(struct logread_line *line)
{
    static const char about[] = "mvm: service ";
    const char *name = line->text;
    size_t len = line->len;
    bool ours = len > sizeof(about) - 1 && memcmp(name, about, sizeof(about) - 1) == 0;
    if (ours) {
        name += sizeof(about) - 1;
        len -= sizeof(about) - 1;
    }
    const char *end = memchr(name, ours ? ' ' : ':', len);
    size_t n = end ? (size_t)(end - name) : 0;
    bool behind = end && (ours || (n + 1 < len && end[1] == ' ') || n + 1 == len);
    if (!behind || n >= sizeof(line->service) || (!ours && n == 3 && memcmp(name, "mvm", 3) == 0) ||
        (n == 8 && memcmp(name, "mvm-init", 8) == 0))
        n = 0;
    for (size_t i = 0; i < n; i++)
        if (name[i] == ' ' || name[i] == '\t')
            n = 0;
    memcpy(line->service, name, n);
    line->service[n] = '\0';
}

bool logread_next(struct logread *l, struct logread_line *ret)
{
    int first = -1;
    for (unsigned i = 0; i < LOGREAD_LOGS; i++) {
        struct logread_source *s = &l->sources[i];
        if (s->given)
            drop_line(s);
        s->given = false;
        if (prepare(l, i) && (first < 0 || s->at < l->sources[first].at))
            first = (int)i;
    }
    if (first < 0)
        return false;
    struct logread_source *s = &l->sources[first];
    *ret = (struct logread_line){
        .log = (enum logread_log)first, .at = s->at, .text = s->text + s->begin, .len = s->line_len};
    if (ret->len && ret->text[ret->len - 1] == '\r')
        ret->len--;
    if (first == LOGREAD_AGENT)
        find_service(ret);
    s->given = true;
    return true;
}
