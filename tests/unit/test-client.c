/* A client of a control socket, whose other end is played here. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/client.h"
#include "wire/frame.h"

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
static char root[] = "/tmp/mvm-test-client.XXXXXX";

/* Takes everything and says nothing, as a peer does that has no window to give back yet. Ends with status 0 if all
 * came. */
static void swallow(int listener)
{
    CLEAN_FD int fd = accept(listener, NULL, NULL);
    static char chunk[65536];
    size_t total = 0;
    for (ssize_t n; (n = read(fd, chunk, sizeof(chunk))) > 0;)
        total += (size_t)n;
    _exit(total >= RECORDS * (FRAME_HEADER_SIZE + 4) ? 0 : 1);
}

static void test_small_records(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/state/vms/quiet/control.sock", root);
    CLEAN_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (path_make_parents(home.state_fd, "vms/quiet/control.sock", 0700) < 0 ||
        bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
        abort();
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
    /* No answer comes; meanwhile all goes out. */
    uint64_t deadline = clock_deadline(3000);
    while (client_poll(c, NULL, 0, deadline, NULL) >= 0)
        ;
    client_free(TAKE_PTR(c));
    int status = -1;
    waitpid(peer, &status, 0);
    alarm(0);
    ok(status == 0, "and all arrive");
}

int main(void)
{
    char path[64];
    if (!mkdtemp(root))
        abort();
    snprintf(path, sizeof(path), "%s/state", root);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", root);
    setenv("MVM_CACHE_DIR", path, 1);
    if (home_open(&home, NULL) < 0)
        abort();
    test_small_records();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, root);
    return tap_end();
}
