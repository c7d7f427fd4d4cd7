/*
 * mvm-jail PLAN-FD SOCKET-FD: the last program before the VMM or its network process, inside the namespaces where there
 * are some. It closes what was not named, sets limits, gives up new privileges, puts Landlock and seccomp in force,
 * says so, and executes the program. Static, so that it needs nothing of the root that it was given (jail.c, which
 * starts it).
 */
#include "jail/landlock.h"
#include "jail/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_WORDS 256
#define MAX_FD    1024

static struct {
    char text[JAIL_PLAN_MAX];
    size_t len;
    const char *exec;
    char *argv[MAX_WORDS + 1], *envp[MAX_WORDS + 1];
    size_t n_argv, n_envp;
    bool adopt, require;
    enum filter_role role;
    bool keep[MAX_FD];
    int sync;
} jail;

static void say(const struct jail_word *w)
{
    ssize_t n = send(jail.sync, w, sizeof(*w), MSG_NOSIGNAL);
    (void)n;
}

static void die(const char *what, int r)
{
    struct jail_word w = {.kind = JAIL_FAILED, .error = -r};
    snprintf(w.step, sizeof(w.step), "%s", what);
    say(&w);
    _exit(127);
}

static void load_plan(int fd)
{
    ssize_t n;
    while (jail.len < sizeof(jail.text) &&
           (n = pread(fd, jail.text + jail.len, sizeof(jail.text) - jail.len, (off_t)jail.len)) > 0)
        jail.len += (size_t)n;
    if (jail.len == 0 || jail.len == sizeof(jail.text) || jail.text[jail.len - 1] != '\0')
        die("plan", -EINVAL);
    close(fd);
}

/* The next record; false at the end. */
static bool next(size_t *at, const char **key, char **value)
{
    if (*at >= jail.len)
        return false;
    *key = jail.text + *at;
    *at += strlen(*key) + 1;
    if (*at >= jail.len)
        die("plan", -EINVAL);
    *value = jail.text + *at;
    *at += strlen(*value) + 1;
    return true;
}

static void limit(int what, const char *value)
{
    struct rlimit l;
    rlim_t want = strtoull(value, NULL, 10);
    if (getrlimit((__rlimit_resource_t)what, &l) < 0)
        return;
    if (want < l.rlim_max)
        l.rlim_max = want;
    l.rlim_cur = l.rlim_max;
    if (setrlimit((__rlimit_resource_t)what, &l) < 0)
        die("limits", -errno);
}

static void take(const char *key, char *value)
{
    int fd = atoi(value);
    if (strcmp(key, "arg") == 0 && jail.n_argv < MAX_WORDS)
        jail.argv[jail.n_argv++] = value;
    else if (strcmp(key, "env") == 0 && jail.n_envp < MAX_WORDS)
        jail.envp[jail.n_envp++] = value;
    else if (strcmp(key, "exec") == 0)
        jail.exec = value;
    else if (strcmp(key, "adopt") == 0)
        jail.adopt = true;
    else if (strcmp(key, "require") == 0)
        jail.require = true;
    else if (strcmp(key, "network") == 0)
        jail.role = FILTER_NETWORK;
    else if (strcmp(key, "sockets") == 0)
        jail.role = FILTER_VMM_SOCKETS;
    else if (strcmp(key, "keep") == 0 && fd >= 0 && fd < MAX_FD)
        jail.keep[fd] = true;
    else if (strcmp(key, "fsize") == 0)
        limit(RLIMIT_FSIZE, value);
    else if (strcmp(key, "nofile") == 0)
        limit(RLIMIT_NOFILE, value);
}

/*
 * bubblewrap's process stands between us and the supervisor: the supervisor ends it, becomes our parent (it is the
 * subreaper) and says so. From then on our death is tied to its, as if it had started us itself. Where it died before
 * that, the socket has ended.
 */
static void be_adopted(void)
{
    struct jail_word w = {.kind = JAIL_HERE};
    say(&w);
    if (recv(jail.sync, &w, sizeof(w), 0) != (ssize_t)sizeof(w) || w.kind != JAIL_GO)
        _exit(127);
    struct pollfd p = {.fd = jail.sync};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&p, 1, 0) < 0 || (p.revents & POLLHUP))
        _exit(127);
}

static void close_others(void)
{
    unsigned first = 3;
    jail.keep[jail.sync] = true;
    for (unsigned fd = 3; fd < MAX_FD; fd++) {
        if (!jail.keep[fd])
            continue;
        if (fd > first)
            syscall(SYS_close_range, first, fd - 1, 0);
        first = fd + 1;
    }
    syscall(SYS_close_range, first, ~0u, 0);
}

/* The ABI in force; 0: none. */
static int confine_files(void)
{
    int abi = 0, rules = landlock_open(false, &abi), r = rules < 0 ? rules : 0;
    const char *key;
    char *value;
    for (size_t at = 0; r == 0 && next(&at, &key, &value);) {
        if (strcmp(key, "ro") == 0 || strcmp(key, "rw") == 0)
            r = landlock_path(rules, abi, value, key[1] == 'w' ? LANDLOCK_WRITE : LANDLOCK_RUN);
        else if (strcmp(key, "fd-ro") == 0 || strcmp(key, "fd-rw") == 0)
            r = landlock_fd(rules, abi, atoi(value), key[4] == 'w' ? LANDLOCK_WRITE : LANDLOCK_RUN);
        else if (strcmp(key, "fd-own") == 0)
            r = landlock_fd(rules, abi, atoi(value), LANDLOCK_OWN);
    }
    if (r == 0)
        r = landlock_enforce(rules);
    if (rules >= 0)
        close(rules);
    if (r == 0)
        return abi;
    if (r != -ENOSYS && r != -EOPNOTSUPP)
        die("Landlock", r);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    jail.sync = atoi(argv[2]);
    if (jail.sync < 3 || jail.sync >= MAX_FD || fcntl(jail.sync, F_SETFD, FD_CLOEXEC) < 0)
        return 2;
    load_plan(atoi(argv[1]));
    const char *key;
    char *value;
    for (size_t at = 0; next(&at, &key, &value);)
        take(key, value);
    if (!jail.exec || !jail.n_argv)
        die("plan", -EINVAL);
    if (jail.adopt)
        be_adopted();
    close_others();
    limit(RLIMIT_CORE, "0");
    umask(077);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die("no new privileges", -errno);
    struct jail_word w = {.kind = JAIL_CONFINED, .landlock = confine_files()};
    if (!w.landlock && !jail.adopt && jail.require)
        die("Landlock", -ENOSYS);
    say(&w); /* before the filter, so that what it takes away does not matter */
    int r = filter_enforce(jail.role);
    if (r < 0)
        die("seccomp", r);
    execve(jail.exec, jail.argv, jail.envp);
    die(jail.exec, -errno);
}
