/* Hypervisor.framework is not asked yet (docs/platforms.md): VMs run in software emulation. */
#include "host/os.h"
#include "vmm/accel.h"
#include "vmm/vfkit.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int vmm_choose_accel(int state_fd, const char *force, struct vmm_accel *ret, struct mvm_error *err)
{
    if (force && accel_parse(force) != ACCEL_EMULATION)
        return mvm_error_set(err, -ENOTSUP, "acceleration '%s': on macOS there is tcg alone", force);
    *ret = (struct vmm_accel){0};
    snprintf(ret->name, sizeof(ret->name), "%s", accel_name(ACCEL_EMULATION));
    snprintf(ret->reason, sizeof(ret->reason), "Hypervisor.framework is not used yet");
    return 0;
}

double vmm_creation_ms(const char **ret_hint)
{
    *ret_hint = "";
    return -1;
}

/* On x86-64 Apple's loader takes a bzImage, which no image of ours has. */
int vfkit_host(struct mvm_error *err)
{
    if (strcmp(os_arch(), "aarch64") == 0)
        return 0;
    mvm_error_set(err, -ENOTSUP, "Apple Virtualization is used on Apple silicon alone: images have no bzImage");
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "use --hypervisor " VMM_DEFAULT);
    return -ENOTSUP;
}
