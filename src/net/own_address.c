#include "net/own_address.h"
#include "base/fd.h"
#include "host/os.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

union inet {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t to_socket(const struct address *a, union inet *ret)
{
    *ret = (union inet){0};
    if (address_is4(a)) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(1);
        memcpy(&ret->v4.sin_addr, address_v4(a), sizeof(ret->v4.sin_addr));
        return sizeof(ret->v4);
    }
    ret->v6.sin6_family = AF_INET6;
    ret->v6.sin6_port = htons(1);
    memcpy(&ret->v6.sin6_addr, a->b, sizeof(ret->v6.sin6_addr));
    return sizeof(ret->v6);
}

/* A socket can be bound to an address that is this host's, and to no other, unless net.ipv4.ip_nonlocal_bind is set
 * (ip(7)). */
static bool can_bind(const struct address *a)
{
    union inet in;
    socklen_t n = to_socket(a, &in);
    CLEAN_FD int fd = os_socket(in.any.sa_family, SOCK_DGRAM);
    in.v4.sin_port = 0; /* at the same place in both */
    return fd >= 0 ? bind(fd, &in.any, n) == 0 : fd != -EAFNOSUPPORT;
}

/* What is sent to an address of this host comes from it, unless it is one of several in a subnet. Nothing is sent. */
static bool comes_from(const struct address *a)
{
    union inet in, own = {0};
    socklen_t n = to_socket(a, &in), size = sizeof(own);
    CLEAN_FD int fd = os_socket(in.any.sa_family, SOCK_DGRAM);
    if (fd < 0 || connect(fd, &in.any, n) < 0 || getsockname(fd, &own.any, &size) < 0)
        return false; /* it cannot be reached at all */
    return in.any.sa_family == AF_INET ? in.v4.sin_addr.s_addr == own.v4.sin_addr.s_addr
                                       : memcmp(&in.v6.sin6_addr, &own.v6.sin6_addr, sizeof(in.v6.sin6_addr)) == 0;
}

void own_address_init(struct own_address *o)
{
    struct address nobodys; /* RFC 1112, section 4 */
    o->binds_any = address_parse("240.0.0.1", &nobodys) == 0 && can_bind(&nobodys);
}

bool own_address_is(const struct own_address *o, const struct address *a)
{
    return comes_from(a) || (!o->binds_any && can_bind(a));
}
