#include "base/fd.h"
#include "host/os.h"
#include "vmm/socket_vmm.h"
#include "vmm/vfkit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* What the machine itself needs on the kernel's command line. Its console is a virtio console. */
#define CMDLINE "console=hvc0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on"

/* kernel: Documentation/arch/arm64/booting.rst, "Call the kernel image". */
#define IMAGE_MAGIC    "ARM\x64"
#define IMAGE_MAGIC_AT 56

int vfkit_check_kernel(const char *path, const char *machine, struct mvm_error *err)
{
    char magic[sizeof(IMAGE_MAGIC) - 1];
    if (strcmp(machine, "aarch64") != 0)
        return 0;
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "%s", path);
    if (pread(fd, magic, sizeof(magic), IMAGE_MAGIC_AT) == sizeof(magic) &&
        memcmp(magic, IMAGE_MAGIC, sizeof(magic)) == 0)
        return 0;
    mvm_error_set(err, -ENOTSUP, "%s is no uncompressed Image of an arm64 kernel", path);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "Apple Virtualization boots arch/arm64/boot/Image of a kernel's build, and nothing else");
    return -ENOTSUP;
}

void vfkit_args_done(struct vfkit_args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i]);
}

static void add(struct vfkit_args *a, const char *fmt, ...) MVM_PRINTF(2, 3);
static void add(struct vfkit_args *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = NULL;
    if (a->n == VFKIT_ARGS || vasprintf(&s, fmt, ap) < 0)
        a->error = -ENOMEM;
    else
        a->v[a->n++] = s;
    va_end(ap);
}

/* vfkit ends a value at a comma, and has no way to write one; sockets' names are parsed as URLs, too. */
static int check_text(const char *text, const char *bad, const char *what, struct mvm_error *err)
{
    const char *at = text ? strpbrk(text, bad) : NULL;
    if (!at)
        return 0;
    mvm_error_set(err, -EINVAL, "%s has a %c, which vfkit cannot be told: %s", what, *at, text);
    mvm_error_hint(err, "choose another MVM_HOME or MVM_CACHE_DIR");
    return -EINVAL;
}

/* The path of what is in its folder. */
static int in_folder(int folder_fd, const char *name, struct sockaddr_un *ret, struct mvm_error *err)
{
    int r = os_socket_address(folder_fd, name, ret);
    if (r == -ENAMETOOLONG) {
        mvm_error_set(err, r, "the path of the vm's folder is too long for a socket in it");
        mvm_error_hint(err, "choose a shorter MVM_HOME");
        return r;
    }
    return r < 0 ? mvm_error_errno(err, r, "the VMM's folder") : check_text(ret->sun_path, ",\"%?#", "the path", err);
}

static int check_paths(const struct vmm_config *c, struct mvm_error *err)
{
    int r = check_text(c->kernel, ",\"", "the kernel's path", err);
    if (r == 0)
        r = check_text(c->initrd, ",\"", "the initrd's path", err);
    if (r == 0)
        r = check_text(c->cmdline, "\"", "the kernel's command line", err);
    for (unsigned i = 0; r == 0 && i < c->n_disks; i++)
        r = check_text(c->disks[i].path, ",\"", "a disk's path", err);
    return r;
}

static void add_device(struct vfkit_args *a, const char *device)
{
    add(a, "--device");
    add(a, "%s", device);
}

static void add_devices(struct vfkit_args *a, const struct vmm_config *c, const char *agent)
{
    for (unsigned i = 0; i < c->n_disks; i++) {
        add(a, "--device");
        add(a, "virtio-blk,path=%s%s", c->disks[i].path, c->disks[i].read_only ? ",readonly" : "");
    }
    /* The guest connects, and vfkit to the socket then. */
    add(a, "--device");
    add(a, "virtio-vsock,port=" SOCKET_VMM_PORT ",socketURL=%s,listen", agent);
    /* By descriptor: a socket's path would have to be made first, and be short. */
    if (c->net == VMM_NET_FRAMES) {
        add(a, "--device");
        add(a, "virtio-net,fd=%d,mac=%s", c->frames_fd, c->mac);
    }
    add_device(a, "virtio-rng");
    add_device(a, "virtio-serial,stdio");
}

int vfkit_args(struct vfkit_args *a, const struct vmm_config *c, int folder_fd, struct mvm_error *err)
{
    struct sockaddr_un api, agent, initrd;
    int r = check_paths(c, err);
    if (r == 0)
        r = in_folder(folder_fd, SOCKET_VMM_API, &api, err);
    if (r == 0)
        r = in_folder(folder_fd, SOCKET_VMM_AGENT, &agent, err);
    if (r == 0)
        r = in_folder(folder_fd, SOCKET_VMM_INITRD, &initrd, err);
    if (r < 0)
        return r;
    add(a, "vfkit");
    add(a, "--cpus");
    add(a, "%u", c->vcpus);
    add(a, "--memory");
    add(a, "%llu", (unsigned long long)c->memory_mib);
    add(a, "--log-level");
    add(a, "error");
    add(a, "--restful-uri");
    add(a, "unix://%s", api.sun_path);
    add(a, "--bootloader");
    add(a, "linux,kernel=%s,initrd=%s,cmdline=\"" CMDLINE " %s\"", c->kernel, c->initrd ? c->initrd : initrd.sun_path,
        c->cmdline);
    add_devices(a, c, agent.sun_path);
    return a->error ? mvm_error_errno(err, a->error, "vfkit's arguments") : 0;
}
