/* The host's resolvers, as resolv.conf(5) names them. The file is another one whenever the host's network changes, and
 * a process in a jail sees the one of its start for ever: it asks its launcher for the text (supervisor/launcher.h), or
 * reads it where there is none. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define RESOLVERS_MAX  3 /* as resolv.conf(5) has */
#define RESOLVERS_TEXT 8192
#define RESOLVERS_FILE "/etc/resolv.conf"

struct resolver {
    struct sockaddr_storage address;
    socklen_t len;
};

struct resolvers {
    struct resolver v[RESOLVERS_MAX];
    unsigned n;
    int ask_fd; /* packets: any asks, the answer is the text; -1: the file can be read */
    uint64_t asked_at;
};

/* The servers that the text names; the local host where it names none, as libc has it. */
void resolvers_parse(struct resolvers *r, const char *text, size_t n);
/* Learns the first ones. */
void resolvers_init(struct resolvers *r, int ask_fd);
/* Asks again where the last time is a second ago. True where other ones are known now; where they come later, ask_fd
 * is readable. */
bool resolvers_ask(struct resolvers *r, uint64_t now);
/* For the other side of ask_fd, which is readable: sends the text. False at its end. */
bool resolvers_answer(int fd);
/* ask_fd is readable. True where they are other ones than before. */
bool resolvers_hear(struct resolvers *r);
