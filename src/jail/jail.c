#include "jail/jail.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "jail/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 10000
#define MAX_ARGS  160
#define NO_FILES  "1024"

/* What everyone in a jail may read: programs, libraries and firmware, and what libraries look up. */
static const char *const folders[] = {"/usr", "/lib", "/lib64", "/nix/store"};
static const char *const system_files[] = {"/etc/ld.so.cache", "/etc/alternatives",
                                           "/sys/kernel/mm/transparent_hugepage"};
static const char *const devices[] = {"/dev/null", "/dev/urandom"};
static const char *const proc_files[] = {"/proc/self", "/proc/cpuinfo", "/proc/meminfo"};

char *jail_own_file(const char *name)
{
    static const char *const places[] = {"", "../libexec/mvm"};
    char exe[4096];
    if (os_self_path(exe, sizeof(exe)) < 0)
        return NULL;
    *strrchr(exe, '/') = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        CLEAN_FREE char *path = *places[i] ? path_join(exe, places[i], name, NULL) : path_join(exe, name, NULL);
        if (path && access(path, R_OK) == 0)
            return realpath(path, NULL);
    }
    return NULL;
}

/* ---- The plan ---- */

static void record(struct buf *b, int *r, const char *key, const char *value)
{
    if (*r == 0)
        *r = buf_append(b, key, strlen(key) + 1);
    if (*r == 0)
        *r = buf_append(b, value, strlen(value) + 1);
}

static void record_number(struct buf *b, int *r, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    record(b, r, key, text);
}

static int write_plan(const struct jail_spec *s, const char *shown, bool adopt, int *ret_fd)
{
    CLEAN_BUF struct buf b = BUF_INIT(JAIL_PLAN_MAX - 1);
    int r = 0;
    if (adopt)
        record(&b, &r, "adopt", "");
    if (s->required)
        record(&b, &r, "require", "");
    if (s->network)
        record(&b, &r, "network", "");
    if (s->sockets)
        record(&b, &r, "sockets", "");
    record(&b, &r, "exec", s->program);
    record(&b, &r, "ro", shown);
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        record(&b, &r, "ro", folders[i]);
    for (size_t i = 0; i < ARRAY_SIZE(system_files); i++)
        record(&b, &r, "ro", system_files[i]);
    for (size_t i = 0; i < ARRAY_SIZE(proc_files); i++)
        record(&b, &r, "ro", proc_files[i]);
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
        record(&b, &r, "rw", devices[i]);
    if (s->device)
        record(&b, &r, "rw", s->device);
    for (size_t i = 0; i < s->n_files; i++)
        if (s->files[i].path)
            record(&b, &r, s->files[i].write ? "rw" : "ro", s->files[i].path);
    for (size_t i = 0; i < s->n_fds; i++) {
        if (s->fds[i].fd < 0)
            continue;
        record_number(&b, &r, "keep", (uint64_t)s->fds[i].fd);
        if (s->fds[i].own)
            record_number(&b, &r, "fd-own", (uint64_t)s->fds[i].fd);
        else if (s->fds[i].file)
            record_number(&b, &r, s->fds[i].write ? "fd-rw" : "fd-ro", (uint64_t)s->fds[i].fd);
    }
    record(&b, &r, "nofile", NO_FILES);
    if (s->file_bytes)
        record_number(&b, &r, "fsize", s->file_bytes);
    for (size_t i = 0; s->envp[i]; i++)
        record(&b, &r, "env", s->envp[i]);
    for (size_t i = 0; s->argv[i]; i++)
        record(&b, &r, "arg", s->argv[i]);
    CLEAN_FD int fd = r == 0 ? memfd_create("mvm-jail", MFD_CLOEXEC) : -1;
    if (r == 0 && (fd < 0 || (r = fd_write_all(fd, b.data, b.len)) < 0))
        r = r ? r : -errno;
    *ret_fd = r == 0 ? TAKE_FD(fd) : -1;
    return r;
}

/* ---- bubblewrap's arguments ---- */

struct words {
    const char *v[MAX_ARGS + 1];
    size_t n;
    char *links[ARRAY_SIZE(folders)]; /* targets */
};

static void words_done(struct words *w)
{
    for (size_t i = 0; i < ARRAY_SIZE(w->links); i++)
        free(w->links[i]);
}

static void word(struct words *w, const char *text)
{
    if (w->n < MAX_ARGS)
        w->v[w->n++] = text;
}

static void bind_it(struct words *w, const char *how, const char *path)
{
    word(w, how);
    word(w, path);
    word(w, path);
}

static void bind_folders(struct words *w)
{
    char target[256];
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        ssize_t n = readlink(folders[i], target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        if (n > 0 && (w->links[i] = strdup(target))) {
            word(w, "--symlink");
            word(w, w->links[i]);
            word(w, folders[i]);
        } else {
            bind_it(w, "--ro-bind-try", folders[i]);
        }
    }
}

static void wrap(struct words *w, const struct jail_spec *s, const char *shown, const char *inside, const char *plan,
                 const char *sync)
{
    static const char *const first[] = {"bwrap",         "--unshare-user", "--unshare-pid", "--unshare-ipc",
                                        "--unshare-uts", "--as-pid-1",     "--cap-drop",    "ALL"};
    for (size_t i = 0; i < ARRAY_SIZE(first); i++)
        word(w, first[i]);
    if (!s->network)
        word(w, "--unshare-net");
    bind_folders(w);
    for (size_t i = 0; i < ARRAY_SIZE(system_files); i++)
        bind_it(w, "--ro-bind-try", system_files[i]);
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
        bind_it(w, "--dev-bind-try", devices[i]);
    if (s->device)
        bind_it(w, "--dev-bind-try", s->device);
    word(w, "--proc");
    word(w, "/proc");
    if (strncmp(shown, "/usr/", 5) != 0)
        bind_it(w, "--ro-bind", shown);
    bind_it(w, "--ro-bind", inside);
    for (size_t i = 0; i < s->n_files; i++)
        if (s->files[i].path)
            bind_it(w, s->files[i].write ? "--bind" : "--ro-bind", s->files[i].path);
    word(w, "--remount-ro");
    word(w, "/");
    word(w, "--chdir");
    word(w, "/");
    word(w, inside);
    word(w, plan);
    word(w, sync);
}

/* ---- Starting ---- */

/* One word from inside, and who sent it. 0 at the end of the socket. */
static int hear(int sync, uint64_t deadline, struct jail_word *ret, pid_t *ret_pid)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control = {0};
    struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct pollfd p = {.fd = sync, .events = POLLIN};
    int n = poll(&p, 1, clock_left_ms(deadline));
    if (n <= 0)
        return n < 0 ? -errno : -ETIMEDOUT;
    ssize_t got = fd_recv_message(sync, &m, MSG_CMSG_CLOEXEC);
    if (got < 0)
        return (int)got;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    struct ucred cred;
    if (ret_pid && c && c->cmsg_type == SCM_CREDENTIALS) {
        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
        *ret_pid = cred.pid;
    }
    return got == 0 ? 0 : got == (ssize_t)sizeof(*ret) ? 1 : -EPROTO;
}

/*
 * What is inside waits. bubblewrap's own process, which would only wait for its end, is ended and reaped; the subreaper
 * (we, or our parent) then is the parent of what was its child.
 */
static int adopt(struct process *p, int sync, uint64_t deadline, struct mvm_error *err)
{
    struct jail_word w;
    pid_t pid = 0;
    int r = hear(sync, deadline, &w, &pid);
    if (r <= 0 || w.kind != JAIL_HERE || pid <= 0)
        return mvm_error_set(err, -ENOTSUP, "bubblewrap made no namespaces");
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return mvm_error_errno(err, -errno, "the process cannot be watched");
    process_signal(p, SIGKILL);
    r = process_wait(p, deadline);
    process_done(p);
    *p = (struct process){.pid = pid, .pidfd = pidfd};
    w = (struct jail_word){.kind = JAIL_GO};
    if (r == 0 && send(sync, &w, sizeof(w), MSG_NOSIGNAL) != (ssize_t)sizeof(w))
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "the jail") : 0;
}

static int hear_all(const struct jail_spec *s, int sync, uint64_t deadline, struct jail_report *report,
                    struct mvm_error *err)
{
    struct jail_word w;
    int r;
    while ((r = hear(sync, deadline, &w, NULL)) > 0) {
        w.step[sizeof(w.step) - 1] = '\0';
        if (w.kind == JAIL_FAILED)
            return mvm_error_errno(err, -w.error, "cannot start %s: %s", s->argv[0], w.step);
        report->landlock = w.landlock;
        report->seccomp = true;
    }
    if (r == 0 && !report->seccomp)
        r = -ECHILD;
    return r < 0 ? mvm_error_errno(err, r, "cannot start %s", s->argv[0]) : 0;
}

/* What may be read for the program's sake: a VMM's folder has firmware in it, beside that of a network process may lie
 * anything. The caller frees. */
static char *shown_for(const struct jail_spec *s)
{
    size_t n = (size_t)(strrchr(s->program, '/') - s->program);
    return s->network ? strdup(s->program) : n ? strndup(s->program, n) : strdup("/usr");
}

static int start(const struct jail_spec *s, const char *inside, bool namespaces, struct process *ret,
                 struct jail_report *report, struct mvm_error *err)
{
    CLEAN_FREE char *shown = shown_for(s);
    CLEAN_FD int plan = -1;
    int pair[2];
    int r = shown ? write_plan(s, shown, namespaces, &plan) : -ENOMEM;
    if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        r = -errno;
    if (r < 0)
        return mvm_error_errno(err, r, "the jail");
    CLEAN_FD int ours = pair[0];
    CLEAN_FD int theirs = pair[1];
    const int one = 1;
    (void)!setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
    char plan_text[12], sync_text[12];
    snprintf(plan_text, sizeof(plan_text), "%d", plan);
    snprintf(sync_text, sizeof(sync_text), "%d", theirs);
    CLEANUP(words_done) struct words w = {0};
    if (namespaces)
        wrap(&w, s, shown, inside, plan_text, sync_text);
    else
        w = (struct words){.v = {inside, plan_text, sync_text}, .n = 3};
    int keep[16] = {plan, theirs};
    size_t n_keep = 2;
    for (size_t i = 0; i < s->n_fds && n_keep < ARRAY_SIZE(keep); i++)
        if (s->fds[i].fd >= 0)
            keep[n_keep++] = s->fds[i].fd;
    static const char *const no_environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    const struct process_opts o = {
        .argv = w.v,
        .envp = no_environment,
        .stdin_fd = -1,
        .stdout_fd = s->output_fd ? s->output_fd : s->log_fd,
        .stderr_fd = s->log_fd,
        .keep_fds = keep,
        .n_keep_fds = n_keep,
        .cgroup_fd = s->cgroup_fd,
        .die_with_parent = true,
        .sibling = s->sibling && !namespaces,
    };
    uint64_t deadline = clock_deadline(ANSWER_MS);
    r = process_start(&o, ret, err);
    fd_closep(&theirs);
    if (r == 0 && namespaces)
        r = adopt(ret, ours, deadline, err);
    if (r == 0)
        r = hear_all(s, ours, deadline, report, err);
    if (r < 0)
        process_done(ret);
    report->namespaces = namespaces;
    return r;
}

static bool is_elf(const char *path)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    char magic[4];
    return fd >= 0 && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) && memcmp(magic, "\177ELF", 4) == 0;
}

/* Nothing can be confined: the caller decides whether that matters. */
static int unconfined(struct jail_report *report, struct mvm_error *err, const char *what, const char *why)
{
    snprintf(report->missing, sizeof(report->missing), "%.150s%s", what, why);
    return mvm_error_set(err, -ENOEXEC, "%s", report->missing);
}

int jail_start(const struct jail_spec *s, struct process *ret, struct jail_report *report, struct mvm_error *err)
{
    CLEAN_FREE char *inside = jail_own_file("mvm-jail");
    *report = (struct jail_report){0};
    if (!inside)
        return unconfined(report, err, "mvm-jail", " is not beside mvmctl");
    if (!is_elf(s->program))
        return unconfined(report, err, s->program, " is a script");
    CLEAN_FREE char *bwrap = process_find("bwrap");
    const char *missing = "";
    int r = -ENOENT;
    if (bwrap && (s->sibling || prctl(PR_SET_CHILD_SUBREAPER, 1) == 0))
        r = start(s, inside, true, ret, report, err);
    if (r == -ENOENT || r == -ENOTSUP) {
        missing = bwrap ? "bubblewrap can make no namespaces here" : "bubblewrap is not installed";
        r = start(s, inside, false, ret, report, err);
    }
    snprintf(report->missing, sizeof(report->missing), "%s%s%s", missing,
             r == 0 && report->landlock ? ""
             : *missing                 ? ", and "
                                        : "",
             r == 0 && report->landlock ? "" : "this kernel has no Landlock");
    return s->required && r == -ENOSYS ? mvm_error_set(err, r, "%s", report->missing) : r;
}

void jail_report_format(const struct jail_report *r, char ret[static JAIL_REPORT_MAX])
{
    char landlock[24] = "";
    if (r->landlock)
        snprintf(landlock, sizeof(landlock), "Landlock %d, ", r->landlock);
    if (!r->seccomp)
        snprintf(ret, JAIL_REPORT_MAX, "none: %s", r->missing);
    else
        snprintf(ret, JAIL_REPORT_MAX, "%s%sseccomp%s%s%s", r->namespaces ? "namespaces, " : "", landlock,
                 r->missing[0] ? " (" : "", r->missing, r->missing[0] ? ")" : "");
}
