/* The image's services. */
#pragma once

#include "guest/conf.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <sys/types.h>

/* Called by the agent. Log lines go through `log`. */
struct service_ops {
    void (*log)(void *data, const char *line);
    void (*state)(void *data, const char *name, const char *state, int code);
    void (*all)(void *data, const struct msg_services *m); /* their state together has changed */
    void *data;
};
/* What services will use, before any is started: why there are none to start ("" where guest.conf was read). */
void services_prepare(const struct service_ops *ops, const char *problem);
/* True where MSG_SERVICES is going to be said. */
bool services_expected(const struct guest_conf *conf);
/* True where that is worth waiting for. */
bool services_slow(const struct guest_conf *conf);
void services_start(const struct guest_conf *conf, int epoll_fd);
/* Says what state they are in, where that has changed or `anew`; first when all have been started. */
void services_report(bool anew);
/* A child ended: true if it was a service. */
bool services_reaped(pid_t pid, int status);
/* An event of the epoll set with that pointer: true if it was a service's. */
bool services_event(void *ptr);
