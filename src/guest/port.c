#include "guest/port.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_line(const char *text, const char *name)
{
    size_t n = strlen(name);
    return strncmp(text, name, n) == 0 && text[n] == '\n';
}

int port_open(const char *name)
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
