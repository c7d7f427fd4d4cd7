#include "vmm/registers.h"

#include <stdlib.h>
#include <string.h>

#define IF_FLAG 0x200u /* EFLAGS.IF, Intel SDM 3.4.3.3 */

/* QEMU, target/i386/cpu-dump.c: "CPU#0", then "... EFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1", or RFL. */
static bool is_halted(const char *text, const char *end)
{
    const char *flags = strstr(text, "FL="), *halted = strstr(text, "HLT=");
    if (!flags || !halted || (end && (flags > end || halted > end)))
        return false;
    return halted[4] == '1' && !(strtoul(flags + 3, NULL, 16) & IF_FLAG);
}

bool registers_all_halted(const char *text)
{
    static const char title[] = "CPU#";
    const char *cpu = strstr(text, title);
    bool all = cpu != NULL;
    while (cpu && all) {
        const char *next = strstr(cpu + 1, title);
        all = is_halted(cpu, next);
        cpu = next;
    }
    return all;
}
