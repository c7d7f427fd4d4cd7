#include "guest/port.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h> /* some versions want sys/socket.h before it */

#define HOST_PORT 1024 /* src/vmm/socket_vmm.h */

static bool is_line(const char *text, const char *name)
{
    size_t n = strlen(name);
    return strncmp(text, name, n) == 0 && text[n] == '\n';
}

static int open_console(const char *name)
{
    DIR *d = opendir("/sys/class/virtio-ports");
    if (!d)
        return -errno;
    int fd = -ENOENT;
    for (struct dirent *e; fd < 0 && (e = readdir(d));) {
        char path[300], found[64] = "";
        if (strncmp(e->d_name, "vport", 5) != 0)
            continue;
        snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
        CLEAN_FD int f = open(path, O_RDONLY | O_CLOEXEC);
        if (f < 0 || read(f, found, sizeof(found) - 1) <= 0 || !is_line(found, name))
            continue;
        snprintf(path, sizeof(path), "/dev/%s", e->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            fd = -errno;
    }
    closedir(d);
    return fd;
}

/* vsock(7). The host listens there before the guest runs. */
static int connect_host(void)
{
    const struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = HOST_PORT};
    CLEAN_FD int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0)
        return -errno;
    int r = fd_set_nonblock(fd, true);
    return r < 0 ? r : TAKE_FD(fd);
}

int port_open(const char *name)
{
    int fd = open_console(name);
    int r = fd < 0 ? connect_host() : fd;
    return r < 0 && fd != -ENOENT ? fd : r;
}

bool port_connect_again(int port)
{
    int domain = 0;
    socklen_t n = sizeof(domain);
    if (getsockopt(port, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 || domain != AF_VSOCK)
        return false;
    CLEAN_FD int fd = connect_host();
    return fd >= 0 && dup3(fd, port, O_CLOEXEC) == port;
}
