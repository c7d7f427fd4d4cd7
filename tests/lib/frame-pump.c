/* Runs in a guest: its first network card, frame by frame. Each frame on standard input, with its length before it
 * (four bytes, little endian), is sent; each that comes is written to standard output in the same way. */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FRAME 70000

static int read_all(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = read(fd, (char *)p + at, n - at);
        if (r <= 0)
            return -1;
        at += (size_t)r;
    }
    return 0;
}

int main(void)
{
    static uint8_t frame[4 + MAX_FRAME];
    int s = socket(AF_PACKET, SOCK_RAW, __builtin_bswap16(ETH_P_ALL));
    struct sockaddr_ll card = {.sll_family = AF_PACKET, .sll_protocol = __builtin_bswap16(ETH_P_ALL)}, from;
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *i = names; i && i->if_index; i++)
        if (strcmp(i->if_name, "lo") != 0 && !card.sll_ifindex)
            card.sll_ifindex = (int)i->if_index;
    if (s < 0 || !card.sll_ifindex || bind(s, (struct sockaddr *)&card, sizeof(card)) < 0 ||
        write(1, "\0\0\0\0", 4) != 4)
        return 1;
    struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = s, .events = POLLIN}};
    while (poll(p, 2, -1) > 0) {
        uint32_t n;
        if (p[0].revents) {
            if (read_all(0, &n, sizeof(n)) < 0 || n > MAX_FRAME || read_all(0, frame, n) < 0)
                return 0;
            (void)!send(s, frame, n, 0); /* what the guest's kernel does not send has no way out either */
        }
        socklen_t len = sizeof(from);
        ssize_t got = p[1].revents ? recvfrom(s, frame + 4, MAX_FRAME, 0, (struct sockaddr *)&from, &len) : 0;
        if (got <= 0 || from.sll_pkttype == PACKET_OUTGOING)
            continue;
        n = (uint32_t)got;
        memcpy(frame, &n, sizeof(n));
        if (write(1, frame, 4 + n) < 0)
            return 0;
    }
    return 0;
}
