/* pause, resume and fork: what is done to a VM that runs. */
#include "base/clock.h"
#include "base/interrupt.h"
#include "cli/boot.h"
#include "machine/client.h"
#include "machine/usersnapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_DEADLINE_MS  10000
#define DEFAULT_TIMEOUT_MS 60000

static int set_paused(struct args *a, bool pause)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    char hint[64];
    snprintf(hint, sizeof(hint), "mvmctl %s NAME", a->command->name);
    if (a->n_words != 1 || a->rest)
        return ui_usage(hint, "%s: %s", a->command->name, a->n_words ? "more than one VM" : "no VM named");
    const char *name = a->words[0];
    int r = home_open(&h, &err);
    if (r == 0)
        r = client_connect(&h, name, &c, &err);
    if (r == 0) {
        r = client_pause(c, pause, clock_deadline(PAUSE_DEADLINE_MS), &err);
        if (r < 0) {
            mvm_error_wrap(&err, "cannot %s vm '%s'", a->command->name, name);
            mvm_error_hint(&err, "mvmctl ls shows its state");
        }
    }
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    if (!ui.json) {
        ui_line("%s", name);
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_string(o, "name", name);
    json_add_string(o, "state", pause ? "paused" : "ready");
    ui_print_json(o);
    return 0;
}

int cmd_pause(struct args *a)
{
    return set_paused(a, true);
}

int cmd_resume(struct args *a)
{
    return set_paused(a, false);
}

int cmd_fork(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    struct machine_info info;
    uint64_t stopped_ns = 0;
    if (a->n_words != 2 || a->rest)
        return ui_usage("mvmctl fork NAME NEW", "fork: a VM and the name of its copy are wanted");
    struct machine_config c = {.name = a->words[1], .timeout_ms = DEFAULT_TIMEOUT_MS};
    const char *timeout = arg_value(a, "timeout");
    interrupt_install();
    int r = boot_check_name(c.name, &err);
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &c.timeout_ms, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = usersnapshot_fork(&h, a->words[0], &c, &p, &info, &stopped_ns, &err);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    json_object *more = json_object_new_object();
    json_add_double(more, "stopped_ms", (double)stopped_ns / NSEC_PER_MSEC);
    boot_print(&info, NULL, &p, NULL, false, more);
    return 0;
}
