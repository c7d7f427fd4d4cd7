#include "guest/ready.h"
#include "base/buf.h"
#include "base/path.h"
#include "guest/listeners.h"
#include "wire/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool listens(const char *text, unsigned port)
{
    struct listener l;
    while (listeners_next(&text, &l))
        if (l.port == port)
            return true;
    return false;
}

bool ready_listens(const char *tcp, const char *tcp6, unsigned port)
{
    return listens(tcp, port) || listens(tcp6, port);
}

bool ready_port(unsigned port)
{
    CLEAN_BUF struct buf tcp = BUF_INIT(1u << 20);
    CLEAN_BUF struct buf tcp6 = BUF_INIT(1u << 20);
    (void)!path_read_file(AT_FDCWD, "/proc/net/tcp", &tcp, NULL);
    (void)!path_read_file(AT_FDCWD, "/proc/net/tcp6", &tcp6, NULL);
    return ready_listens(buf_cstr(&tcp), buf_cstr(&tcp6), port);
}

int ready_notify_open(const char *folder, const char *service)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)!mkdir(folder, 0755);
    if ((size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", folder, service) >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(a.sun_path);
    /* Any user's service may write to it. */
    if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || chmod(a.sun_path, 0666) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

bool ready_notify_says(const char *message, size_t n)
{
    static const char word[] = "READY=1";
    for (const char *line = message, *end = message + n; line < end;) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        size_t len = nl ? (size_t)(nl - line) : (size_t)(end - line);
        if (len == sizeof(word) - 1 && memcmp(line, word, len) == 0)
            return true;
        line += len + 1;
    }
    return false;
}

bool ready_notify_read(int fd)
{
    char message[4096];
    bool ready = false;
    /* A service that never stops talking is read a little at a time. */
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(fd, message, sizeof(message), MSG_DONTWAIT);
        if (n < 0)
            break;
        ready |= ready_notify_says(message, (size_t)n);
    }
    return ready;
}
