#include "machine/launch.h"
#include "base/path.h"
#include "image/manifest.h"

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

/* Images without metadata have a kernel like the distribution's. */
static int load_metadata(int image_fd, struct image_metadata *ret, struct mvm_error *err)
{
    *ret = (struct image_metadata){0};
    bool has = faccessat(image_fd, artifact_name(ARTIFACT_METADATA), F_OK, 0) == 0;
    return has ? image_metadata_load(ret, image_fd, err) : 0;
}

/* A config, and what it borrows. */
struct plan {
    char *kernel, *initrd, *rootfs;
    struct buf cmdline;
    struct vmm_config config;
};

static void plan_done(struct plan *p)
{
    free(p->kernel);
    free(p->initrd);
    free(p->rootfs);
    buf_done(&p->cmdline);
}

static int plan(struct plan *p, const struct runfile *run, const struct launch_source *source, struct mvm_error *err)
{
    CLEAN_FD int image = open(run->image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image < 0)
        return mvm_error_errno(err, -errno, "cannot open the image");
    struct image_metadata metadata;
    int r = load_cmdline(run, image, &p->cmdline, err);
    if (r == 0)
        r = load_metadata(image, &metadata, err);
    p->kernel = path_join(run->image_path, artifact_name(ARTIFACT_VMLINUX), NULL);
    p->initrd = path_join(run->image_path, artifact_name(ARTIFACT_INITRD), NULL);
    p->rootfs = path_join(run->image_path, artifact_name(ARTIFACT_ROOTFS), NULL);
    if (r < 0 || !p->kernel || !p->initrd || !p->rootfs)
        return r < 0 ? r : mvm_error_errno(err, -ENOMEM, "image");
    const char *store = source->store_path ? source->store_path : run->store_disk;
    p->config = (struct vmm_config){
        .name = run->name,
        .kernel = p->kernel,
        .initrd = faccessat(image, artifact_name(ARTIFACT_INITRD), F_OK, 0) == 0 ? p->initrd : NULL,
        .devices_on_cmdline = metadata.devices_on_cmdline,
        .cmdline = buf_cstr(&p->cmdline),
        .disks = {{.path = p->rootfs, .read_only = true}, {.path = store, .discard = true}},
        .n_disks = run->store_disk[0] ? 2 : 1,
        .memory_mib = run->memory_mib,
        .vcpus = (unsigned)run->vcpus,
        .memory_fd = source->memory_fd,
        .memory_shared = source->share,
        .incoming = source->restore,
        .net = VMM_NET_USER,
        .accel = run->accel,
        .count = run->counting != COUNTING_OFF,
        .initcalls = run->counting == COUNTING_INITCALLS,
        .confine = run->confine,
    };
    return 0;
}

#define PLAN_INIT                                                                                                      \
    {                                                                                                                  \
        .cmdline = BUF_INIT(4096)                                                                                      \
    }

int launch_identity(const struct vmm_ops *backend, const struct runfile *run, struct vmm_identity *ret,
                    struct mvm_error *err)
{
    CLEANUP(plan_done) struct plan p = PLAN_INIT;
    const struct launch_source any = {.memory_fd = -1};
    int r = plan(&p, run, &any, err);
    return r < 0 ? r : backend->identity(&p.config, ret, err);
}

int launched_connect(struct launched *l, int ends[static LAUNCH_ENDS])
{
    int *const ours[LAUNCH_ENDS] = {[LAUNCH_CHANNEL] = &l->channel_fd,
                                    [LAUNCH_CONSOLE] = &l->console_fd,
                                    [LAUNCH_CONTROL] = &l->control_fd,
                                    [LAUNCH_LOG] = &l->log_fd};
    int r = 0;
    for (size_t i = 0; r == 0 && i < LAUNCH_ENDS; i++)
        r = make_pair(ours[i], &ends[i]);
    return r;
}

int launch_vmm(const struct vmm_ops *backend, const struct runfile *run, const struct launch_source *source,
               const int ends[static LAUNCH_ENDS], struct process *ret, struct jail_report *jail, struct mvm_error *err)
{
    CLEANUP(plan_done) struct plan p = PLAN_INIT;
    int r = plan(&p, run, source, err);
    if (r < 0)
        return r;
    p.config.channel_fd = ends[LAUNCH_CHANNEL];
    p.config.console_fd = ends[LAUNCH_CONSOLE];
    p.config.control_fd = ends[LAUNCH_CONTROL];
    p.config.log_fd = ends[LAUNCH_LOG];
    p.config.cgroup_fd = source->cgroup_fd;
    p.config.sibling = true;
    return backend->start(&p.config, ret, jail, err);
}

void launched_done(struct launched *l)
{
    fd_closep(&l->channel_fd);
    fd_closep(&l->console_fd);
    fd_closep(&l->control_fd);
    fd_closep(&l->log_fd);
}
