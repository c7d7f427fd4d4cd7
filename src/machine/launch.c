#include "machine/launch.h"
#include "base/path.h"
#include "image/manifest.h"
#include "machine/vmdir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The host's and the VMM's end of one connection. */
static int make_pair(int *ret_ours, int *ret_theirs)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    *ret_ours = fds[0];
    *ret_theirs = fds[1];
    return 0;
}

/* What the image and the role want on the kernel's command line. */
static int load_cmdline(const struct runfile *run, int image_fd, struct buf *out, struct mvm_error *err)
{
    int r = 0;
    if (faccessat(image_fd, artifact_name(ARTIFACT_CMDLINE), F_OK, 0) == 0)
        r = path_read_file(image_fd, artifact_name(ARTIFACT_CMDLINE), out, err);
    else
        r = buf_str(out, "mvm.root=vda mvm.init=/sbin/mvm-init");
    for (size_t i = 0; i < out->len; i++)
        if (out->data[i] < 0x20)
            out->data[i] = ' ';
    return r;
}

/* The ends that the VMM gets. */
struct ends {
    int channel, console, control;
};

static int start_vmm(const struct vmm_ops *backend, const struct runfile *run, int dirfd, const struct ends *ends,
                     struct process *ret, struct mvm_error *err)
{
    CLEAN_FD int image = open(run->image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image < 0)
        return mvm_error_errno(err, -errno, "cannot open the image");
    CLEAN_FD int log = openat(dirfd, VMDIR_VMM, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return mvm_error_errno(err, -errno, "cannot write " VMDIR_VMM);
    CLEAN_BUF struct buf cmdline = BUF_INIT(4096);
    int r = load_cmdline(run, image, &cmdline, err);
    CLEAN_FREE char *kernel = path_join(run->image_path, artifact_name(ARTIFACT_VMLINUX), NULL);
    CLEAN_FREE char *initrd = path_join(run->image_path, artifact_name(ARTIFACT_INITRD), NULL);
    CLEAN_FREE char *rootfs = path_join(run->image_path, artifact_name(ARTIFACT_ROOTFS), NULL);
    if (r < 0 || !kernel || !initrd || !rootfs)
        return r < 0 ? r : mvm_error_errno(err, -ENOMEM, "image");
    struct vmm_config c = {
        .name = run->name,
        .kernel = kernel,
        .initrd = access(initrd, F_OK) == 0 ? initrd : NULL,
        .cmdline = buf_cstr(&cmdline),
        .disks = {{.path = rootfs, .read_only = true}, {.path = run->store_disk, .discard = true}},
        .n_disks = run->store_disk[0] ? 2 : 1,
        .memory_mib = run->memory_mib,
        .vcpus = (unsigned)run->vcpus,
        .net = VMM_NET_USER,
        .accel = run->accel,
        .channel_fd = ends->channel,
        .console_fd = ends->console,
        .control_fd = ends->control,
        .log_fd = log,
    };
    return backend->start(&c, ret, err);
}

int launch(const struct vmm_ops *backend, const struct runfile *run, int dirfd, struct launched *ret,
           struct mvm_error *err)
{
    CLEAN_FD int channel = -1;
    CLEAN_FD int console = -1;
    CLEAN_FD int control = -1;
    int r = make_pair(&ret->channel_fd, &channel);
    if (r == 0)
        r = make_pair(&ret->console_fd, &console);
    if (r == 0)
        r = make_pair(&ret->control_fd, &control);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot make sockets");
    const struct ends ends = {.channel = channel, .console = console, .control = control};
    return start_vmm(backend, run, dirfd, &ends, &ret->process, err);
}

void launched_done(struct launched *l)
{
    fd_closep(&l->channel_fd);
    fd_closep(&l->console_fd);
    fd_closep(&l->control_fd);
}
