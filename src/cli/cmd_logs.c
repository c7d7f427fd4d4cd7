#include "base/fd.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "cli/cli.h"
#include "machine/client.h"
#include "machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"console.log", "agent.log"};
#define N_FILES ARRAY_SIZE(files)

struct follower {
    int dirfd;
    int fds[N_FILES];
    ino_t inodes[N_FILES];
};

static int print_rest(int fd)
{
    char chunk[16384];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0)
        if (ui_out("%.*s", (int)text_clean(chunk, (size_t)n, true), chunk) < 0)
            return -EPIPE;
    return 0;
}

static int print_file(int dirfd, const char *name)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? 0 : print_rest(fd);
}

/* Prints what was added; where the file was rotated, the rest of the old one and then the new one. */
static int advance(struct follower *f, size_t i)
{
    struct stat st;
    int r = f->fds[i] >= 0 ? print_rest(f->fds[i]) : 0;
    if (r == 0 && fstatat(f->dirfd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != f->inodes[i]) {
        fd_closep(&f->fds[i]);
        f->fds[i] = openat(f->dirfd, files[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        f->inodes[i] = st.st_ino;
        r = f->fds[i] >= 0 ? print_rest(f->fds[i]) : 0;
    }
    fflush(stdout);
    return r;
}

static int follow(struct follower *f, struct client *c, struct mvm_error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->dirfd);
    CLEAN_FD int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return mvm_error_errno(err, -errno, "cannot watch the logs");
    for (;;) {
        for (size_t i = 0; i < N_FILES; i++)
            if (advance(f, i) < 0)
                return 0; /* nobody reads */
        struct pollfd p = {.fd = watch, .events = POLLIN};
        int r = c ? client_poll(c, &p, 1, 0, NULL) : -EPIPE;
        if (r == -EINTR)
            return r;
        if (r < 0) { /* the VM is gone; what it said last is in the files, where they are still there */
            for (size_t i = 0; i < N_FILES; i++)
                (void)!advance(f, i);
            return 0;
        }
        char events[4096];
        while (read(watch, events, sizeof(events)) > 0)
            ;
    }
}

int follow_logs(struct home *h, const char *name, struct mvm_error *err)
{
    CLEAN_FD int dir = machine_open_dir(h, name, err);
    if (dir < 0)
        return dir;
    /* The connection's end tells of the VM's. */
    CLEAN_CLIENT struct client *c = NULL;
    (void)!client_connect(h, name, &c, NULL);
    struct follower f = {.dirfd = dir, .fds = {-1, -1}};
    int r = follow(&f, c, err);
    for (size_t i = 0; i < N_FILES; i++)
        fd_closep(&f.fds[i]);
    return r;
}

int cmd_logs(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl logs NAME", "logs: %s", a->n_words ? "more than one VM named" : "no VM named");
    if (home_open(&h, &err) < 0)
        return ui_fail(&err);
    if (arg_flag(a, "follow")) {
        interrupt_install();
        int r = follow_logs(&h, a->words[0], &err);
        return r < 0 && r != -EINTR ? ui_fail(&err) : 0;
    }
    CLEAN_FD int dir = machine_open_dir(&h, a->words[0], &err);
    if (dir < 0)
        return ui_fail(&err);
    static const char *const all[] = {"console.log.1", "console.log", "agent.log.1", "agent.log", "vmm.log"};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (print_file(dir, all[i]) < 0)
            break;
    return 0;
}
