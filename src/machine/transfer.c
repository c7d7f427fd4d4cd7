#include "machine/transfer.h"
#include "base/fd.h"
#include "base/path.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One request and its stream. */
struct transfer {
    struct client *c;
    uint32_t stream;
    struct tree_receiver *tree; /* pulling */
    bool done;
};

static int open_request(struct transfer *t, uint8_t type, const char *path, bool follow, struct mvm_error *err)
{
    CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
    const struct msg_transfer request = {.path = (char *)(uintptr_t)path, .follow = follow};
    int r = msg_transfer_encode(&m, type, &request);
    return r < 0 ? mvm_error_errno(err, r, "the request") : client_open(t->c, &m, &t->stream, err);
}

static int on_record(struct transfer *t, const struct client_event *e, struct mvm_error *err)
{
    struct msg_reader r;
    struct msg_exit m = {0};
    if (e->channel == CHAN_MSG && msg_open(&r, e->data, e->len) == 0 && r.type == MSG_EXIT) {
        if (msg_exit_decode(&m, e->data, e->len) < 0)
            return mvm_error_set(err, -EPROTO, "the agent's answer cannot be understood");
        t->done = true;
        return m.code ? mvm_error_set(err, -EIO, "in the guest: %s", m.problem) : 0;
    }
    if (!t->tree)
        return mvm_error_set(err, -EPROTO, "the agent sent what was not asked for");
    return tree_receive(t->tree, e->channel, e->data, e->len, err);
}

/* Until the guest has said how it went. */
static int receive(struct transfer *t, struct mvm_error *err)
{
    while (!t->done) {
        int r = client_poll(t->c, NULL, 0, 0, err);
        if (r < 0)
            return r;
        struct client_event e;
        while (!t->done && client_next(t->c, &e)) {
            if (e.stream != t->stream)
                continue;
            if (e.kind == CLIENT_RECORD)
                r = on_record(t, &e, err);
            else
                r = mvm_error_set(err, -EPIPE, "%.200s",
                                  e.kind == CLIENT_RESET ? (const char *)e.data : "the agent gave no answer");
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* What went wrong here ends the transfer there. */
static int finish(struct transfer *t, int r)
{
    client_event_done(t->c);
    if (r < 0 && t->stream && !t->done)
        client_reset(t->c, t->stream, "the host gave up");
    return r;
}

static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    struct transfer *t = data;
    return client_send(t->c, t->stream, channel, p, n);
}

int transfer_push_tree(struct client *c, const char *to,
                       int (*send)(struct tree_sender *s, void *data, struct mvm_error *err), void *data,
                       struct mvm_error *err)
{
    struct transfer t = {.c = c};
    struct tree_sender s = {.emit = emit, .data = &t, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    int r = open_request(&t, MSG_PUSH, to, false, err);
    if (r == 0)
        r = send(&s, data, err);
    if (r == 0)
        r = tree_send_end(&s, err);
    tree_sender_done(&s);
    /* The guest may have given up before it had all: its reason is among the events. */
    if (r == 0 || r == -EPIPE) {
        if (r == 0)
            client_close(c, t.stream);
        r = receive(&t, err);
    }
    return finish(&t, r);
}

struct push {
    const char *path, *name;
};

static int send_path(struct tree_sender *s, void *data, struct mvm_error *err)
{
    const struct push *p = data;
    return tree_send_path(s, AT_FDCWD, p->path, p->name, err);
}

int transfer_push(struct client *c, const char *from, const char *to, struct mvm_error *err)
{
    CLEAN_FREE char *real = realpath(from, NULL); /* "." has a name too */
    if (!real)
        return mvm_error_errno(err, -errno, "cannot open %s", from);
    const char *name = strrchr(real, '/') + 1;
    if (!*name)
        return mvm_error_set(err, -EINVAL, "the root folder cannot be copied");
    struct push p = {.path = real, .name = name};
    return transfer_push_tree(c, to, send_path, &p, err);
}

/* The folder to receive into, and the name that the source gets there (NULL: its own). */
static int open_target(const char *to, char **ret_top, struct mvm_error *err)
{
    struct stat st;
    CLEAN_FREE char *folder = strdup(to);
    *ret_top = NULL;
    if (!folder)
        return mvm_error_errno(err, -ENOMEM, "%s", to);
    if (!(stat(to, &st) == 0 && S_ISDIR(st.st_mode))) {
        char *slash = strrchr(folder, '/');
        *ret_top = strdup(slash ? slash + 1 : folder);
        if (slash)
            slash[slash == folder] = '\0';
        if (!*ret_top || !**ret_top)
            return mvm_error_errno(err, *ret_top ? -ENOENT : -ENOMEM, "cannot open %s", to);
        if (!slash)
            strcpy(folder, "."); /* to had at least one byte */
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? mvm_error_errno(err, -errno, "cannot open %s", folder) : fd;
}

/* The path without slashes at its end, and its last component, which is all that may come. The caller frees. */
static char *asked_path(const char *from, const char **ret_name, struct mvm_error *err)
{
    CLEAN_FREE char *path = strdup(from);
    if (!path) {
        mvm_error_errno(err, -ENOMEM, "%s", from);
        return NULL;
    }
    for (size_t n = strlen(path); n && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    const char *slash = strrchr(path, '/');
    *ret_name = slash ? slash + 1 : path;
    if (path_is_safe_relative(*ret_name))
        return TAKE_PTR(path);
    mvm_error_set(err, -EINVAL, "'%s' has no name at its end that a copy could have", from);
    return NULL;
}

int transfer_pull(struct client *c, const char *from, bool follow, const char *to, struct mvm_error *err)
{
    static const struct tree_limits limits = {
        .max_bytes = UINT64_MAX / 2, .max_size = UINT64_MAX / 2, .max_entries = 10000000};
    struct tree_receiver tree;
    struct transfer t = {.c = c, .tree = &tree};
    CLEAN_FREE char *top = NULL;
    const char *name;
    CLEAN_FREE char *path = asked_path(from, &name, err);
    if (!path)
        return -EINVAL;
    CLEAN_FD int dir = open_target(to, &top, err);
    if (dir < 0)
        return dir;
    tree_receiver_init(&tree, dir, &limits);
    tree.top = top;
    tree.one_top = true;
    tree.expect = name;
    tree.no_link = follow;
    tree.replace = true;
    int r = open_request(&t, MSG_PULL, path, follow, err);
    if (r == 0) {
        client_close(c, t.stream);
        r = receive(&t, err);
    }
    if (r == 0 && !tree.complete)
        r = mvm_error_set(err, -EPROTO, "the guest sent only a part");
    tree_receiver_done(&tree);
    return finish(&t, r);
}
