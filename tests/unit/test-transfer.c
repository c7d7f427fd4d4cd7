/*
 * cp's two directions and requests of any length (machine/transfer.h, machine/request.h) with a guest that is played
 * here: a child of this process that answers the client's first stream as the case says.
 */
#include "played.h"
#include "tap.h"

#include "base/clock.h"
#include "machine/request.h"
#include "machine/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The guest ---- */

/* As the sender of a tree has it. */
static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    send_frame(FRAME_DATA, channel, p, n);
    return 0;
}

/* The tree of a folder of this machine, under a name. */
static void send_tree(const char *from, const char *name)
{
    struct tree_sender s = {.emit = emit, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    if (tree_send_path(&s, AT_FDCWD, from, name, NULL) < 0 || tree_send_end(&s, NULL) < 0)
        _exit(1);
    tree_sender_done(&s);
}

static char *path_of(const char *name)
{
    return path_join(root, name, NULL);
}

/* ---- Out of a guest ---- */

static void gives_file(void)
{
    size_t n = 0;
    CLEAN_FREE char *from = path_of("source");
    if (!take_until(FRAME_CLOSE, MSG_PULL, &n))
        _exit(1);
    send_tree(from, "file");
    send_exit(0, "");
}

static void gives_another(void)
{
    size_t n = 0;
    CLEAN_FREE char *from = path_of("source");
    (void)take_until(FRAME_CLOSE, MSG_PULL, &n);
    send_tree(from, "other");
    send_exit(0, "");
}

static void gives_path(void)
{
    size_t n = 0;
    CLEAN_FREE char *from = path_of("source");
    (void)take_until(FRAME_CLOSE, MSG_PULL, &n);
    send_tree(from, "../file");
    send_exit(0, "");
}

static void gives_nothing(void)
{
    size_t n = 0;
    (void)take_until(FRAME_CLOSE, MSG_PULL, &n);
    send_exit(0, "");
}

static void refuses(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PULL, &n);
    send_exit(1, "no such file\033[2J");
}

static void resets(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PULL, &n);
    send_frame(FRAME_RESET, 0, "not now", 7);
}

static void closes(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PULL, &n);
    send_frame(FRAME_CLOSE, 0, NULL, 0);
}

static void goes(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PULL, &n);
    close(guest_fd);
    _exit(0);
}

static void babbles(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PULL, &n);
    send_frame(FRAME_DATA, CHAN_MSG, "\xff\xff\xff", 3);
}

static int pull(const char *vm, void (*guest)(void), const char *from, const char *to, struct mvm_error *e)
{
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_FREE char *path = path_of(to);
    pid_t pid = play(vm, guest);
    int r = client_connect(&home, vm, &c, e);
    if (r == 0)
        r = transfer_pull(c, from, false, path, e);
    client_free(TAKE_PTR(c));
    return served(pid) || r < 0 ? r : -EBADMSG;
}

static bool has(const char *name, const char *text)
{
    CLEAN_FREE char *path = path_of(name);
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    return path_read_file(AT_FDCWD, path, &b, NULL) == 0 && strcmp(buf_cstr(&b), text) == 0;
}

static void test_pull(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    ok(pull("named", gives_file, "/x/file", "copy", &e) == 0 && has("copy", "content"),
       "a file gets the name that was wanted");
    ok(pull("into", gives_file, "/x/file/", "folder", &e) == 0 && has("folder/file", "content"),
       "or its own in a folder, slashes behind it or not");
    ok(pull("another", gives_another, "/x/file", "stray", &e) < 0 && !has("stray", "content"),
       "a guest that sends another file than was asked for is refused (%s)", e.msg);
    ok(pull("path", gives_path, "/x/file", "folder", &e) < 0 && !has("file", "content"),
       "so is one whose file's name leads out of the folder (%s)", e.msg);
    ok(pull("nothing", gives_nothing, "/x/file", "stray", &e) == -EPROTO && strstr(e.msg, "only a part"),
       "one that says it is done without having sent anything is refused");
    ok(pull("refuses", refuses, "/x/file", "stray", &e) == -EIO && strstr(e.msg, "in the guest: no such file"),
       "what went wrong in the guest is told");
    ok(pull("resets", resets, "/x/file", "stray", &e) == -EPIPE && strstr(e.msg, "not now"),
       "so is why a stream was reset");
    ok(pull("closes", closes, "/x/file", "stray", &e) == -EPIPE && strstr(e.msg, "no answer"),
       "a guest that gives no answer is an error");
    ok(pull("goes", goes, "/x/file", "stray", &e) < 0, "so is one that is gone");
    ok(pull("babbles", babbles, "/x/file", "stray", &e) == -EPROTO, "a guest whose words are none is refused (%s)",
       e.msg);
    static const char *const bad[] = {"/", "", "/x/..", "/.", "//"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(transfer_pull(NULL, bad[i], false, "/tmp", &e) == -EINVAL && strstr(e.msg, "no name at its end"),
           "'%s' has no name that a copy could have", bad[i]);
    ok(transfer_pull(NULL, "/x/file", false, "/no/such/folder/file", &e) == -ENOENT,
       "a folder that is not there is an error before the guest is asked");
}

/* ---- Into a guest ---- */

static void takes(void)
{
    size_t n = 0;
    if (!take_until(FRAME_CLOSE, MSG_PUSH, &n) || n < 7)
        _exit(1);
    send_exit(0, "");
}

static void takes_none(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_PUSH, &n);
    send_exit(1, "disk full");
    send_frame(FRAME_CLOSE, 0, NULL, 0);
}

static int push(const char *vm, void (*guest)(void), const char *from, struct mvm_error *e)
{
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_FREE char *path = path_of(from);
    pid_t pid = play(vm, guest);
    int r = client_connect(&home, vm, &c, e);
    if (r == 0)
        r = transfer_push(c, path, "/x", e);
    client_free(TAKE_PTR(c));
    return served(pid) || r < 0 ? r : -EBADMSG;
}

static void test_push(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    ok(push("takes", takes, "source", &e) == 0, "a file goes into a guest (%s)", e.msg);
    ok(push("full", takes_none, "large", &e) == -EIO && strstr(e.msg, "disk full"),
       "a guest that cannot take it all says why, and is not waited for (%s)", e.msg);
    ok(transfer_push(NULL, "/no/such/file", "/x", &e) == -ENOENT, "a file that is not there is an error");
    ok(transfer_push(NULL, "/", "/x", &e) == -EINVAL, "the whole machine is not copied");
}

/* ---- Requests ---- */

static void takes_long(void)
{
    size_t n = 0;
    if (!take_until(FRAME_CLOSE, MSG_LONG, &n) || n <= 3u * FRAME_MAX_PAYLOAD)
        _exit(1);
    send_exit(0, "");
}

static void takes_short(void)
{
    size_t n = 0;
    if (!take_until(FRAME_CLOSE, MSG_EXEC, &n) || n != 0)
        _exit(1);
    send_exit(0, "");
}

static int ask(const char *vm, void (*guest)(void), size_t size)
{
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf request = BUF_INIT(MSG_LONG_MAX + 100);
    CLEAN_FREE char *much = calloc(1, size);
    uint32_t stream = 0;
    if (msg_begin(&request, MSG_EXEC) < 0 || msg_put_bytes(&request, 1, much, size) < 0)
        abort();
    pid_t pid = play(vm, guest);
    int r = client_connect(&home, vm, &c, NULL);
    if (r == 0)
        r = request_open(c, &request, &stream, NULL);
    if (r == 0) {
        client_close(c, stream);
        r = client_expect_exit(c, stream, clock_deadline(30000), NULL);
    }
    client_free(TAKE_PTR(c));
    return served(pid) || r < 0 ? r : -EBADMSG;
}

static void test_requests(void)
{
    const size_t head = 2 + 5; /* a message's beginning, and its field's */
    ok(ask("short", takes_short, FRAME_MAX_PAYLOAD - head) == 0, "a request that just fits a frame is one");
    ok(ask("long", takes_long, 200000) == 0, "a longer one is announced, and follows in parts");
    ok(ask("endless", goes, MSG_LONG_MAX) == -E2BIG, "one that is too long is refused here");
}

int main(void)
{
    root = strdup(tap_folder());
    CLEAN_FREE char *state = path_of("state");
    CLEAN_FREE char *cache = path_of("cache");
    CLEAN_FREE char *into = path_of("folder");
    CLEAN_FD int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    signal(SIGPIPE, SIG_IGN);
    if (home_open(&home, NULL) < 0 || mkdir(into, 0700) < 0 ||
        path_write_file(fd, "source", "content", 7, 0600, false, NULL) < 0)
        return 1;
    CLEAN_FREE uint8_t *much = malloc(4 << 20);
    memset(much, 'x', 4 << 20);
    if (path_write_file(fd, "large", much, 4 << 20, 0600, false, NULL) < 0)
        return 1;
    test_pull();
    test_push();
    test_requests();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, root);
    free((char *)(uintptr_t)root);
    return tap_end();
}
