/* Hypervisor.framework is not asked yet (docs/platforms.md): VMs run in software emulation. */
#include "vmm/accel.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>

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
