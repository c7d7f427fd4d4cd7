/* Hypervisor.framework is not asked yet (docs/platforms.md): VMs run in software emulation. */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int vmm_choose_accel(int state_fd, const char *force, struct vmm_accel *ret, struct mvm_error *err)
{
    if (force && strcmp(force, "tcg") != 0)
        return mvm_error_set(err, -ENOTSUP, "acceleration '%s': on macOS there is tcg alone", force);
    *ret = (struct vmm_accel){.name = "tcg"};
    snprintf(ret->reason, sizeof(ret->reason), "Hypervisor.framework is not used yet");
    return 0;
}

double vmm_creation_ms(const char **ret_hint)
{
    *ret_hint = "";
    return -1;
}
