#include "vmdir/vm_state.h"
#include "base/macros.h"

#include <string.h>

static const char *const states[] = {"starting", "ready", "paused", "cut off", "halted", "stopping", "failed"};
_Static_assert(ARRAY_SIZE(states) == VM_STATES, "a name for each state");

static const char *const roles[] = {"runtime", "builder"};
_Static_assert(ARRAY_SIZE(roles) == VM_ROLES, "a name for each role");

const char *vm_state_name(enum vm_state s)
{
    return states[s];
}

bool vm_state_parse(const char *text, enum vm_state *ret)
{
    for (enum vm_state s = 0; s < VM_STATES; s++) {
        if (strcmp(text, states[s]) != 0)
            continue;
        *ret = s;
        return true;
    }
    return false;
}

const char *vm_role_name(enum vm_role r)
{
    return roles[r];
}

enum vm_role vm_role_parse(const char *text)
{
    return strcmp(text, roles[VM_ROLE_BUILDER]) == 0 ? VM_ROLE_BUILDER : VM_ROLE_RUNTIME;
}
