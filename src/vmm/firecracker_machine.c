/* What Firecracker's machine has: as its API wants it told. */
#include "vmm/firecracker.h"
#include "vmm/socket_vmm.h"

#include <stdio.h>

#define GUEST_CID 3

/*
 * What the machine itself needs on the kernel's command line. Firecracker adds its devices and pci=off. reboot=k: the
 * keyboard's controller ends Firecracker with status 0, a triple fault now with 0, now with 1. i8042.*: there is no
 * keyboard, which is looked for in vain otherwise.
 */
#define CMDLINE                                                                                                        \
    "console=ttyS0 quiet panic=-1 reboot=k no_timer_check nokaslr mitigations=off random.trust_cpu=on i8042.noaux "    \
    "i8042.nomux i8042.dumbkbd"

static json_object *machine(const struct vmm_config *c)
{
    json_object *o = json_object_new_object();
    json_add_int(o, "vcpu_count", c->vcpus);
    json_add_int(o, "mem_size_mib", (int64_t)c->memory_mib);
    return o;
}

static json_object *boot_source(const struct vmm_config *c, bool same)
{
    char tsc[64] = "";
    CLEAN_FREE char *args = NULL;
    json_object *o = json_object_new_object();
    if (c->accel.tsc_khz)
        snprintf(tsc, sizeof(tsc), " tsc_early_khz=%llu tsc=reliable",
                 same ? 1ull : (unsigned long long)c->accel.tsc_khz);
    if (asprintf(&args, CMDLINE "%s %s", tsc, c->cmdline) < 0)
        args = NULL;
    json_add_string(o, "kernel_image_path", same ? "" : c->kernel);
    json_add_string(o, "boot_args", args);
    if (c->initrd)
        json_add_string(o, "initrd_path", same ? "" : c->initrd);
    return o;
}

/* None is the root's as Firecracker means it, which is another word on the command line. */
static json_object *drive(const struct vmm_disk *d, unsigned i, bool same)
{
    char id[16];
    json_object *o = json_object_new_object();
    snprintf(id, sizeof(id), "disk%u", i);
    json_add_string(o, "drive_id", id);
    json_add_string(o, "path_on_host", same ? "" : d->path);
    json_add_bool(o, "is_root_device", false);
    json_add_bool(o, "is_read_only", d->read_only);
    json_add_string(o, "cache_type", d->read_only ? "Unsafe" : "Writeback");
    return o;
}

static json_object *vsock(void)
{
    json_object *o = json_object_new_object();
    json_add_int(o, "guest_cid", GUEST_CID);
    json_add_string(o, "uds_path", SOCKET_VMM_FOLDER SOCKET_VMM_VSOCK);
    return o;
}

json_object *firecracker_part(const struct vmm_config *c, unsigned i, bool same, char path[static FIRECRACKER_PATH_MAX])
{
    static const char *const paths[] = {"/machine-config", "/boot-source", "/vsock", "/entropy"};
    if (i >= ARRAY_SIZE(paths) + c->n_disks)
        return NULL;
    if (i >= ARRAY_SIZE(paths)) {
        i -= ARRAY_SIZE(paths);
        snprintf(path, FIRECRACKER_PATH_MAX, "/drives/disk%u", i);
        return drive(&c->disks[i], i, same);
    }
    snprintf(path, FIRECRACKER_PATH_MAX, "%s", paths[i]);
    return i == 0 ? machine(c) : i == 1 ? boot_source(c, same) : i == 2 ? vsock() : json_object_new_object();
}
