#include "host/port_owner.h"
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TCP_LISTENS 0x0a /* the kernel's include/net/tcp_states.h */

/* The inode of a socket that is bound to the port, 0 where the table has none. */
static unsigned long find_in(const char *table, uint16_t port, bool udp)
{
    char line[512];
    unsigned long inode = 0;
    FILE *f = fopen(table, "re");
    while (f && !inode && fgets(line, sizeof(line), f)) {
        unsigned bound, state;
        unsigned long it;
        if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*s %*s %lu", &bound, &state, &it) == 3 &&
            bound == port && (udp || state == TCP_LISTENS))
            inode = it;
    }
    if (f)
        fclose(f);
    return inode;
}

static bool has_socket(int proc, const char *pid, unsigned long inode)
{
    char path[64], want[64], link[64];
    bool found = false;
    snprintf(path, sizeof(path), "%.16s/fd", pid);
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        fd_closep(&fd);
        return false;
    }
    snprintf(want, sizeof(want), "socket:[%lu]", inode);
    for (const struct dirent *e; !found && (e = readdir(d));) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);
        link[n > 0 ? n : 0] = '\0';
        found = strcmp(link, want) == 0;
    }
    closedir(d);
    return found;
}

static void read_name(int proc, const char *pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "%.16s/comm", pid);
    CLEAN_FD int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

pid_t port_owner(uint16_t port, bool udp, char *ret_name, size_t size)
{
    static const char *const tables[2][2] = {{"/proc/net/tcp", "/proc/net/tcp6"}, {"/proc/net/udp", "/proc/net/udp6"}};
    unsigned long inode = find_in(tables[udp][0], port, udp);
    if (!inode)
        inode = find_in(tables[udp][1], port, udp);
    DIR *proc = inode ? opendir("/proc") : NULL;
    pid_t found = 0;
    if (!proc)
        return 0;
    for (const struct dirent *e; !found && (e = readdir(proc));) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || !has_socket(dirfd(proc), e->d_name, inode))
            continue;
        found = (pid_t)atol(e->d_name);
        read_name(dirfd(proc), e->d_name, ret_name, size);
    }
    closedir(proc);
    return found;
}
