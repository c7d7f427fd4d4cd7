/* fork: a running VM becomes two. */
#include "base/clock.h"
#include "cli/boot.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "machine/snapshot.h"

static int run_fork(struct args *a)
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
    char network[NETWORK_OPTIONS_MAX];
    interrupt_install();
    int r = boot_check_name(c.name, &err);
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &c.timeout_ms, &err);
    if (r == 0)
        r = network_options(a, network, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = network_check_named(a, &h, &err);
    c.network = r == 0 && network[0] ? network : NULL;
    c.member_of = network_named(a);
    if (r == 0)
        r = snapshot_fork(&h, a->words[0], &c, &p, &info, &stopped_ns, &err);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    json_object *more = json_object_new_object();
    json_add_double(more, "stopped_ms", (double)stopped_ns / NSEC_PER_MSEC);
    boot_print(&info, NULL, &p, NULL, false, more);
    return 0;
}

/* ---- Its description ---- */

const struct command cmd_fork = {
    .name = "fork",
    .synopsis = "NAME NEW [OPTION]...",
    .summary = "copy a running VM",
    .text = "Starts the VM NEW as a copy of the running VM NAME: memory, processes, files and all. Both go on, "
            "each with its own. NEW gets random numbers, a machine id and a host name of its own, its services "
            "are not started again, and what clients ran in NAME with exec is ended in NEW, as if they had gone "
            "away. NAME stands still only for the last milliseconds of the copying.\n\n"
            "NEW reaches what NAME reaches, and in a network of VMs it gets a MAC and addresses of its own, unless "
            "--network or --allow says otherwise.",
    .options = OPTIONS(&opt_network, &opt_allow, &opt_timeout, &opt_json, &opt_verbose),
    .json = UP_JSON "stopped_ms: how long NAME stood still\n",
    .words = WORDS_VMS,
    .run = run_fork,
};
