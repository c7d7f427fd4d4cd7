/* Guests whose processors are not this machine's. */
#include "host/os.h"
#include "vmm/accel.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool vmm_is_foreign(const char *arch)
{
    return arch && strcmp(arch, os_arch()) != 0;
}

int vmm_choose_accel_for(const char *arch, int state_fd, const char *force, struct vmm_accel *ret,
                         struct mvm_error *err)
{
    if (!vmm_is_foreign(arch))
        return vmm_choose_accel(state_fd, force, ret, err);
    enum accel forced = force ? accel_parse(force) : ACCEL_EMULATION;
    if (forced != ACCEL_EMULATION && forced != ACCELS) {
        mvm_error_set(err, -ENOTSUP, "%s was asked for but cannot be used: the guest is for %s, and this machine is %s",
                      force, arch, os_arch());
        mvm_error_hint(err, "unset MVM_ACCEL: guests of another architecture run in software emulation");
        return -ENOTSUP;
    }
    int r = vmm_choose_accel(state_fd, forced == ACCELS ? force : vmm_emulation, ret, err);
    if (r == 0)
        snprintf(ret->reason, sizeof(ret->reason), "the guest is for %s, and this machine is %s", arch, os_arch());
    return r;
}
