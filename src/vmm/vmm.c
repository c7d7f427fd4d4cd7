#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Other names of backends. */
static const struct {
    const char *alias, *name;
} vmm_aliases[] = {{"vz", "apple-container"}, {"vfkit", "apple-container"}};

/* Backends that users of the guide may name and that have not been built here. */
static const struct {
    const char *name, *why;
} vmm_absent[] = {
    {"libkrun", "its backend is not part of this build"},
    {"cloud-hypervisor", "its backend is not part of this build"},
};

unsigned vmm_volume_slots(unsigned volumes)
{
    unsigned slots = volumes ? 1 : 0;
    while (slots < volumes)
        slots *= 2;
    return slots;
}

void vmm_device_set(const struct vmm_ops *o, const struct vmm_config *c, char out[static VMM_SET_SIZE])
{
    const unsigned facts[] = {c->net, c->volume_slots};
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_HEX_SIZE];
    *out = '\0';
    if (o == &vmm_qemu && c->net == VMM_NET_FRAMES && c->volume_slots == 0)
        return;
    sha256_init(&sha);
    sha256_update(&sha, facts, sizeof(facts));
    sha256_final(&sha, digest);
    sha256_hex(digest, text);
    snprintf(out, VMM_SET_SIZE, "-%.20s-%.8s", o->name, text);
}

int vmm_check_host(const struct vmm_ops *o, const struct vmm_accel *a, bool network, struct mvm_error *err)
{
    int r = 0;
    if (o->caps.hardware && vmm_accel_emulates(a)) {
        r = mvm_error_set(err, -ENOTSUP, "%s needs hardware acceleration: %s", o->name, a->reason);
        mvm_error_hint(err, "use --hypervisor " VMM_DEFAULT ", which does without");
    } else if (network && !o->caps.card) {
        r = mvm_error_set(err, -ENOTSUP, "%s gives its guests no network here", o->name);
        mvm_error_hint(err, "use --network none, or --hypervisor " VMM_DEFAULT);
    }
    mvm_error_phase(r < 0 ? err : NULL, MVM_PHASE_RUNTIME_BACKEND);
    return r;
}

bool vmm_is_chosen(const char *name)
{
    return !name || strcmp(name, VMM_AUTO) == 0;
}

int vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err)
{
    if (vmm_is_chosen(name))
        name = vmm_all[0]->name;
    for (size_t i = 0; i < ARRAY_SIZE(vmm_aliases); i++)
        if (strcmp(vmm_aliases[i].alias, name) == 0)
            name = vmm_aliases[i].name;
    for (size_t i = 0; vmm_all[i]; i++) {
        if (strcmp(vmm_all[i]->name, name) == 0) {
            *ret = vmm_all[i];
            return 0;
        }
    }
    int r = -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(vmm_absent); i++)
        if (strcmp(vmm_absent[i].name, name) == 0)
            r = mvm_error_set(err, -ENOTSUP, "hypervisor '%s': %s", name, vmm_absent[i].why);
    if (r == -EINVAL)
        mvm_error_set(err, r, "hypervisor '%s': no such backend", name);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "use --hypervisor " VMM_AUTO "|" VMM_BACKENDS ", or leave the option out");
    return r;
}
