/* Network cards by rtnetlink(7): link up, address, default route. */
#include "base/fd.h"
#include "base/path.h"
#include "guest/guest.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    uint8_t attributes[64];
};

static void put_attribute(struct request *q, unsigned short type, const void *p, unsigned short n)
{
    struct rtattr *a = (struct rtattr *)(void *)((uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len));
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(n);
    memcpy(RTA_DATA(a), p, n);
    q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

/* Sends one request and waits for the kernel's acknowledgement. */
static int talk(int fd, struct request *q)
{
    q->h.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    if (send(fd, q, q->h.nlmsg_len, 0) < 0)
        return -errno;
    struct {
        struct nlmsghdr h;
        struct nlmsgerr e;
        uint8_t rest[512];
    } answer;
    ssize_t n = recv(fd, &answer, sizeof(answer), 0);
    if (n < (ssize_t)(sizeof(answer.h) + sizeof(answer.e)) || answer.h.nlmsg_type != NLMSG_ERROR)
        return n < 0 ? -errno : -EPROTO;
    return answer.e.error == -EEXIST ? 0 : answer.e.error;
}

static int link_up(int fd, unsigned index)
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWLINK, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg))},
        .link = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP},
    };
    return talk(fd, &q);
}

static int add_address(int fd, unsigned index, struct in_addr a, unsigned char prefix)
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWADDR, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
        .address = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index},
    };
    put_attribute(&q, IFA_LOCAL, &a, sizeof(a));
    put_attribute(&q, IFA_ADDRESS, &a, sizeof(a));
    return talk(fd, &q);
}

static int add_default_route(int fd, unsigned index, struct in_addr gateway)
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWROUTE, .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
        .route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST},
    };
    uint32_t oif = index;
    put_attribute(&q, RTA_GATEWAY, &gateway, sizeof(gateway));
    put_attribute(&q, RTA_OIF, &oif, sizeof(oif));
    return talk(fd, &q);
}

/* The first card that is not the loopback; 0 for none. */
static unsigned first_card(void)
{
    DIR *d = opendir("/sys/class/net");
    if (!d)
        return 0;
    char best[IF_NAMESIZE] = "";
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "lo") != 0 && (!best[0] || strcmp(e->d_name, best) < 0))
            snprintf(best, sizeof(best), "%.15s", e->d_name);
    closedir(d);
    return best[0] ? if_nametoindex(best) : 0;
}

static int parse_cidr(const char *text, struct in_addr *ret, unsigned char *ret_prefix)
{
    char address[44];
    unsigned prefix = 32;
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof(address) || (slash && (sscanf(slash + 1, "%u", &prefix) != 1 || prefix > 32)))
        return -EINVAL;
    memcpy(address, text, n);
    address[n] = '\0';
    *ret_prefix = (unsigned char)prefix;
    return inet_pton(AF_INET, address, ret) == 1 ? 0 : -EINVAL;
}

static int configure_card(int fd, unsigned index, const struct msg_configure *m)
{
    struct in_addr address, gateway;
    unsigned char prefix;
    int r = parse_cidr(m->address, &address, &prefix);
    if (r == 0)
        r = link_up(fd, index);
    if (r == 0)
        r = add_address(fd, index, address, prefix);
    if (r == 0 && m->gateway[0])
        r = inet_pton(AF_INET, m->gateway, &gateway) == 1 ? add_default_route(fd, index, gateway) : -EINVAL;
    return r;
}

static void write_resolv_conf(const char *dns)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "nameserver %s\n", dns);
    CLEAN_FD int etc = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (etc >= 0)
        (void)!path_write_file(etc, "resolv.conf", text, (size_t)n, 0644, false, NULL);
}

void net_configure(const struct msg_configure *m, char *problem, size_t size)
{
    problem[0] = '\0';
    CLEAN_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) {
        snprintf(problem, size, "no network: %s", strerror(errno));
        return;
    }
    int r = link_up(fd, 1); /* the loopback is always the first link */
    unsigned card = m->address[0] ? first_card() : 0;
    if (r == 0 && card)
        r = configure_card(fd, card, m);
    if (r < 0)
        snprintf(problem, size, "the network cannot be set up: %s", strerror(-r));
    else if (card && m->dns[0])
        write_resolv_conf(m->dns);
}
