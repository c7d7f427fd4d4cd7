/* A client of a control socket, whose other end is played here. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/client.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS 40000u /* with headers more than a stream's queue; without them less than what makes a peer answer */

static struct home home = HOME_INIT;
static const char *root;

/* Takes everything and says nothing, as a peer does that has no window to give back yet. Ends with status 0 as soon as
 * all came. */
static void swallow(int listener)
{
    CLEAN_FD int fd = accept(listener, NULL, NULL);
    static char chunk[65536];
    const size_t all = RECORDS * (FRAME_HEADER_SIZE + 4);
    size_t total = 0;
    for (ssize_t n; total < all && (n = read(fd, chunk, sizeof(chunk))) > 0;)
        total += (size_t)n;
    _exit(total >= all ? 0 : 1);
}

static int listen_as(const char *vm)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char path[64];
    snprintf(path, sizeof(path), "vms/%s/control.sock", vm);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/state/%s", root, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (path_make_parents(home.state_fd, path, 0700) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(fd, 1) < 0)
        abort();
    return fd;
}

static void test_small_records(void)
{
    CLEAN_FD int listener = listen_as("quiet");
    pid_t peer = fork();
    if (peer == 0)
        swallow(listener);
    alarm(60); /* a client that waits for an answer waits for ever */
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf m = BUF_INIT(4096);
    uint32_t stream = 0;
    if (msg_flood_encode(&m, &(struct msg_flood){.send = 1}) < 0)
        abort();
    int r = client_connect(&home, "quiet", &c, NULL);
    if (r == 0)
        r = client_open(c, &m, &stream, NULL);
    for (unsigned i = 0; r == 0 && i < RECORDS; i++)
        r = client_send(c, stream, CHAN_OUT, "abcd", 4);
    ok(r == 0, "many small records go out to a peer that does not answer");
    client_close(c, stream);
    /* No answer comes; meanwhile all goes out, and the peer that has it goes. */
    uint64_t deadline = clock_deadline(30000);
    while (client_poll(c, NULL, 0, deadline, NULL) >= 0)
        ;
    client_free(TAKE_PTR(c));
    int status = -1;
    waitpid(peer, &status, 0);
    alarm(0);
    ok(status == 0, "and all arrive");
}

/* Closes the first stream at once, and gives no window back. */
static void close_early(int listener)
{
    CLEAN_FD int fd = accept(listener, NULL, NULL);
    static char chunk[65536];
    CLEAN_BUF struct buf b = BUF_INIT(64);
    if (frame_append(&b, FRAME_CLOSE, 1, 0, NULL, 0) < 0 || read(fd, chunk, sizeof(chunk)) <= 0 ||
        fd_write_all(fd, b.data, b.len) < 0)
        _exit(1);
    while (read(fd, chunk, sizeof(chunk)) > 0)
        ;
    _exit(0);
}

static void test_closed_peer(void)
{
    static const char chunk[32768];
    CLEAN_FD int listener = listen_as("closed");
    pid_t peer = fork();
    if (peer == 0)
        close_early(listener);
    alarm(60);
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf m = BUF_INIT(4096);
    uint32_t stream = 0;
    if (msg_flood_encode(&m, &(struct msg_flood){.send = 1}) < 0)
        abort();
    int r = client_connect(&home, "closed", &c, NULL);
    if (r == 0)
        r = client_open(c, &m, &stream, NULL);
    unsigned sent = 0;
    while (r == 0 && sent < 100) {
        r = client_send(c, stream, CHAN_OUT, chunk, sizeof(chunk));
        sent += r == 0;
    }
    struct client_event e;
    ok(r == -EPIPE, "R5: a client does not wait for a peer that has closed the stream to take more (%u chunks)", sent);
    ok(client_next(c, &e) && e.kind == CLIENT_CLOSED, "R5: and finds out why");
    client_free(TAKE_PTR(c));
    waitpid(peer, NULL, 0);
    alarm(0);
}

int main(void)
{
    char path[300];
    root = tap_folder();
    snprintf(path, sizeof(path), "%s/state", root);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", root);
    setenv("MVM_CACHE_DIR", path, 1);
    if (home_open(&home, NULL) < 0)
        abort();
    test_small_records();
    test_closed_peer();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, root);
    return tap_end();
}
