/*
 * What confines a VMM or its network process: bubblewrap makes namespaces (user, mount, pid, ipc, uts, and network for
 * a VMM) with a root of read-only binds and this VM's files, and in it mvm-jail (inside.c) adds Landlock, an allow-list
 * of system calls and limits before it executes the program. Where bubblewrap is missing or namespaces are refused:
 * mvm-jail alone. The program is the caller's own child either way, with its true exit status, and dies with the
 * calling thread.
 */
#pragma once

#include "base/error.h"
#include "base/process.h"
#include "jail/landlock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jail_file {
    const char *path; /* absolute; NULL: none */
    bool write;
};

struct jail_fd {
    int fd;           /* stays open under its number; -1: none */
    bool file, write; /* it is opened again by /proc/self/fd: what may be done then */
    bool own;         /* a folder, in which all may be done: files and sockets made and opened */
};

struct jail_spec {
    const char *program;     /* absolute */
    const char *const *argv; /* NULL-terminated */
    const char *const *envp; /* all of its environment */
    const struct jail_file *files;
    size_t n_files;
    const struct jail_fd *fds;
    size_t n_fds;
    const char *device;  /* what it is accelerated by, where it is there; NULL: nothing */
    int output_fd;       /* standard output; 0: as the next */
    int log_fd;          /* standard error */
    bool network;        /* is left the host's network, and may make sockets of the Internet's families */
    bool sockets;        /* a VMM that makes, listens on and connects to sockets in the file system */
    uint64_t file_bytes; /* no file may become larger; 0: no limit */
    int cgroup_fd;       /* the folder of the cgroup that it is born in; 0: the caller's */
    bool sibling;        /* it becomes a child of the caller's parent, which is a subreaper */
    bool required;       /* fails where neither namespaces nor Landlock can be had */
};

/* What is in force. */
struct jail_report {
    bool namespaces;
    int landlock; /* ABI; 0: none */
    bool seccomp;
    char missing[192]; /* why less than all of it is, "" where all is */
    char limits[128];  /* as cgroup_bounds_format() has them, or "none: " and why; the caller's, who made the cgroup */
};

/* Starts it. -EXDEV where it cannot be born in the cgroup; -ENOEXEC where this program cannot be confined: a script on
 * PATH (anything may be behind it), or mvm-jail is not beside mvmctl; nothing was started then. */
int jail_start(const struct jail_spec *s, struct process *ret, struct jail_report *report,
               struct mvm_error *err) MVM_MUST_CHECK;

/* What a process that confines itself may still reach. */
struct jail_path {
    const char *path; /* absolute; NULL: fd */
    int fd;           /* -1: none */
    enum landlock_access access;
};

/* Confines the calling process, which has one thread, for the rest of its life, as a supervisor: these paths (where the
 * kernel has Landlock), no program, no socket but Unix ones, no new privileges. */
int jail_enter(const struct jail_path *paths, size_t n, struct jail_report *report,
               struct mvm_error *err) MVM_MUST_CHECK;

/* One line: "namespaces, Landlock 7, seccomp", "none: /opt/vmm is a script". */
#define JAIL_REPORT_MAX 256
void jail_report_format(const struct jail_report *r, char ret[static JAIL_REPORT_MAX]);

/* The full path of a file of this installation (mvm-jail, mvm-preload.so), or NULL. The caller frees. */
char *jail_own_file(const char *name);
