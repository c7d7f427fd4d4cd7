/*
 * Child processes: argv arrays, never a shell; a pidfd for each; always a deadline.
 * Linux: pidfd_open(2) (5.3), clone3(2) with a cgroup (5.7), close_range(2) (5.9).
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
    pid_t pid;   /* 0 while none */
    int pidfd;   /* -1 while none; readable when the process has ended */
    bool reaped; /* status is valid */
    int status;  /* as from waitpid(2) */
};

#define PROCESS_INIT                                                                                                   \
    {                                                                                                                  \
        .pidfd = -1                                                                                                    \
    }
#define CLEAN_PROCESS CLEANUP(process_done)

struct process_opts {
    const char *const *argv; /* argv[0] is looked up in PATH unless it has a slash; NULL-terminated */
    const char *const *envp; /* NULL: this process's */
    const char *cwd;         /* NULL: this process's */
    int stdin_fd;            /* -1: /dev/null */
    int stdout_fd;           /* -1: /dev/null */
    int stderr_fd;           /* -1: /dev/null */
    const int *keep_fds;     /* further descriptors the child gets under the same numbers */
    size_t n_keep_fds;
    int cgroup_fd;        /* the folder of the cgroup that the child is born in; 0: this process's */
    bool new_session;     /* setsid(2): own session, no controlling terminal */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL: dies when the calling thread does */
    bool sibling;         /* CLONE_PARENT: the child is our parent's, whom it dies with and who waits for it */
};

/* Starts a program. Where exec fails, returns its -errno here (no child is left); -EXDEV where none can be born in the
 * cgroup. ret must be PROCESS_INIT. */
int process_start(const struct process_opts *opts, struct process *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* Waits until the process has ended or the deadline (clock.h) has passed: 0 with p->status set, -ETIMEDOUT. */
int process_wait(struct process *p, uint64_t deadline) MVM_MUST_CHECK;

/* Sends a signal through the pidfd; 0, -ESRCH when it has ended. */
int process_signal(struct process *p, int sig);

/* Kills with SIGKILL if it still runs, reaps, closes. Accepts an empty object. */
void process_done(struct process *p);

/* Exit status as a shell reports it: the code, or 128 + signal. */
int process_exit_code(int status);

/* Runs a program to its end with its output in out (NULL: not wanted) and its error output's tail in errors (NULL:
 * /dev/null). Returns the exit code (>= 0) or -errno; out larger than its maximum gives -EMSGSIZE. */
int process_capture(const struct process_opts *opts, struct buf *out, struct buf *errors, uint64_t deadline,
                    struct mvm_error *err) MVM_MUST_CHECK;

/* This process's environment without the variables whose names begin with `without` (NULL: with all of them), and with
 * `add` ("NAME=value", borrowed; NULL: nothing) unless it has that variable. The caller frees the array alone; NULL: no
 * memory. */
const char **process_environment(const char *without, const char *add);

/* The full path of a program found in PATH, or NULL. The caller frees. */
char *process_find(const char *name);
