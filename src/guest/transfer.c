#include "guest/transfer.h"
#include "base/buf.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where a pushed tree goes: into the folder that path names, or under that name into its parent. */
static int open_target(const char *path, const char **ret_top)
{
    struct stat st;
    size_t n = strlen(path);
    *ret_top = NULL;
    if (n && path[n - 1] == '/' && mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    CLEAN_FREE char *parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (!slash || !slash[1])
        return -EINVAL;
    *ret_top = path + (slash - parent) + 1;
    slash[slash == parent] = '\0';
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void push_serve(int sock, const struct msg_transfer *m)
{
    struct mvm_error err = MVM_ERROR_INIT;
    static const struct tree_limits limits = {
        .max_bytes = UINT64_MAX / 2, .max_size = UINT64_MAX / 2, .max_entries = 10000000};
    struct tree_receiver t;
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    const char *top;
    int dir = m->path && m->path[0] == '/' ? open_target(m->path, &top) : -EINVAL;
    if (dir < 0) {
        mvm_error_errno(&err, dir, "cannot open %s", m->path ? m->path : "a path without a name");
        worker_exit(sock, 1, err.msg);
    }
    tree_receiver_init(&t, dir, &limits);
    t.top = top;
    t.one_top = true;
    t.replace = true;
    int r = 0;
    while (r == 0 && !t.complete) {
        r = worker_recv(sock, &b);
        if (r == 0)
            mvm_error_set(&err, r = -EPIPE, "the tree ended early");
        else if (r > 0)
            r = tree_receive(&t, b.data[0], b.data + 1, b.len - 1, &err);
    }
    tree_receiver_done(&t);
    worker_exit(sock, r < 0, r < 0 ? err.msg : "");
}

void pull_serve(int sock, const struct msg_transfer *m)
{
    struct tree_sender s = {.emit = worker_emit, .data = &sock, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct mvm_error err = MVM_ERROR_INIT;
    char real[4096];
    const char *path = m->path;
    if (path && m->follow && realpath(path, real))
        path = real;
    /* The name that was asked for: the host takes no other one, wherever a symlink leads. */
    const char *slash = m->path ? strrchr(m->path, '/') : NULL;
    const char *name = slash ? slash + 1 : m->path;
    if (!path || !*name)
        worker_exit(sock, 1, "a path without a name");
    int r = tree_send_path(&s, AT_FDCWD, path, name, &err);
    if (r == 0)
        r = tree_send_end(&s, &err);
    worker_exit(sock, r < 0, r < 0 ? err.msg : "");
}

void flood_serve(int sock, const struct msg_flood *m)
{
    static uint8_t chunk[FRAME_MAX_PAYLOAD];
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    for (uint64_t left = m->send; left;) {
        size_t n = (size_t)MIN_OF(left, (uint64_t)sizeof(chunk));
        if (worker_send(sock, CHAN_OUT, chunk, n) < 0)
            _exit(1);
        left -= n;
    }
    while (worker_recv(sock, &b) > 0)
        ;
    worker_exit(sock, 0, "");
}
