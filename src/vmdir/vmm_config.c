#include "vmdir/vmm_config.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/kernel.h"
#include "image/manifest.h"
#include "net/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

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

static const char *arch_in(int image_fd)
{
    CLEAN_FD int fd = openat(image_fd, artifact_name(ARTIFACT_VMLINUX), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? NULL : kernel_arch(fd);
}

const char *vmm_image_arch(const char *image)
{
    CLEAN_FD int fd = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? NULL : arch_in(fd);
}

/* Images without metadata have a kernel like the distribution's. */
static int load_metadata(int image_fd, struct image_metadata *ret, struct mvm_error *err)
{
    *ret = (struct image_metadata){.kernel_offers = KERNEL_OFFER(KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_PCI) |
                                                    KERNEL_OFFER(KERNEL_CONSOLE)};
    bool has = faccessat(image_fd, artifact_name(ARTIFACT_METADATA), F_OK, 0) == 0;
    return has ? image_metadata_load(ret, image_fd, err) : 0;
}

int vmm_takes_image(const struct vmm_ops *backend, int image_fd, struct mvm_error *err)
{
    struct image_metadata metadata;
    int r = load_metadata(image_fd, &metadata, err);
    return r < 0 ? r : backend->takes_kernel(arch_in(image_fd), metadata.kernel_offers, err);
}

void vmm_plan_done(struct vmm_plan *p)
{
    free(p->kernel);
    free(p->initrd);
    free(p->rootfs);
    buf_done(&p->cmdline);
}

int vmm_plan(struct vmm_plan *p, const struct runfile *run, const struct vmm_source *source, struct mvm_error *err)
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
        .arch = arch_in(image),
        .kernel = p->kernel,
        .initrd = faccessat(image, artifact_name(ARTIFACT_INITRD), F_OK, 0) == 0 ? p->initrd : NULL,
        .kernel_offers = metadata.kernel_offers,
        .cmdline = buf_cstr(&p->cmdline),
        .disks = {{.path = p->rootfs, .read_only = true}, {.path = store, .discard = true}},
        .n_disks = run->store_disk[0] ? 2 : 1,
        .memory_mib = run->memory_mib,
        .vcpus = (unsigned)run->vcpus,
        .dir_fd = source->dir_fd,
        .memory_fd = source->memory_fd,
        .memory_shared = source->share,
        .incoming = source->restore,
        .net = VMM_NET_FRAMES,
        .mac = NET_MAC,
        .unlinked = !source->share && runfile_is_unlinked(run), /* what becomes a snapshot has a link */
        .accel = run->accel,
        .count = run->counting != COUNTING_OFF,
        .initcalls = run->counting == COUNTING_INITCALLS,
        .confine = run->confine,
    };
    return 0;
}

int vmm_plan_identity(const struct vmm_ops *backend, const struct runfile *run, struct vmm_identity *ret,
                      struct mvm_error *err)
{
    CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
    const struct vmm_source any = {.memory_fd = -1, .dir_fd = -1};
    int r = vmm_plan(&p, run, &any, err);
    if (r < 0)
        return r;
    vmm_device_set(backend, &p.config, ret->set);
    return backend->identity(&p.config, ret, err);
}
