#include "guest/freeze.h"
#include "base/buf.h"
#include "base/fd.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FREEZE_MAX_S 60

static void on_term(int sig)
{
}

/*
 * The host copies the disk meanwhile: frozen, an ext4 is as it would be unmounted. The agent ends this process with
 * SIGTERM where the host goes away, which only interrupts the waiting; and nobody's build waits for longer than
 * FREEZE_MAX_S.
 */
void freeze_serve(int sock)
{
    struct sigaction sa = {.sa_handler = on_term};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGALRM, &sa, NULL);
    CLEAN_FD int fd = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FIFREEZE, 0) < 0)
        worker_exit(sock, 1, strerror(errno));
    alarm(FREEZE_MAX_S);
    const struct msg_exit frozen = {0};
    CLEAN_BUF struct buf b = BUF_INIT(1024);
    struct pollfd p = {.fd = sock, .events = POLLIN};
    if (msg_exit_encode(&b, &frozen) == 0 && worker_send(sock, CHAN_MSG, b.data, b.len) == 0)
        (void)!poll(&p, 1, FREEZE_MAX_S * 1000); /* readable: the stream has ended */
    ioctl(fd, FITHAW, 0);
    _exit(0);
}
