/*
 * Publishing ports: the sockets are bound here, before anything is started, so that what is wrong with them is said at
 * once; the VM's supervisor, which makes no Internet socket, gets them over its control socket (MSG_PORTS).
 */
#pragma once

#include "machine/client.h"
#include "vmdir/port_spec.h"

struct port_sockets {
    struct port_spec specs[PORTS_MAX]; /* the ports that were free are filled in */
    int fds[PORTS_MAX];
    size_t n;
    bool given; /* to a supervisor */
};

static inline void port_sockets_donep(struct port_sockets **p);
#define CLEAN_PORT_SOCKETS CLEANUP(port_sockets_donep)

/* Binds them. Where one is in use the error says by which VM or process, where that can be known. */
int port_sockets_open(struct home *h, const struct port_spec *v, size_t n, struct port_sockets **ret,
                      struct mvm_error *err) MVM_MUST_CHECK;
/* NULL is nothing. Removes what was made in the file system, unless it was given. */
void port_sockets_free(struct port_sockets *p);

/* Has the VM publish those (NULL: none) and take back others, at once or not at all. tied: until this client leaves. */
int client_ports(struct client *c, struct port_sockets *publish, const struct port_spec *unpublish, size_t n_unpublish,
                 bool tied, struct mvm_error *err) MVM_MUST_CHECK;
/* The same for a VM that was just started, whose account of itself gets the ports. */
int ports_publish(struct home *h, const char *name, struct port_sockets *p, struct msg_status *st,
                  struct mvm_error *err) MVM_MUST_CHECK;

/* The ports of a VM's account of itself; how many. */
size_t ports_of_status(const struct msg_status *st, struct port_spec ret[static PORTS_MAX]);

static inline void port_sockets_donep(struct port_sockets **p)
{
    port_sockets_free(*p);
}
