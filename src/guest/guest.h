/* What the files of mvm-init share. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "wire/msg.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- boot.c: from the kernel's first process to a usable root ---- */

/* Role of /init in an initrd: loads modules, mounts the root, switches to it and executes mvm.init. Returns only on
 * failure. */
int boot_initrd(struct mvm_error *err);
/* With mvm.layer on the kernel command line, where the kernel has mounted the root itself: puts a layer in memory above
 * it and switches to that. Makes the early mounts in any case. */
int boot_layer(struct mvm_error *err);
/* The mounts that the agent's channel does not need. */
void boot_late_mounts(void);
/* Puts the 8254 into one-shot mode: its periodic tick wakes the VMM of an idle guest 36 times a second. */
void boot_stop_pit(void);
/* True under QEMU's software emulation. */
bool boot_emulated(void);
/* Programs are loaded at the same addresses each time. */
void boot_fix_addresses(void);
/* The value of a parameter of the kernel command line ("" where it is set without one); false where it is absent. */
bool boot_param(const char *cmdline, const char *name, char *out, size_t size);
/* Reads /proc/cmdline. */
const char *boot_cmdline(void);
/* Ends everything, syncs, unmounts, powers off. Does not return. */
void boot_power_off(void) __attribute__((noreturn));

/* Kernel log and console, for what happens before the channel is there. */
void boot_log(const char *fmt, ...) MVM_PRINTF(1, 2);
/* Makes an empty file in place of what is there, to be written later by its descriptor, or -errno. */
int boot_prepare_file(const char *folder, const char *name, mode_t mode);

/* ---- count.c: what a start costs, in counting mode ---- */

#define COUNT_STEPS 4

/* What the instruction counter said at the steps of a start. */
struct count {
    struct {
        const char *name;
        uint64_t at;
    } steps[COUNT_STEPS];
    unsigned n;
};

struct count_log {
    void (*line)(void *data, const char *line);
};

/* True where the kernel command line has `mvm.count`. */
bool count_wanted(void);
/* Takes the counter down; the name is kept. */
void count_note_instructions(struct count *c, const char *name);
/* Writes the steps to the log and forgets them. */
void count_report(struct count *c, const struct count_log *log);
/* What the kernel has logged about its initcalls and about starting init, with the log's own clock in microseconds. */
void count_report_kernel(const struct count_log *log);

/* ---- net.c ---- */

/* What needs no address: loopback and the first other network card come up, files and sockets are opened. A guest
 * restored from a snapshot has little left to do then. */
void net_prepare(void);
/* The first network card that is not the loopback gets the host's address, or with `dhcp` one from a DHCP server (which
 * a child of this process then renews). again: it has been called before; a lease is kept. Afterwards m says what is in
 * use. A problem in words, "" for none. */
void net_configure(struct msg_configure *m, bool dhcp, bool again, char *problem, size_t size);

/* This process, and what it starts, gets a network of its own that has a loopback and nothing else. 0 or -errno. */
int net_isolate(void);

/* ---- conf.c: /etc/mvm/guest.conf and /etc/passwd ---- */

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

/* ---- spawn.c ---- */

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

/* ---- interpreter.c ---- */

/* Where a program is there, as execvpe(3) looks for it in path, but not the loader of its ELF file, or the interpreter
 * of its script: true, with that one's name. cwd: where it is looked for from. */
bool interpreter_missing(const char *program, const char *path, const char *cwd, char *out, size_t size);
/* The interpreter that a program names; false where it names none. Linux, fs/binfmt_script.c, fs/binfmt_elf.c. */
bool interpreter_of(int fd, char *out, size_t size);

/* ---- worker.c: what serves one stream, in a process of its own ---- */

/* Serves the request on the socket (SOCK_SEQPACKET: channel byte, payload). Does not return. job: a build's number. */
void worker_main(int sock, const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job)
    __attribute__((noreturn));

/* One packet to the agent. 0 or -errno; where the kernel has no memory for it, after some seconds. */
int worker_send(int sock, uint8_t channel, const void *p, size_t n);
/* One packet from the agent into b (first byte the channel): 1, 0 at the end of the stream, -errno. */
int worker_recv(int sock, struct buf *b);
/* The message with which a request ends, and the worker's end; r: -errno where it could not be made. */
void worker_last(int sock, const struct buf *b, int r) __attribute__((noreturn));
/* The same with MSG_EXIT. */
void worker_exit(int sock, uint64_t code, const char *problem) __attribute__((noreturn));

void exec_serve(int sock, const struct msg_exec *m, const struct guest_conf *conf) __attribute__((noreturn));
void push_serve(int sock, const struct msg_transfer *m) __attribute__((noreturn));
void pull_serve(int sock, const struct msg_transfer *m) __attribute__((noreturn));
void flood_serve(int sock, const struct msg_flood *m) __attribute__((noreturn));
void build_serve(int sock, const struct msg_build *m, unsigned job) __attribute__((noreturn));
/* Takes away what a job has left, whichever way it ended: processes, cgroup, work folder. In a process of its own. */
void build_clean(unsigned job);

/* ---- relay.c: the agent's side of the workers ---- */

struct mux;
/* For a new connection: the multiplexer to serve, and the loop's epoll set. */
void relay_init(struct mux *mux, int epoll, const struct guest_conf *conf, bool builder);
/* The multiplexer's events (wire/mux.h), once the guest is configured. */
int relay_open(uint32_t stream, const void *p, size_t n);
int relay_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n);
void relay_closed(void *data, uint32_t stream);
void relay_reset(void *data, uint32_t stream, const char *reason);
void relay_writable(void *data, uint32_t stream);
/* An event of the epoll set with that pointer; a child that ended; room was made; the connection is lost. */
void relay_event(void *ptr, uint32_t events);
void relay_reaped(pid_t pid, int status);
void relay_watch(void);
void relay_end_all(void);
/* True where a stream is served or its end is awaited. */
bool relay_busy(void);

/* ---- ending.c: who asks pid 1 to end the guest ---- */

/* Adds the signals that do. */
void ending_signals(sigset_t *set);
/* What one of them asks for. */
enum ending ending_of_signal(int sig);

/* ---- oom.c: what the kernel has ended for want of memory ---- */

/* Reads the kernel's log: true where that process was. */
bool oom_killed(pid_t pid);
/* This process and what it starts may be ended when memory runs out: pid 1, which they come from, is spared. */
void oom_spare_no_more(void);
/* True for a record of the log that says so of that process. */
bool oom_names(const char *record, pid_t pid);

/* ---- agent.c ---- */

/* The main loop of pid 1. Does not return. */
void agent_run(bool builder, uint64_t boot_ns) __attribute__((noreturn));

/* ---- service.c ---- */

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

/* The workers' folder for builds, below /nix. */
#define BUILD_WORK  "/nix/mvm-work"
#define BUILD_FILES "/nix/mvm-sources"
#define BUILD_HOME  "/nix/mvm-home"
#define CGROUP      "/sys/fs/cgroup"
