#include "cli/cli.h"
#include "cli/options.h"
#include "machine/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_GRACE_MS 10000

/* VMs end side by side: each stop waits mostly for its guest. */
struct stop {
    struct home *h;
    const char *name;
    uint64_t grace_ms;
    int result;
    struct mvm_error err;
    pthread_t thread;
    bool threaded;
};

static void *stop_one(void *data)
{
    struct stop *s = data;
    s->result = machine_stop(s->h, s->name, s->grace_ms, &s->err);
    return NULL;
}

static void stop_all(struct stop *stops, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        stops[i].threaded = n > 1 && pthread_create(&stops[i].thread, NULL, stop_one, &stops[i]) == 0;
        if (!stops[i].threaded)
            stop_one(&stops[i]);
    }
    for (size_t i = 0; i < n; i++)
        if (stops[i].threaded)
            pthread_join(stops[i].thread, NULL);
}

static int report(const struct stop *stops, size_t n)
{
    int status = 0;
    json_object *o = json_object_new_object(), *down = json_object_new_array(), *bad = json_object_new_array();
    bool json = ui.json;
    for (size_t i = 0; i < n; i++) {
        if (stops[i].result == 0) {
            json_object_array_add(down, json_object_new_string(stops[i].name));
            if (!json)
                ui_line("%s", stops[i].name);
            continue;
        }
        int s = ui_complain(&stops[i].err); /* with --json, the error goes into the one object below, too */
        status = status ? status : s;
        json_object *f = json_object_new_object();
        json_add_string(f, "name", stops[i].name);
        json_add_string(f, "error", stops[i].err.msg);
        json_object_array_add(bad, f);
    }
    json_add_string(o, "status", status ? "error" : "ok");
    json_add(o, "down", down);
    json_add(o, "failed", bad);
    if (json)
        ui_print_json(o);
    else
        json_object_put(o);
    return status;
}

static int run_down(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct machine_info *list = NULL;
    uint64_t grace_ms = DEFAULT_GRACE_MS;
    size_t n = (size_t)a->n_words;
    bool all = arg_flag(a, "all");
    if (a->rest || all == (n > 0))
        return ui_usage("mvmctl down NAME..., or mvmctl down --all", "down: %s",
                        n ? "names and --all at once" : "no VM named");
    if ((arg_value(a, "timeout") && parse_timeout(arg_value(a, "timeout"), &grace_ms, &err) < 0) ||
        home_open(&h, &err) < 0 || (all && machine_list(&h, false, &list, &n, &err) < 0))
        return ui_fail(&err);
    CLEAN_FREE struct stop *stops = calloc(n + 1, sizeof(*stops));
    if (!stops)
        return EXIT_OTHER;
    for (size_t i = 0; i < n; i++)
        stops[i] = (struct stop){.h = &h, .name = all ? list[i].name : a->words[i], .grace_ms = grace_ms};
    stop_all(stops, n);
    return report(stops, n);
}

/* ---- Its description ---- */

static const struct option_spec opt_grace = {
    .name = "timeout", .argument = "SECONDS", .help = "how long the guest may take to end by itself (default: 10)"};

static const struct option_spec opt_all = {.name = "all", .help = "every VM there is"};

const struct command cmd_down = {
    .name = "down",
    .synopsis = "NAME... | --all [OPTION]...",
    .summary = "stop VMs",
    .text = "Asks the guest to end its services and power off, then the backend, then kills it. Returns as soon "
            "as the VM is gone. The VM's folder with its logs is removed.",
    .options = OPTIONS(&opt_all, &opt_grace, &opt_json),
    .json = "status: ok or error\n"
            "down: the names that were stopped\n"
            "failed: objects with name and error\n",
    .words = WORDS_VMS,
    .run = run_down,
};
