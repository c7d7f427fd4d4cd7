#include "host/handover.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(int) * HANDOVER_MAX_FDS)];
};

int handover_send(int fd, const struct handover *p)
{
    union control c = {0};
    struct iovec iov = {.iov_base = p->data, .iov_len = p->size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (p->n_fds) {
        m.msg_control = &c;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * p->n_fds);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * p->n_fds);
        memcpy(CMSG_DATA(h), p->fds, sizeof(int) * p->n_fds);
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int handover_receive(int fd, struct handover *p)
{
    union control c = {0};
    struct iovec iov = {.iov_base = p->data, .iov_len = p->size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n = fd_recv_message(fd, &m, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return (int)n;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_type == SCM_RIGHTS) {
        p->n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(p->fds, CMSG_DATA(h), p->n_fds * sizeof(int));
    }
    return n == 0 ? -EPIPE : (size_t)n == p->size ? 0 : -EPROTO;
}
