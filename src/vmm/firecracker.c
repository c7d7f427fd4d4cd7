/* Firecracker: KVM alone, virtio-mmio, the agent over virtio sockets. It is told what to run over its API. */
#include "vmm/firecracker.h"
#include "vmm/socket_vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROGRAM "firecracker"
#define ID_SIZE 65 /* with its end */
#define OLDEST  12 /* 1.12: an earlier one's states and vsock are others */

static const struct program program = {
    .name = PROGRAM, .hint = "put the program " PROGRAM " of a release on PATH", .sockets = true};

static int version(char *out, size_t size, struct mvm_error *err)
{
    return program_version(&program, out, size, err);
}

/* "Firecracker v1.12.0". */
static int available(const char *arch, struct mvm_error *err)
{
    if (vmm_is_foreign(arch)) {
        mvm_error_set(err, -ENOTSUP, PROGRAM " runs guests of this machine's architecture, and the image is for %s",
                      arch);
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        mvm_error_hint(err, "--hypervisor qemu emulates other machines");
        return -ENOTSUP;
    }
    char text[128];
    unsigned major = 0, minor = 0;
    int r = program_available(&program, err);
    if (r == 0)
        r = version(text, sizeof(text), err);
    if (r < 0)
        return r;
    if (sscanf(text, "Firecracker v%u.%u", &major, &minor) == 2 && (major > 1 || (major == 1 && minor >= OLDEST)))
        return 0;
    mvm_error_set(err, -ENOTSUP, "%s: 1.%d or later is needed", text, OLDEST);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "put a later " PROGRAM " on PATH");
    return -ENOTSUP;
}

static int confinement(struct jail_report *ret, struct mvm_error *err)
{
    return program_confinement(&program, ret, err);
}

/* Its devices are named on the command line and by ACPI. */
static int takes_kernel(const char *arch, unsigned offers, struct mvm_error *err)
{
    static const unsigned ways = KERNEL_OFFER(KERNEL_MMIO_CMDLINE) | KERNEL_OFFER(KERNEL_MMIO_ACPI);
    if (offers & ways && offers & KERNEL_OFFER(KERNEL_VSOCK))
        return 0;
    return vmm_refuse_kernel(offers, PROGRAM " wants vsock and one of mmio-cmdline, mmio-acpi", err);
}

/* Its machine as it is told, without names of files. */
static int identify_machine(const struct vmm_config *c, char out[static SHA256_HEX_SIZE])
{
    char path[FIRECRACKER_PATH_MAX];
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    json_object *part;
    sha256_init(&sha);
    for (unsigned i = 0; (part = firecracker_part(c, i, true, path)); i++) {
        const char *text = json_object_to_json_string_ext(part, JSON_C_TO_STRING_PLAIN);
        sha256_update(&sha, path, strlen(path) + 1);
        sha256_update(&sha, text, strlen(text) + 1);
        json_object_put(part);
    }
    sha256_final(&sha, digest);
    sha256_hex(digest, out);
    return 0;
}

static int identity(const struct vmm_config *c, struct vmm_identity *ret, struct mvm_error *err)
{
    int r = program_identity(&program, ret->backend, sizeof(ret->backend), err);
    if (r == 0)
        r = program_identify_cpu(&c->accel, ret->cpu, err);
    return r < 0 ? r : identify_machine(c, ret->machine);
}

/* It takes none. */
static int lock_disk(int disk_fd, bool wait)
{
    return -ENOTSUP;
}

/* What its log calls the VM, and what it may be called in a list of processes: letters, digits and hyphens alone. */
static void make_id(const char *name, char out[static ID_SIZE])
{
    size_t n = 0;
    for (; name[n] && n < ID_SIZE - 1; n++)
        out[n] = name[n] == '.' || name[n] == '_' ? '-' : name[n];
    out[n] = '\0';
}

/* Its log goes to its error output, the console to the standard one. */
static int start(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err)
{
    char id[ID_SIZE];
    int r = takes_kernel(c->arch, c->kernel_offers, err);
    if (r < 0)
        return r;
    make_id(c->name, id);
    const char *const argv[] = {
        PROGRAM,           "--id",    id,     "--api-sock", SOCKET_VMM_FOLDER SOCKET_VMM_API, "--log-path",
        "/proc/self/fd/2", "--level", "Warn", NULL};
    return socket_vmm_start(c, &program, argv, ret, err);
}

const struct vmm_ops vmm_firecracker = {
    .name = PROGRAM,
    .caps = {.memory_file = true, .hardware = true},
    .available = available,
    .version = version,
    .confinement = confinement,
    .identity = identity,
    .takes_kernel = takes_kernel,
    .lock_disk = lock_disk,
    .start = start,
    .open = firecracker_open,
    .input = firecracker_input,
    .facts = firecracker_facts,
    .pause = firecracker_pause,
    .resume = firecracker_resume,
    .save = firecracker_save,
    .restore = firecracker_restore,
    .ask_halted = firecracker_ask_halted,
    .cancel = firecracker_cannot,
    .hurry = firecracker_cannot,
    .quit = firecracker_cannot,
    .ended = firecracker_ended,
    .mute = firecracker_mute,
    .free = firecracker_free,
};
