#include "base/clock.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/publish.h"
#include "machine/machine.h"

#include <stdio.h>
#include <string.h>

static void print_age(uint64_t started_at, char out[static 32])
{
    uint64_t s = (clock_wall() - started_at) / NSEC_PER_SEC;
    if (started_at == 0 || s > 100ull * 365 * 86400)
        snprintf(out, 32, "-");
    else if (s < 120)
        snprintf(out, 32, "%llu s", (unsigned long long)s);
    else if (s < 7200)
        snprintf(out, 32, "%llu min", (unsigned long long)s / 60);
    else if (s < 172800)
        snprintf(out, 32, "%llu h", (unsigned long long)s / 3600);
    else
        snprintf(out, 32, "%llu d", (unsigned long long)s / 86400);
}

static void print_table(const struct machine_info *list, size_t n)
{
    if (n)
        ui_line("%-20s %-14s %-12s %-10s %8s %4s  %-15s %s", "NAME", "STATE", "IMAGE", "BACKEND", "MEMORY", "CPUS",
                "ADDRESS", "AGE");
    for (size_t i = 0; i < n; i++) {
        const struct machine_info *m = &list[i];
        const char *note = m->ended[0] ? m->ended : vm_problem(m);
        char age[32], backend[48];
        print_age(m->started_at, age);
        snprintf(backend, sizeof(backend), "%s/%s", m->backend, m->accel.name);
        ui_line("%-20s %-14s %-12.12s %-10s %6llu M %4u  %-15s %s%s%s", m->name, m->state,
                m->image[0] ? m->image : m->role, backend, (unsigned long long)m->memory_mib, m->vcpus,
                m->status.address[0] ? m->status.address : "-", age, note[0] ? "; " : "", note);
        print_member(m, " ");
        publish_print(&m->status, "  ");
    }
}

static int run_ls(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct machine_info *list = NULL;
    size_t n = 0;
    if (a->n_words || a->rest)
        return ui_usage("mvmctl ls takes options only", "ls: unexpected argument");
    if (home_open(&h, &err) < 0 || machine_list(&h, arg_flag(a, "all"), &list, &n, &err) < 0)
        return ui_fail(&err);
    if (arg_flag(a, "names")) {
        for (size_t i = 0; i < n; i++)
            ui_line("%s", list[i].name);
    } else if (ui.json) {
        json_object *o = json_object_new_object(), *vms = json_object_new_array();
        for (size_t i = 0; i < n; i++)
            json_object_array_add(vms, vm_json(&list[i]));
        json_add(o, "vms", vms);
        ui_print_json(o);
    } else {
        print_table(list, n);
    }
    return 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_all = {.name = "all", .help = "builder VMs too"};

static const struct option_spec opt_names = {.name = "names", .help = "names only, one a line"};

const struct command cmd_ls = {
    .name = "ls",
    .synopsis = "[OPTION]...",
    .summary = "list VMs",
    .text = "Lists the VMs there are, running or stopped, with what they run and since when. All are asked at "
            "the same time: those whose supervisor process does not answer within 1.5 s are not responding.",
    .options = OPTIONS(&opt_all, &opt_names, &opt_json),
    .json = "vms: a list of objects with\n" VM_JSON,
    .run = run_ls,
};
