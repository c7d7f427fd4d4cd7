#include "wire/vm_state.h"
#include "base/macros.h"
#include "base/name_table.h"

static const char *const states[] = {"starting", "ready", "paused", "cut off", "halted", "stopping", "failed"};
_Static_assert(ARRAY_SIZE(states) == VM_STATES, "a name for each state");

static const char *const roles[] = {"runtime", "builder"};
_Static_assert(ARRAY_SIZE(roles) == VM_ROLES, "a name for each role");

static const char *const starts[] = {"cold", "warm"};
_Static_assert(ARRAY_SIZE(starts) == VM_STARTS, "a name for each way to start");

static const char *const services[] = {"starting", "ready", "failed"};
_Static_assert(ARRAY_SIZE(services) == SERVICES_STATES, "a name for each state of the services");

static const char *const healths[] = {"ok", "repaired", "broken"};
_Static_assert(ARRAY_SIZE(healths) == STORE_HEALTHS, "a name for each health of the store");

const char *vm_state_name(enum vm_state s)
{
    return states[s];
}

enum vm_state vm_state_parse(const char *text)
{
    return (enum vm_state)name_find(states, VM_STATES, text);
}

const char *vm_role_name(enum vm_role r)
{
    return roles[r];
}

enum vm_role vm_role_parse(const char *text)
{
    return name_find(roles, VM_ROLES, text) == VM_ROLE_BUILDER ? VM_ROLE_BUILDER : VM_ROLE_RUNTIME;
}

const char *vm_start_name(enum vm_start s)
{
    return starts[s];
}

enum vm_start vm_start_parse(const char *text)
{
    return (enum vm_start)name_find(starts, VM_STARTS, text);
}

const char *services_state_name(enum services_state s)
{
    return services[s];
}

enum services_state services_state_parse(const char *text)
{
    return (enum services_state)name_find(services, SERVICES_STATES, text);
}

const char *store_health_name(enum store_health h)
{
    return healths[h];
}

enum store_health store_health_parse(const char *text)
{
    return (enum store_health)name_find(healths, STORE_HEALTHS, text);
}
