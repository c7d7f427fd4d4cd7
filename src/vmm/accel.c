/* What the accelerators are called; which one a VM gets is decided in probe.c. */
#include "vmm/vmm.h"

#include <string.h>

const char vmm_emulation[] = "tcg";

bool vmm_accel_emulates(const struct vmm_accel *a)
{
    return strcmp(a->name, vmm_emulation) == 0;
}
