#include "guest/worker_io.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/boot.h"
#include "wire/frame.h"
#include "wire/msg.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define NO_MEMORY_MS 5000
#define RETRY_MS     10

/* The kernel has no memory for a packet now: a while later it may. */
static bool wait_for_memory(uint64_t *deadline)
{
    if (!*deadline)
        *deadline = clock_deadline(NO_MEMORY_MS);
    return clock_left_ms(*deadline) > 0 && poll(NULL, 0, RETRY_MS) <= 0;
}

int worker_send(int sock, uint8_t channel, const void *p, size_t n)
{
    uint64_t deadline = 0;
    struct iovec iov[2] = {{&channel, 1}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    for (;;) {
        ssize_t w = sendmsg(sock, &m, MSG_NOSIGNAL);
        if (w >= 0)
            return 0;
        if (errno == EAGAIN) {
            struct pollfd pfd = {.fd = sock, .events = POLLOUT};
            (void)!poll(&pfd, 1, -1);
        } else if (errno != EINTR) {
            int r = -errno;
            if ((r != -ENOBUFS && r != -ENOMEM) || !wait_for_memory(&deadline))
                return r;
        }
    }
}

int worker_recv(int sock, struct buf *b)
{
    buf_clear(b);
    int r = buf_reserve(b, FRAME_MAX_PAYLOAD + 1);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = fd_recv_packet(sock, b->data, FRAME_MAX_PAYLOAD + 1, 0);
        if (n >= 0) {
            b->len = (size_t)n;
            return n > 0;
        }
        if (n != -EAGAIN)
            return (int)n;
        struct pollfd pfd = {.fd = sock, .events = POLLIN};
        (void)!poll(&pfd, 1, -1);
    }
}

void worker_last(int sock, const struct buf *b, int r)
{
    if (r == 0)
        r = worker_send(sock, CHAN_MSG, b->data, b->len);
    /* Without a peer there is nobody to tell; else the agent tells by the exit status. */
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        boot_log("a worker's last word is lost: %s", strerror(-r));
    _exit(r < 0 ? -r : 0);
}

void worker_exit(int sock, uint64_t code, const char *problem)
{
    struct msg_exit m = {.code = code};
    struct buf b = BUF_INIT(2048);
    snprintf(m.problem, sizeof(m.problem), "%s", problem);
    int r = msg_exit_encode(&b, &m);
    worker_last(sock, &b, r);
}

int worker_emit(void *sock, uint8_t channel, const void *p, size_t n)
{
    return worker_send(*(int *)sock, channel, p, n);
}
