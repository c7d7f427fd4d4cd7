/* What the accelerators are called; which one a VM gets is decided in probe.c. */
#include "vmm/accel.h"
#include "vmm/vmm.h"

#include <string.h>

#define EMULATION "tcg"

const char vmm_emulation[] = EMULATION;

static const char *const names[] = {EMULATION, "kvm"};
_Static_assert(ARRAY_SIZE(names) == ACCELS, "a name for each accelerator");

const char *accel_name(enum accel a)
{
    return names[a];
}

enum accel accel_parse(const char *name)
{
    enum accel a = 0;
    while (a < ACCELS && strcmp(names[a], name) != 0)
        a++;
    return a;
}

bool vmm_accel_emulates(const struct vmm_accel *a)
{
    return accel_parse(a->name) == ACCEL_EMULATION;
}
