/* port: what a running VM publishes, and changes of it. */
#include "base/clock.h"
#include "cli/options.h"
#include "cli/publish.h"

#include <errno.h>
#include <string.h>

#define STATUS_MS 5000

static int change(struct args *a, struct home *h, struct client *c, struct mvm_error *err)
{
    CLEAN_PORT_SOCKETS struct port_sockets *sockets = NULL;
    struct port_spec gone[PORTS_MAX];
    size_t n_gone = 0;
    int r = publish_specs(a, "unpublish", gone, &n_gone, err);
    if (r == 0)
        r = publish_open(a, NULL, h, &sockets, err);
    if (r < 0 || (!sockets && !n_gone))
        return r;
    r = client_ports(c, sockets, gone, n_gone, false, err);
    if (r < 0)
        mvm_error_wrap(err, "vm '%s'", a->words[0]);
    return r;
}

static int run_port(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_FREE struct msg_status *st = calloc(1, sizeof(*st));
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl port NAME; mvmctl ls shows the names", "port: one VM's name is wanted");
    if (!st)
        return EXIT_OTHER;
    int r = publish_check(a, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = client_connect(&h, a->words[0], &c, &err);
    if (r == 0)
        r = change(a, &h, c, &err);
    if (r == 0)
        r = client_status(c, st, clock_deadline(STATUS_MS), &err);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    if (!ui.json) {
        publish_print(st, "");
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_string(o, "name", a->words[0]);
    json_add(o, "ports", publish_json(st));
    ui_print_json(o);
    return 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_unpublish = {
    .name = "unpublish",
    .argument = "[ADDR:]HOST:GUEST",
    .help = "publish that no longer, and end its connections (may be given several times)"};

const struct command cmd_port = {
    .name = "port",
    .synopsis = "NAME [--publish SPEC]... [--unpublish SPEC]... [--json]",
    .summary = "show and change the ports that a VM publishes",
    .text = "Shows the ports of this host that lead into a running VM, after the changes that the options ask for. "
            "They are carried by the channel to the agent: the VM needs no network for them, and what listens on the "
            "guest's own loopback is reached. Either all changes are made or none. A fork, or a VM that continues "
            "from a snapshot, publishes what its own command says.",
    .options = OPTIONS(&opt_publish, &opt_unpublish, &opt_json),
    .json = "status: ok\n"
            "name: the VM's name\n" PORTS_JSON,
    .words = WORDS_VMS,
    .run = run_port,
};
