/* Starts programs. */
#pragma once

#include "guest/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum spawn_step { SPAWN_SETUP, SPAWN_CWD, SPAWN_EXEC };

/* Where starting a program failed. */
struct spawn_failure {
    enum spawn_step step;
    char interpreter[256]; /* the program is there, and this one, which it needs, is not; "": another reason */
};

struct spawn {
    char *const *argv;
    const struct msg_strings *env[2]; /* later ones win; NULL: none */
    const struct user *user;
    const char *cwd;               /* NULL: home */
    int in, out, err;              /* descriptors */
    bool terminal;                 /* `in` is the terminal to control */
    struct spawn_failure *failure; /* filled where it fails; NULL: not wanted */
};

/* Starts a program in its own session. The pid, or -errno of what failed (exec included). */
pid_t spawn_start(const struct spawn *s);
/* Says why it could not be started: what spawn_start() returned for s, whose `failure` is set. The exit status that a
 * shell has for it. */
int spawn_describe(const struct spawn *s, int error, char *why, size_t size);
