/* On macOS nothing confines a supervisor, which therefore starts its VMMs itself. */
#include "supervisor/launcher.h"

#include <unistd.h>

static const struct runfile *run;

int launcher_start(struct launcher *l, const struct runfile *r, int dirfd, struct mvm_error *err)
{
    l->fd = -1;
    run = r;
    return 0;
}

void launcher_remove_socket(const struct launcher *l, const char *path)
{
    unlink(path);
}

void launcher_stop(struct launcher *l)
{
}

int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err)
{
    const struct vmm_ops *backend;
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1};
    int r = launched_connect(ret, ends);
    if (r < 0)
        mvm_error_errno(err, r, "cannot make sockets");
    if (r == 0)
        r = vmm_find(run->backend, &backend, err);
    if (r == 0)
        r = launch_vmm(backend, run, source, ends, &ret->process, &ret->jail, err);
    for (size_t i = 0; i < LAUNCH_ENDS; i++)
        fd_closep(&ends[i]);
    return r;
}
