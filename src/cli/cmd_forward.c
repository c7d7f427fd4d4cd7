/* forward: a port of a VM, published for as long as the command runs. */
#include "cli/options.h"
#include "cli/publish.h"
#include "host/interrupt.h"

#include <errno.h>
#include <stdio.h>

static void say(const struct port_sockets *p, const char *name)
{
    for (size_t i = 0; !ui.json && i < p->n; i++) {
        char host[PORT_SPEC_MAX_TEXT];
        port_spec_format_host(&p->specs[i], host);
        ui_line("%s -> %s:%u/%s", host, name, p->specs[i].guest, port_spec_protocol(&p->specs[i]));
    }
    if (ui.json) {
        json_object *o = json_object_new_object();
        json_add_string(o, "status", "ok");
        json_add_string(o, "name", name);
        json_add(o, "ports", publish_json_of(p->specs, p->n));
        ui_print_json(o);
    }
    fflush(stdout);
}

static int run_forward(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_PORT_SOCKETS struct port_sockets *sockets = NULL;
    struct port_spec specs[PORTS_MAX];
    size_t n = 0;
    if (a->n_words != 2 || a->rest)
        return ui_usage("mvmctl forward NAME 8080:80", "forward: a VM's name and what leads where are wanted");
    const char *name = a->words[0];
    interrupt_install();
    int r = publish_parse(a->words[1], specs, PORTS_MAX, &n, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = client_connect(&h, name, &c, &err);
    if (r == 0)
        r = port_sockets_open(&h, specs, n, &sockets, &err);
    if (r == 0)
        r = client_ports(c, sockets, NULL, 0, true, &err);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    say(sockets, name);
    struct client_event e;
    while (r >= 0) {
        r = client_poll(c, NULL, 0, 0, &err);
        while (client_next(c, &e)) /* the end of the request; nothing else comes */
            client_event_done(c);
    }
    if (r == -EINTR)
        return 0;
    mvm_error_set(&err, r, "vm '%s' has ended", name);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    return ui_fail(&err);
}

/* ---- Its description ---- */

const struct command cmd_forward = {
    .name = "forward",
    .synopsis = "NAME [ADDR:]HOST:GUEST [--json]",
    .summary = "publish a port of a VM for a moment",
    .text = "Does what port --publish does, until it is interrupted (Ctrl-C) or the VM ends; then the port and its "
            "connections are gone. It works without a network in the VM.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n"
            "name: the VM's name\n" PORTS_JSON,
    .words = WORDS_VMS,
    .run = run_forward,
};
