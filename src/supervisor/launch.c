#include "supervisor/launch.h"
#include "base/os.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The host's and the VMM's end of one connection. */
static int make_pair(int *ret_ours, int *ret_theirs)
{
    int fds[2];
    int r = os_stream_pair(fds);
    if (r < 0)
        return r;
    *ret_ours = fds[0];
    *ret_theirs = fds[1];
    return 0;
}

/* What is only read may be opened again by the VMM, as a log's path: a socket could not. */
static int make_pipe(int *ret_ours, int *ret_theirs)
{
    int fds[2];
    int r = os_pipe(fds);
    if (r < 0)
        return r;
    *ret_ours = fds[0];
    *ret_theirs = fds[1];
    return 0;
}

int launch_make_card(int *ret_vmm, int *ret_network)
{
    int fds[2];
    int r = os_datagram_pair(fds);
    if (r < 0)
        return r;
    *ret_vmm = fds[0];
    *ret_network = fds[1];
    return 0;
}

int launched_connect(struct launched *l, int frames_fd, int ends[static LAUNCH_ENDS])
{
    int *const ours[LAUNCH_FRAMES] = {[LAUNCH_CHANNEL] = &l->channel_fd,
                                      [LAUNCH_CONSOLE] = &l->console_fd,
                                      [LAUNCH_CONTROL] = &l->control_fd,
                                      [LAUNCH_LOG] = &l->log_fd};
    int r = 0;
    for (size_t i = 0; r == 0 && i < LAUNCH_FRAMES; i++)
        r = i == LAUNCH_LOG ? make_pipe(ours[i], &ends[i]) : make_pair(ours[i], &ends[i]);
    ends[LAUNCH_FRAMES] = fcntl(frames_fd, F_DUPFD_CLOEXEC, 3);
    return r == 0 && ends[LAUNCH_FRAMES] < 0 ? -errno : r;
}

int launch_vmm(const struct vmm_ops *backend, const struct runfile *run, const struct vmm_source *source,
               const int ends[static LAUNCH_ENDS], struct vmm_started *ret, struct mvm_error *err)
{
    CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
    int r = vmm_plan(&p, run, source, err);
    if (r < 0)
        return r;
    p.config.channel_fd = ends[LAUNCH_CHANNEL];
    p.config.console_fd = ends[LAUNCH_CONSOLE];
    p.config.control_fd = ends[LAUNCH_CONTROL];
    p.config.log_fd = ends[LAUNCH_LOG];
    p.config.frames_fd = ends[LAUNCH_FRAMES];
    p.config.cgroup_fd = source->cgroup_fd;
    p.config.sibling = true;
    return backend->start(&p.config, ret, err);
}

void launched_take(struct launched *l, const struct vmm_started *started)
{
    l->process = started->process;
    l->jail = started->jail;
    l->listen_fd = started->listen_fd;
    if (started->control_fd >= 0) {
        fd_closep(&l->control_fd);
        l->control_fd = started->control_fd;
    }
}

void launched_done(struct launched *l)
{
    fd_closep(&l->channel_fd);
    fd_closep(&l->console_fd);
    fd_closep(&l->control_fd);
    fd_closep(&l->listen_fd);
    fd_closep(&l->log_fd);
}
