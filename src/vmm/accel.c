/* What the accelerators are called; which one a VM gets is decided in probe.c. */
#include "vmm/accel.h"
#include "base/name_table.h"
#include "vmm/vmm.h"

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
    return (enum accel)name_find(names, ACCELS, name);
}

bool vmm_accel_emulates(const struct vmm_accel *a)
{
    return accel_parse(a->name) == ACCEL_EMULATION;
}
