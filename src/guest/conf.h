/* /etc/mvm/guest.conf, /etc/passwd and /etc/group. */
#pragma once

#include "base/error.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct service_conf {
    char *name;
    struct msg_strings argv, env;
    char *user, *cwd;
    enum { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS } restart;
    enum { READY_EXECUTED, READY_PORT, READY_COMMAND, READY_NOTIFY } ready; /* what makes it ready */
    unsigned ready_port;
    struct msg_strings ready_argv;
};

struct guest_conf {
    char *hostname;
    bool dhcp; /* the address comes from the network, not from the host */
    struct msg_strings env;
    struct service_conf *services;
    size_t n_services;
};

/* Parses the text (docs/architecture.md has the format). -EINVAL with the line's number. */
int conf_parse(struct guest_conf *c, const char *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;
void conf_done(struct guest_conf *c);

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[32];
    int n_groups;
    char name[33];
    char home[256];
};

/* A user by name or number, from the texts of /etc/passwd and /etc/group. A number that is not listed is that uid with
 * gid the same. */
int user_find(struct user *u, const char *who, const char *passwd, const char *group);
/* The same from the files. */
int user_load(struct user *u, const char *who);
/* Becomes that user. In a child only. */
int user_become(const struct user *u);
