/* open: the address of what a VM publishes, for a browser. */
#include "base/clock.h"
#include "base/process.h"
#include "cli/options.h"
#include "cli/publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_MS 5000
#define OPENER_MS 10000

/* The TCP port of that number, in the guest or on this host; 0: the first. */
static const struct port_spec *choose(const struct port_spec *v, size_t n, unsigned port)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].protocol == IPPROTO_TCP && !v[i].path[0] && (!port || v[i].guest == port || v[i].host == port))
            return &v[i];
    return NULL;
}

static void format_url(const struct port_spec *p, char *out, size_t size)
{
    bool any4 = strcmp(p->address, "0.0.0.0") == 0, v6 = strchr(p->address, ':');
    const char *address = any4 ? "127.0.0.1" : strcmp(p->address, "::") == 0 ? "::1" : p->address;
    const char *scheme = p->guest == 443 || p->guest == 8443 ? "https" : "http";
    snprintf(out, size, "%s://%s%s%s:%u/", scheme, v6 ? "[" : "", address, v6 ? "]" : "", p->host);
}

/* Without a screen there is no browser; a host that cannot open one has printed the address all the same. */
static void show(const char *url)
{
    const char *display = getenv("DISPLAY"), *wayland = getenv("WAYLAND_DISPLAY");
    if (!(display && *display) && !(wayland && *wayland))
        return;
    const char *argv[] = {"xdg-open", url, NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .new_session = true};
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    if (process_start(&o, &p, NULL) == 0)
        (void)!process_wait(&p, clock_deadline(OPENER_MS));
}

static int find(const char *name, unsigned port, const struct msg_status *st, struct port_spec *ret,
                struct mvm_error *err)
{
    struct port_spec specs[PORTS_MAX];
    size_t n = ports_of_status(st, specs);
    const struct port_spec *p = choose(specs, n, port);
    if (p) {
        *ret = *p;
        return 0;
    }
    if (port)
        mvm_error_set(err, -ENOENT, "vm '%s' does not publish port %u", name, port);
    else
        mvm_error_set(err, -ENOENT, "vm '%s' publishes no TCP port", name);
    mvm_error_hint(err, "mvmctl port %s --publish 0:%u publishes one", name, port ? port : 80);
    return -ENOENT;
}

/* NAME or NAME:PORT, which is cut. */
static int split(char *word, unsigned *ret_port, struct mvm_error *err)
{
    char *colon = strchr(word, ':');
    *ret_port = 0;
    if (!colon)
        return 0;
    *colon = '\0';
    return parse_number(colon + 1, "port", 1, UINT16_MAX, ret_port, err);
}

static int run_open(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_FREE struct msg_status *st = calloc(1, sizeof(*st));
    struct port_spec p;
    unsigned port = 0;
    char url[128];
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl open NAME, or NAME:PORT", "open: one VM's name is wanted");
    if (!st)
        return EXIT_OTHER;
    int r = split(a->words[0], &port, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = client_connect(&h, a->words[0], &c, &err);
    if (r == 0)
        r = client_status(c, st, clock_deadline(STATUS_MS), &err);
    if (r == 0)
        r = find(a->words[0], port, st, &p, &err);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    if (r < 0)
        return ui_fail(&err);
    format_url(&p, url, sizeof(url));
    if (ui.json) {
        json_object *o = json_object_new_object();
        json_add_string(o, "status", "ok");
        json_add_string(o, "name", a->words[0]);
        json_add_string(o, "url", url);
        ui_print_json(o);
    } else {
        ui_line("%s", url);
        show(url);
    }
    return 0;
}

/* ---- Its description ---- */

const struct command cmd_open = {
    .name = "open",
    .synopsis = "NAME[:PORT] [--json]",
    .summary = "open what a VM publishes in a browser",
    .text = "Prints the URL of the first TCP port that a running VM publishes, or of PORT (in the guest, or on this "
            "host). Where there is a screen (DISPLAY or WAYLAND_DISPLAY is set) a browser shows it, by xdg-open; "
            "with --json none does. Ports 443 and 8443 of the guest are https.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n"
            "name: the VM's name\n"
            "url: where it is\n",
    .words = WORDS_VMS,
    .run = run_open,
};
