/* Network cards by rtnetlink(7): link up, address, default route; told by the host or by a DHCP server. */
#include "guest/net.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/boot.h"
#include "guest/dhcp.h"
#include "wire/msg.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DHCP_DEADLINE_MS 8000

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

static int set_mac(int fd, unsigned index, const uint8_t mac[static 6])
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWLINK, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg))},
        .link = {.ifi_index = (int)index},
    };
    put_attribute(&q, IFLA_ADDRESS, mac, 6);
    return talk(fd, &q);
}

/* A frame costs the host the same whatever its size. A card that does not take so much keeps what it has. */
static void set_mtu(int fd, unsigned index, uint64_t mtu)
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWLINK, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg))},
        .link = {.ifi_index = (int)index},
    };
    uint32_t value = (uint32_t)MIN_OF(mtu, (uint64_t)UINT32_MAX);
    put_attribute(&q, IFLA_MTU, &value, sizeof(value));
    if (mtu && talk(fd, &q) < 0)
        boot_log("the network card keeps its MTU");
}

/* RTM_NEWADDR or RTM_DELADDR. Addresses are the card's alone, which its network sees to: they are used at once. */
static int change_address(int fd, unsigned index, unsigned short change, unsigned char family, const void *a,
                          unsigned char prefix)
{
    struct request q = {
        .h = {.nlmsg_type = change,
              .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
              .nlmsg_flags = change == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0},
        .address = {.ifa_family = family, .ifa_prefixlen = prefix, .ifa_index = index},
    };
    unsigned short n = family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    if (family == AF_INET6)
        q.address.ifa_flags = IFA_F_NODAD;
    put_attribute(&q, IFA_LOCAL, a, n);
    if (change == RTM_NEWADDR)
        put_attribute(&q, IFA_ADDRESS, a, n);
    return talk(fd, &q);
}

static int add_address(int fd, unsigned index, struct in_addr a, unsigned char prefix)
{
    return change_address(fd, index, RTM_NEWADDR, AF_INET, &a, prefix);
}

static int del_address(int fd, unsigned index, struct in_addr a, unsigned char prefix)
{
    return change_address(fd, index, RTM_DELADDR, AF_INET, &a, prefix);
}

static int add_default_route(int fd, unsigned index, struct in_addr gateway)
{
    struct request q = {
        .h = {.nlmsg_type = RTM_NEWROUTE,
              .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
              .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE},
        .route = {.rtm_family = AF_INET,
                  .rtm_table = RT_TABLE_MAIN,
                  .rtm_protocol = RTPROT_BOOT,
                  .rtm_type = RTN_UNICAST},
    };
    uint32_t oif = index;
    put_attribute(&q, RTA_GATEWAY, &gateway, sizeof(gateway));
    put_attribute(&q, RTA_OIF, &oif, sizeof(oif));
    return talk(fd, &q);
}

struct card {
    unsigned index;
    char name[IF_NAMESIZE];
    uint8_t mac[6];
};

/* What net_prepare leaves for net_configure. */
static struct {
    int netlink, resolv_conf;
    struct card card;
} prepared = {.netlink = -1, .resolv_conf = -1};

/* Not the loopback, nor what a kernel makes by itself (dummy0, sit0): a card is a device on some bus. */
static bool is_card(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/sys/class/net/%.15s/device", name);
    return name[0] != '.' && access(path, F_OK) == 0;
}

/* The first card: index 0 for none. */
static struct card first_card(void)
{
    struct card c = {0};
    DIR *d = opendir("/sys/class/net");
    for (struct dirent *e; d && (e = readdir(d));)
        if (is_card(e->d_name) && (!c.name[0] || strcmp(e->d_name, c.name) < 0))
            snprintf(c.name, sizeof(c.name), "%.15s", e->d_name);
    if (d)
        closedir(d);
    c.index = c.name[0] ? if_nametoindex(c.name) : 0;
    struct ifreq q = {0};
    snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", c.name);
    CLEAN_FD int inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (c.index && inet >= 0 && ioctl(inet, SIOCGIFHWADDR, &q) == 0)
        memcpy(c.mac, q.ifr_hwaddr.sa_data, sizeof(c.mac));
    return c;
}

/* An address of that family and its prefix's length. */
static int parse_cidr(const char *text, int family, void *ret, unsigned char *ret_prefix)
{
    char address[44];
    unsigned most = family == AF_INET ? 32 : 128, prefix = most;
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof(address) || (slash && (sscanf(slash + 1, "%u", &prefix) != 1 || prefix > most)))
        return -EINVAL;
    memcpy(address, text, n);
    address[n] = '\0';
    *ret_prefix = (unsigned char)prefix;
    return inet_pton(family, address, ret) == 1 ? 0 : -EINVAL;
}

static void parse_mac(const char *text, uint8_t ret[static 6])
{
    (void)sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &ret[0], &ret[1], &ret[2], &ret[3], &ret[4], &ret[5]);
}

/* As the kernel makes it of a /64 and a MAC when a link comes up or a router is heard (EUI-64, RFC 4291 appendix A). */
static struct in6_addr eui64(struct in6_addr base, const uint8_t m[static 6])
{
    const uint8_t half[8] = {m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
    memcpy(base.s6_addr + 8, half, sizeof(half));
    return base;
}

/* The card gets its MAC, where it has another: a guest that was restored has the snapshot's. The link stays up, and so
 * what the kernel made of the other MAC is made anew here. Whether it had another. */
static int move(int fd, struct card *c, const struct msg_configure *m, bool *ret_moved)
{
    static const struct in6_addr local = {{{0xfe, 0x80}}};
    struct in6_addr global = local, old;
    unsigned char prefix;
    uint8_t mac[6] = {0};
    parse_mac(m->mac, mac);
    *ret_moved = m->mac[0] && memcmp(mac, c->mac, sizeof(mac)) != 0;
    if (!*ret_moved)
        return 0;
    int r = set_mac(fd, c->index, mac);
    if (r < 0)
        return r;
    if (parse_cidr(m->address6, AF_INET6, &global, &prefix) == 0) {
        old = eui64(global, c->mac);
        (void)!change_address(fd, c->index, RTM_DELADDR, AF_INET6, &old, prefix);
    }
    old = eui64(local, c->mac);
    const struct in6_addr new = eui64(local, mac);
    (void)!change_address(fd, c->index, RTM_DELADDR, AF_INET6, &old, 64);
    (void)!change_address(fd, c->index, RTM_NEWADDR, AF_INET6, &new, 64);
    memcpy(c->mac, mac, sizeof(mac));
    return 0;
}

/* A guest whose kernel has no IPv6 does without. */
static void apply6(int fd, const struct card *c, const char *text)
{
    struct in6_addr address;
    unsigned char prefix;
    if (*text && (parse_cidr(text, AF_INET6, &address, &prefix) < 0 ||
                  change_address(fd, c->index, RTM_NEWADDR, AF_INET6, &address, prefix) < 0))
        boot_log("the network card has no IPv6 address of the host's");
}

/* Addresses and default route, by whatever way they became known. */
static int apply(int fd, const struct card *c, const struct msg_configure *m)
{
    struct in_addr address, gateway;
    unsigned char prefix;
    int r = parse_cidr(m->address, AF_INET, &address, &prefix);
    set_mtu(fd, c->index, m->mtu);
    apply6(fd, c, m->address6);
    if (r == 0)
        r = add_address(fd, c->index, address, prefix);
    if (r == 0 && m->gateway[0])
        r = inet_pton(AF_INET, m->gateway, &gateway) == 1 ? add_default_route(fd, c->index, gateway) : -EINVAL;
    return r;
}

/* resolv.conf by the descriptor of net_prepare, or as a new file where that has been used up. */
static void write_resolv_conf(const char *dns)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "nameserver %s\n", dns);
    CLEAN_FD int prepared_fd = TAKE_FD(prepared.resolv_conf);
    if (!*dns || (prepared_fd >= 0 && fd_write_all(prepared_fd, text, (size_t)n) == 0))
        return;
    CLEAN_FD int etc = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (etc >= 0)
        (void)!path_write_file(etc, "resolv.conf", text, (size_t)n, 0644, false, NULL);
}

/* ---- A lease instead of what the host said ---- */

static void lease_text(const struct dhcp_lease *l, struct msg_configure *m)
{
    char text[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &l->address, text, sizeof(text));
    snprintf(m->address, sizeof(m->address), "%s/%u", text, l->prefix);
    m->gateway[0] = m->dns[0] = '\0';
    if (l->router.s_addr)
        inet_ntop(AF_INET, &l->router, m->gateway, sizeof(m->gateway));
    if (l->dns.s_addr)
        inet_ntop(AF_INET, &l->dns, m->dns, sizeof(m->dns));
}

/* Keeps the lease, in a process of its own: asks again at half its time, and for any address once it is over. */
static void keep_lease(int fd, const struct card *c, struct dhcp_lease lease) __attribute__((noreturn));
static void keep_lease(int fd, const struct card *c, struct dhcp_lease lease)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* what asks pid 1 to end the guest ends this process */
    prctl(PR_SET_NAME, "mvm-dhcp");
    for (;;) {
        struct dhcp_lease next;
        struct msg_configure m = {0};
        sleep(MAX_OF(lease.seconds / 2, 30u));
        int r = dhcp_request(c->name, c->mac, &lease, clock_deadline((int64_t)lease.seconds * 400), &next);
        if (r < 0) {
            del_address(fd, c->index, lease.address, lease.prefix);
            while (dhcp_request(c->name, c->mac, NULL, clock_deadline(60000), &next) < 0)
                sleep(60);
        }
        lease_text(&next, &m);
        if (apply(fd, c, &m) < 0)
            boot_log("the renewed address cannot be set");
        write_resolv_conf(m.dns);
        if (next.address.s_addr != lease.address.s_addr)
            del_address(fd, c->index, lease.address, lease.prefix);
        lease = next;
    }
}

static pid_t keeper; /* whoever keeps the lease that the card has, or had before */

static void stop_lease(void)
{
    if (keeper)
        kill(keeper, SIGKILL);
    keeper = 0;
}

static int configure_by_dhcp(int fd, const struct card *c, struct msg_configure *m)
{
    struct dhcp_lease lease;
    stop_lease();
    int r = dhcp_request(c->name, c->mac, NULL, clock_deadline(DHCP_DEADLINE_MS), &lease);
    if (r < 0)
        return r;
    lease_text(&lease, m);
    r = apply(fd, c, m);
    if (r == 0 && lease.seconds != UINT32_MAX && (keeper = fork()) == 0)
        keep_lease(fd, c, lease);
    return r;
}

/* What a guest had that is another machine now. */
static void forget_address(int fd, const struct card *c, const char *text)
{
    struct in_addr address;
    unsigned char prefix;
    if (*text && parse_cidr(text, AF_INET, &address, &prefix) == 0)
        (void)!del_address(fd, c->index, address, prefix);
}

void net_prepare(void)
{
    prepared.netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    prepared.card = first_card();
    prepared.resolv_conf = boot_prepare_file("/etc", "resolv.conf", 0644);
    if (prepared.netlink < 0 || link_up(prepared.netlink, 1) < 0) /* the loopback is always the first link */
        boot_log("the loopback cannot be brought up");
    if (prepared.netlink >= 0 && prepared.card.index && link_up(prepared.netlink, prepared.card.index) < 0)
        boot_log("the network card cannot be brought up");
}

int net_isolate(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    CLEAN_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? -errno : link_up(fd, 1);
}

/* Its link is down: the VMM sees to that. */
static void unlink_card(int fd, const struct card *c, char *address)
{
    stop_lease();
    forget_address(fd, c, address);
    *address = '\0';
}

static int link_card(int fd, struct card *c, struct msg_configure *m, bool dhcp, bool again, char *address, size_t size)
{
    bool moved;
    int r = move(fd, c, m, &moved);
    if (r == 0 && again && dhcp && !moved && *address) {
        snprintf(m->address, sizeof(m->address), "%s", address);
        return 0;
    }
    if (dhcp || strcmp(address, m->address) != 0)
        forget_address(fd, c, address);
    if (r == 0)
        r = dhcp ? configure_by_dhcp(fd, c, m) : apply(fd, c, m);
    if (r == 0)
        write_resolv_conf(m->dns);
    snprintf(address, size, "%s", r < 0 ? "" : m->address);
    return r;
}

void net_configure(struct msg_configure *m, bool dhcp, bool again, char *problem, size_t size)
{
    static char address[sizeof(m->address)]; /* that it has */
    struct card *card = &prepared.card;
    int r = 0;
    problem[0] = '\0';
    CLEAN_FD int fd = TAKE_FD(prepared.netlink);
    if (again)
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (card->index && m->unlinked)
        unlink_card(fd, card, address);
    else if (card->index && (m->address[0] || dhcp))
        r = link_card(fd, card, m, dhcp, again, address, sizeof(address));
    snprintf(m->address, sizeof(m->address), "%s", address);
    if (r == -ETIMEDOUT)
        snprintf(problem, size, "no DHCP server answered on %s", card->name);
    else if (r < 0)
        snprintf(problem, size, "the network cannot be set up: %s", strerror(-r));
}
