/* What a process that has confined itself may still do: a child of this test does so and tries. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *folder;
static int own = -1, beside = -1, readable = -1;

/* The errno of what is tried, 0 where it succeeds. */
static int open_for(int dir, const char *name, int flags)
{
    CLEAN_FD int fd = openat(dir, name, flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
}

static int socket_of(int family)
{
    CLEAN_FD int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? errno : 0;
}

/* Whoever listens there, a container's daemon for one, would do what it is asked. */
static int connect_beside(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/nothing/listens/here"};
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? errno : 0;
}

static int start_program(void)
{
    const char *const argv[] = {"/bin/true", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    return -process_start(&o, &p, NULL);
}

static int replace_itself(void)
{
    char *const argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    execv(argv[0], argv);
    return errno;
}

static void *nothing(void *p)
{
    return p;
}

static int start_thread(void)
{
    pthread_t t;
    int r = pthread_create(&t, NULL, nothing, NULL);
    return r ? r : pthread_join(t, NULL);
}

static int own_rename(void)
{
    return renameat(own, "made", own, "renamed") < 0 ? errno : unlinkat(own, "renamed", 0) < 0 ? errno : 0;
}

/* As a transient VM's folder goes with its supervisor. */
static int remove_own(void)
{
    CLEAN_FD int above = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return -path_remove_tree(above, "own");
}

enum {
    CONFINED,
    OWN_MAKE,
    OWN_RENAME,
    READ,
    READ_WRITE,
    BESIDE_READ,
    BESIDE_MAKE,
    PASSWD,
    INTERNET,
    UNIX,
    CONNECT,
    START,
    EXEC,
    THREAD,
    REMOVE,
    N
};

static void try_all(int *ret, struct jail_report *report)
{
    const struct jail_path paths[] = {
        {.fd = own, .access = LANDLOCK_OWN},        {.fd = -1, .access = LANDLOCK_OWN},
        {.path = folder, .access = LANDLOCK_CLEAR}, {.path = "/usr", .access = LANDLOCK_READ},
        {.fd = readable, .access = LANDLOCK_READ},
    };
    ret[CONFINED] = -jail_enter(paths, ARRAY_SIZE(paths), report, NULL);
    ret[OWN_MAKE] = open_for(own, "made", O_WRONLY | O_CREAT);
    ret[OWN_RENAME] = own_rename();
    ret[READ] = open_for(readable, "file", O_RDONLY);
    ret[READ_WRITE] = open_for(readable, "file", O_RDWR);
    ret[BESIDE_READ] = open_for(beside, "secret", O_RDONLY);
    ret[BESIDE_MAKE] = open_for(beside, "made", O_WRONLY | O_CREAT);
    ret[PASSWD] = open_for(AT_FDCWD, "/etc/passwd", O_RDONLY);
    ret[INTERNET] = socket_of(AF_INET);
    ret[UNIX] = socket_of(AF_UNIX);
    ret[CONNECT] = connect_beside();
    ret[START] = start_program();
    ret[EXEC] = replace_itself();
    ret[THREAD] = start_thread();
    ret[REMOVE] = remove_own();
}

/* To nobody: what refuses it is not the filter. */
static int connect_internet(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(1)};
    CLEAN_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? errno : 0;
}

static int listen_internet(void)
{
    CLEAN_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return listen(fd, 1) < 0 ? errno : 0;
}

/* A role's list of calls alone, as where namespaces are refused: what it may make a socket of. */
static void try_sockets(enum filter_role role, int *ret)
{
    int pair[2];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || filter_enforce(role) < 0)
        _exit(1);
    ret[5] = connect_internet();
    ret[6] = listen_internet();
    ret[0] = socket_of(AF_INET);
    ret[1] = socket_of(AF_UNIX);
    ret[2] = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? errno : 0;
    ret[3] = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0 ? errno : 0;
    ret[4] = socket_of(AF_NETLINK);
}

static void learn_sockets(enum filter_role role, int e[static 7])
{
    int pair[2];
    if (pipe(pair) < 0)
        abort();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        try_sockets(role, e);
        _exit(write(pair[1], e, 7 * sizeof(*e)) == (ssize_t)(7 * sizeof(*e)) ? 0 : 1);
    }
    close(pair[1]);
    if (fd_read_all(pair[0], e, 7 * sizeof(*e)) < 0 || waitpid(pid, NULL, 0) != pid)
        abort();
    close(pair[0]);
}

static void test_sockets(void)
{
    int e[7] = {-1};
    learn_sockets(FILTER_VMM, e);
    ok(e[2] == 0, "T6: a VMM makes connected pairs (%d)", e[2]);
    ok(e[0] == EPERM, "T6: a VMM makes no socket of the Internet's (%d)", e[0]);
    ok(e[1] == EPERM && e[4] == EPERM, "T6: a VMM makes none of Unix' family, which would reach the host's (%d, %d)",
       e[1], e[4]);
    ok(e[3] == EPERM, "T6: nor a pair of datagram sockets, which reach others without a connection (%d)", e[3]);
    learn_sockets(FILTER_VMM_SOCKETS, e);
    ok(e[1] == 0 && e[2] == 0, "a VMM that makes its own sockets makes Unix ones (%d, %d)", e[1], e[2]);
    ok(e[0] == EPERM && e[3] == EPERM && e[4] == EPERM,
       "T6: a VMM that makes its own sockets makes no others (%d, %d, %d)", e[0], e[3], e[4]);
    learn_sockets(FILTER_NETWORK, e);
    ok(e[0] == 0 && e[5] == 0, "a network process connects the Internet's sockets (%d, %d)", e[0], e[5]);
    ok(e[1] == EPERM && e[4] == EPERM, "a network process makes no socket of Unix' family (%d, %d)", e[1], e[4]);
    ok(e[3] == EPERM && e[6] == EPERM,
       "a network process makes no pair of datagram sockets, and does not listen (%d, %d)", e[3], e[6]);
}

int main(void)
{
    test_sockets();
    folder = tap_folder();
    CLEAN_FD int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    own = path_open_dir(root, "own", NULL);
    beside = path_open_dir(root, "beside", NULL);
    readable = path_open_dir(root, "readable", NULL);
    if (open_for(beside, "secret", O_WRONLY | O_CREAT) != 0 || open_for(readable, "file", O_WRONLY | O_CREAT) != 0)
        return 1;
    struct {
        int errors[N];
        struct jail_report report;
    } got = {0};
    int pair[2];
    if (pipe(pair) < 0)
        return 1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        try_all(got.errors, &got.report);
        _exit(write(pair[1], &got, sizeof(got)) == (ssize_t)sizeof(got) ? 0 : 1);
    }
    close(pair[1]);
    ok(fd_read_all(pair[0], &got, sizeof(got)) == 0 && waitpid(pid, NULL, 0) == pid,
       "a process that has confined itself goes on");
    const int *e = got.errors;
    char text[JAIL_REPORT_MAX];
    jail_report_format(&got.report, text);
    ok(e[CONFINED] == 0 && got.report.seccomp && strstr(text, "seccomp"), "T6: it says what is in force: %s", text);
    ok(e[OWN_MAKE] == 0 && e[OWN_RENAME] == 0, "T6: it makes, renames and removes files in its own folder");
    ok(e[REMOVE] == 0, "T6: it removes its own folder (%d)", e[REMOVE]);
    ok(e[READ] == 0, "T6: it reads what it may read");
    ok(e[UNIX] == 0 && e[THREAD] == 0, "T6: it makes Unix sockets and threads");
    ok(e[INTERNET] == EPERM, "T6: it makes no Internet socket (%d)", e[INTERNET]);
    ok(e[CONNECT] == EPERM, "T6: it connects to no socket (%d)", e[CONNECT]);
    ok(e[START] == EPERM && e[EXEC] == EPERM, "T6: it starts no program (%d, %d)", e[START], e[EXEC]);
    if (got.report.landlock) {
        ok(e[READ_WRITE] == EACCES, "T6: it does not write what it may read (%d)", e[READ_WRITE]);
        ok(e[BESIDE_READ] == EACCES && e[BESIDE_MAKE] == EACCES, "T6: it reads and makes nothing beside (%d, %d)",
           e[BESIDE_READ], e[BESIDE_MAKE]);
        ok(e[PASSWD] == EACCES, "T6: it reads nothing else of the system (%d)", e[PASSWD]);
    } else {
        printf("ok %u - T6: it reads nothing beside # SKIP this kernel has no Landlock\n", ++tap_count);
    }
    fd_closep(&own);
    fd_closep(&beside);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
