/*
 * What is published: a port of this host, or a socket of Unix' family, that leads to a port in a guest.
 *
 *     [ADDRESS:]HOST:GUEST[/tcp|udp]    8080:80   127.0.0.1:5353:53/udp   [::1]:8080:80   8000-8009:8000-8009
 *     unix:PATH:GUEST
 *
 * The address is a number, 127.0.0.1 where it is left out; HOST 0 is a free port.
 */
#pragma once

#include "base/error.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port_spec {
    char address[INET6_ADDRSTRLEN]; /* "127.0.0.1", "::1"; "" for a path */
    char path[108];                 /* absolute, as sockaddr_un has it; "" for an address */
    uint16_t host;                  /* 0: a free one, or it is a path */
    uint16_t guest;
    uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
};

#define PORT_SPEC_MAX_TEXT 160

/* Reads one, or a range: at most max of them. -EINVAL with phase usage, which names what is wrong. */
int port_spec_parse(const char *text, struct port_spec *ret, size_t max, size_t *ret_n,
                    struct mvm_error *err) MVM_MUST_CHECK;
/* The full form of one: "127.0.0.1:8080:80/tcp", "[::1]:8080:80/tcp", "unix:/run/web:80/tcp". */
void port_spec_format(const struct port_spec *p, char out[static PORT_SPEC_MAX_TEXT]);
/* "127.0.0.1:8080", "[::1]:8080" or the path. */
void port_spec_format_host(const struct port_spec *p, char out[static PORT_SPEC_MAX_TEXT]);
const char *port_spec_protocol(const struct port_spec *p);
/* Whether both are the same place of this host; a free port is none yet. */
bool port_spec_same_host(const struct port_spec *a, const struct port_spec *b);
/* -EINVAL with phase usage where two of them are the same place. */
int port_specs_check(const struct port_spec *v, size_t n, struct mvm_error *err) MVM_MUST_CHECK;
/* The address for bind(2); its length. */
struct sockaddr_storage;
socklen_t port_spec_address(const struct port_spec *p, struct sockaddr_storage *ret);
/* Removes a socket of this user's on which nothing listens, as a supervisor that was killed leaves it: true if it did.
 * What has taken its place meanwhile stays. */
bool port_socket_remove_stale(const char *path);
