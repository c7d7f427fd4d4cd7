/* pause and resume. */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "machine/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_DEADLINE_MS 10000

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

static int run_pause(struct args *a)
{
    return set_paused(a, true);
}

static int run_resume(struct args *a)
{
    return set_paused(a, false);
}

/* ---- Their descriptions ---- */

const struct command cmd_pause = {
    .name = "pause",
    .synopsis = "NAME [--json]",
    .summary = "stop a VM's processors",
    .text = "Lets a VM stand still, with everything in it, until resume. What is running in it, exec too, waits.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n"
            "name: the VM's name\n"
            "state: paused\n",
    .words = WORDS_VMS,
    .run = run_pause,
};

const struct command cmd_resume = {
    .name = "resume",
    .synopsis = "NAME [--json]",
    .summary = "let a paused VM go on",
    .text = "Lets a paused VM go on, and sets its clock.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n"
            "name: the VM's name\n"
            "state: ready\n",
    .words = WORDS_VMS,
    .run = run_resume,
};
