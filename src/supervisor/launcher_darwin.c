/* On macOS nothing confines a supervisor, which therefore starts its VMMs and network processes itself. */
#include "supervisor/launch_network.h"
#include "supervisor/launcher.h"

#include <errno.h>
#include <unistd.h>

static const struct runfile *run;
static int vm_dir;

int launcher_start(struct launcher *l, const struct runfile *r, int dirfd, struct mvm_error *err)
{
    int e = launch_make_card(&l->frames_fd, &l->network_frames_fd);
    l->fd = -1;
    run = r;
    if (r->member_of[0])
        return mvm_error_set(err, -ENOTSUP, "networks between VMs are there on Linux only so far");
    vm_dir = dirfd;
    return e < 0 ? mvm_error_errno(err, e, "cannot make the guest's card") : 0;
}

void launcher_remove_socket(const struct launcher *l, const char *path)
{
    unlink(path);
}

void launcher_stop(struct launcher *l)
{
    fd_closep(&l->frames_fd);
    fd_closep(&l->network_frames_fd);
}

int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err)
{
    const struct vmm_ops *backend;
    struct vmm_started started = VMM_STARTED_INIT;
    struct vmm_source from = *source;
    from.dir_fd = vm_dir;
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1, -1};
    int r = launched_connect(ret, l->frames_fd, ends);
    if (r < 0)
        mvm_error_errno(err, r, "cannot make sockets");
    if (r == 0)
        r = vmm_find(run->backend, &backend, err);
    if (r == 0)
        r = launch_vmm(backend, run, &from, ends, &started, err);
    for (size_t i = 0; i < LAUNCH_ENDS; i++)
        fd_closep(&ends[i]);
    launched_take(ret, &started);
    return r;
}

int launcher_order_network(struct launcher *l, int report_fd, struct mvm_error *err)
{
    const struct network_ends ends = {
        .frames_fd = l->network_frames_fd, .report_fd = report_fd, .resolv_fd = -1, .members_fd = -1};
    struct jail_report jail;
    return launch_network(run, &ends, false, &l->network, &jail, err);
}

int launcher_take_network(struct launcher *l, struct process *ret, struct jail_report *jail, struct mvm_error *err)
{
    *ret = l->network;
    *jail = (struct jail_report){0};
    l->network = (struct process)PROCESS_INIT;
    return 0;
}
