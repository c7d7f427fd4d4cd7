#include "vmm/socket_vmm.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FOLDER    "vmm"
#define LISTEN_MS 10000 /* until it takes commands: milliseconds, on a loaded host more */

int socket_vmm_folder(const struct vmm_config *c, struct mvm_error *err)
{
    return path_open_dir(c->dir_fd, FOLDER, err);
}

/* Of the VMM before: it may still be ending, and has nothing of what is made now. */
static int clear(int folder)
{
    static const char *const names[] = {SOCKET_VMM_API, SOCKET_VMM_VSOCK, SOCKET_VMM_AGENT, SOCKET_VMM_STATE};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (unlinkat(folder, names[i], 0) < 0 && errno != ENOENT)
            return -errno;
    return 0;
}

static int stream_socket(void)
{
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int r = fd < 0 ? -errno : fd_set_cloexec(fd, true);
    if (r == 0)
        r = fd_set_nonblock(fd, true);
    return r < 0 ? r : TAKE_FD(fd);
}

/* Where the VMM connects on behalf of the guest's agent. */
static int listen_for_agent(int folder)
{
    struct sockaddr_un a;
    int r = os_socket_address(folder, SOCKET_VMM_AGENT, &a);
    CLEAN_FD int fd = r < 0 ? r : stream_socket();
    if (fd < 0)
        return fd;
    if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int socket_vmm_connect(const struct process *p, int folder, struct mvm_error *err)
{
    struct sockaddr_un a;
    int r = os_socket_address(folder, SOCKET_VMM_API, &a);
    if (r < 0)
        return mvm_error_errno(err, r, "the VMM's command socket");
    const uint64_t deadline = clock_deadline(LISTEN_MS);
    while (clock_left_ms(deadline) > 0) {
        CLEAN_FD int fd = stream_socket();
        if (fd < 0)
            return mvm_error_errno(err, fd, "the VMM's command socket");
        if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
            return TAKE_FD(fd);
        if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN)
            return mvm_error_errno(err, -errno, "the VMM's command socket");
        struct pollfd ended = {.fd = p->pidfd, .events = POLLIN};
        if (poll(&ended, 1, 1) > 0)
            return mvm_error_set(err, -ECHILD, "the VMM ended before it took commands: mvmctl logs has its words");
    }
    return mvm_error_set(err, -ETIMEDOUT, "the VMM took no commands within %d s", LISTEN_MS / 1000);
}

/* A script in the program's place may need anything. */
static int start_plain(const struct vmm_config *c, const char *const *argv, const int *keep, size_t n_keep,
                       struct process *ret, struct mvm_error *err)
{
    const struct process_opts o = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = c->console_fd,
        .stderr_fd = c->log_fd,
        .keep_fds = keep,
        .n_keep_fds = n_keep,
        .cgroup_fd = c->cgroup_fd,
        .die_with_parent = true,
        .sibling = c->sibling,
    };
    return process_start(&o, ret, err);
}

static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};

static int start_jailed(const struct vmm_config *c, const struct program *program, const char *const *argv, int folder,
                        int memory, struct vmm_started *ret, struct mvm_error *err)
{
    CLEAN_FREE char *path = program_find(program, err);
    if (!path)
        return -ENOENT;
    struct jail_file files[VMM_MAX_DISKS + 2] = {{c->incoming ? NULL : c->kernel, false},
                                                 {c->incoming ? NULL : c->initrd, false}};
    for (unsigned i = 0; i < c->n_disks; i++)
        files[i + 2] = (struct jail_file){c->disks[i].path, !c->disks[i].read_only};
    const struct jail_fd fds[] = {{.fd = folder, .own = true}, {.fd = memory, .file = true, .write = c->memory_shared}};
    const struct jail_spec spec = {
        .program = path,
        .argv = argv,
        .envp = environment,
        .files = files,
        .n_files = c->n_disks + 2,
        .fds = fds,
        .n_fds = ARRAY_SIZE(fds),
        .device = "/dev/kvm",
        .output_fd = c->console_fd,
        .log_fd = c->log_fd,
        .sockets = program->sockets,
        .file_bytes = program_largest_file(c),
        .cgroup_fd = c->cgroup_fd,
        .sibling = c->sibling,
        .required = c->confine,
    };
    int r = jail_start(&spec, &ret->process, &ret->jail, err);
    const int keep[] = {folder, memory};
    if (r == -ENOEXEC && !c->confine)
        r = start_plain(c, argv, keep, memory >= 0 ? 2 : 1, &ret->process, err);
    else if (r == -ENOEXEC || r == -ENOSYS)
        mvm_error_wrap(err, "the VMM cannot be confined");
    return r;
}

/* A duplicate under that number, which nothing has: a launcher has few descriptors. */
static int place(int fd, int number)
{
    CLEAN_FD int at = fcntl(fd, F_DUPFD_CLOEXEC, number);
    if (at < 0)
        return -errno;
    return at == number ? TAKE_FD(at) : -EBUSY;
}

int socket_vmm_prepare(const struct vmm_config *c, int *ret_listener, struct mvm_error *err)
{
    CLEAN_FD int folder = socket_vmm_folder(c, err);
    if (folder < 0)
        return folder;
    CLEAN_FD int there = place(folder, SOCKET_VMM_FOLDER_FD);
    int r = there < 0 ? there : clear(folder);
    if (r == 0)
        r = *ret_listener = listen_for_agent(there);
    return r < 0 ? mvm_error_errno(err, r, "the VMM's folder") : TAKE_FD(there);
}

int socket_vmm_start(const struct vmm_config *c, const struct program *p, const char *const *argv,
                     struct vmm_started *ret, struct mvm_error *err)
{
    CLEAN_FD int listener = -1;
    CLEAN_FD int memory = c->memory_fd >= 0 ? place(c->memory_fd, SOCKET_VMM_MEMORY_FD) : -1;
    if (c->memory_fd >= 0 && memory < 0)
        return mvm_error_errno(err, memory, "the VMM's memory");
    CLEAN_FD int folder = socket_vmm_prepare(c, &listener, err);
    if (folder < 0)
        return folder;
    int r = start_jailed(c, p, argv, folder, memory, ret, err);
    if (r < 0)
        return r;
    r = ret->control_fd = socket_vmm_connect(&ret->process, folder, err);
    if (r < 0) {
        process_done(&ret->process);
        return r;
    }
    ret->listen_fd = TAKE_FD(listener);
    return 0;
}
