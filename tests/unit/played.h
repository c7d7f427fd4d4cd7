/*
 * A VM whose supervisor and guest are played by a child of the test, which answers the client's first stream as the
 * case says. For tests that are one file, which open `home` below `root`/state.
 */
#pragma once

#include "base/fd.h"
#include "base/path.h"
#include "cache/home.h"
#include "wire/frame.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static const char *root;

static int guest_fd = -1;

static void send_frame(uint8_t type, uint8_t channel, const void *p, size_t n)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
    if (frame_append(&b, type, 1, channel, p, (uint32_t)n) < 0 || fd_write_all(guest_fd, b.data, b.len) < 0)
        _exit(1);
}

static void send_exit(uint64_t code, const char *problem)
{
    CLEAN_BUF struct buf m = BUF_INIT(4096);
    struct msg_exit e = {.code = code};
    snprintf(e.problem, sizeof(e.problem), "%s", problem);
    if (msg_exit_encode(&m, &e) < 0)
        _exit(1);
    send_frame(FRAME_DATA, CHAN_MSG, m.data, m.len);
}

/* Takes what the client sends until the frame is one of that type: whether its request was of that message. */
static bool take_until(uint8_t type, uint8_t request, size_t *ret_bytes)
{
    static uint8_t bytes[1 << 20];
    size_t len = 0;
    bool asked = false;
    for (;;) {
        struct frame f;
        const char *why;
        struct msg_reader m;
        ssize_t n = frame_parse(bytes, len, &f, &why);
        if (n < 0)
            _exit(1);
        if (n > 0) {
            asked |= f.type == FRAME_OPEN && msg_open(&m, f.payload, f.len) == 0 && m.type == request;
            *ret_bytes += f.type == FRAME_DATA ? f.len : 0;
            if (f.type == type)
                return asked;
            len -= (size_t)n;
            memmove(bytes, bytes + n, len);
            continue;
        }
        ssize_t got = read(guest_fd, bytes + len, sizeof(bytes) - len);
        if (got <= 0)
            return false;
        len += (size_t)got;
    }
}

/* A VM whose guest does that with the first client. */
static pid_t play(const char *vm, void (*guest)(void))
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEAN_FREE char *relative = path_join("vms", vm, "control.sock", NULL);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/state/vms/%s/control.sock", root, vm);
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (path_make_parents(home.state_fd, relative, 0700) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(fd, 1) < 0)
        abort();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        guest_fd = accept(fd, NULL, NULL);
        guest();
        char byte; /* the client is the one that ends it */
        while (read(guest_fd, &byte, 1) > 0)
            ;
        _exit(0);
    }
    return pid;
}

static bool served(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
