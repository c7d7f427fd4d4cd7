/* network create, ls and rm: networks between VMs. */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "vmdir/networks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail_runtime(struct mvm_error *err)
{
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    return ui_fail(err);
}

static int run_network_create(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    char policy[NETWORK_OPTIONS_MAX];
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl network create NAME", "network create: one name is wanted");
    int r = network_policy(a, "policy", policy, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = networks_create(&h, a->words[0], policy[0] ? policy : RUNFILE_NETWORK, &err);
    if (r < 0)
        return fail_runtime(&err);
    ui_line("%s", a->words[0]);
    return 0;
}

/* ---- ls ---- */

static json_object *member_json(const struct network_member *m)
{
    json_object *o = json_object_new_object();
    struct layout_texts t;
    layout_texts(m->number, &t);
    json_add_string(o, "name", m->vm);
    json_add_string(o, "address", t.address);
    json_add_string(o, "address6", t.address6);
    return o;
}

static json_object *one_json(const struct network_info *i)
{
    json_object *o = json_object_new_object(), *vms = json_object_new_array();
    char kind[NETWORK_KIND_MAX];
    network_kind(i->policy, kind);
    json_add_string(o, "name", i->name);
    json_add_string(o, "policy", kind);
    json_add(o, "allow", network_rules_json(i->policy));
    json_add_int(o, "created_at", (int64_t)(i->created_at / NSEC_PER_SEC));
    for (unsigned k = 0; k < i->n_members; k++)
        json_object_array_add(vms, member_json(&i->members[k]));
    json_add(o, "vms", vms);
    return o;
}

static void print_networks(const struct network_info *list, size_t n)
{
    if (n)
        ui_line("%-20s %-10s %s", "NAME", "POLICY", "VMS");
    for (size_t i = 0; i < n; i++) {
        char kind[NETWORK_KIND_MAX];
        const char *allowed = strchr(list[i].policy, ' ');
        network_kind(list[i].policy, kind);
        ui_line("%-20s %-10s %u", list[i].name, kind, list[i].n_members);
        if (allowed)
            ui_line("  allowed%s", allowed);
        for (unsigned k = 0; k < list[i].n_members; k++) {
            struct layout_texts t;
            layout_texts(list[i].members[k].number, &t);
            ui_line("  %-20s %-15s %s", list[i].members[k].vm, t.address, t.address6);
        }
    }
}

static int run_network_ls(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct network_info *list = NULL;
    size_t n = 0;
    if (a->n_words || a->rest)
        return ui_usage("mvmctl network ls takes options only", "network ls: unexpected argument");
    if (home_open(&h, &err) < 0 || networks_list(&h, &list, &n, &err) < 0)
        return fail_runtime(&err);
    if (arg_flag(a, "names")) {
        for (size_t i = 0; i < n; i++)
            ui_line("%s", list[i].name);
    } else if (ui.json) {
        json_object *o = json_object_new_object(), *all = json_object_new_array();
        for (size_t i = 0; i < n; i++)
            json_object_array_add(all, one_json(&list[i]));
        json_add(o, "networks", all);
        ui_print_json(o);
    } else {
        print_networks(list, n);
    }
    return 0;
}

/* ---- rm ---- */

static int run_network_rm(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl network rm NAME", "network rm: one name is wanted");
    if (home_open(&h, &err) < 0 || networks_remove(&h, a->words[0], &err) < 0)
        return fail_runtime(&err);
    ui_line("%s", a->words[0]);
    return 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_policy = {
    .name = "policy",
    .argument = "POLICY",
    .help = "what its VMs may reach beside each other: public (public addresses alone; the default), none, or full "
            "(what this machine reaches but its loopback)",
    .values = "public|none|full"};

static const struct option_spec opt_names = {.name = "names", .help = "names only, one a line"};

const struct command cmd_network_create = {
    .name = "network create",
    .synopsis = "NAME [OPTION]...",
    .summary = "make a network of VMs",
    .text =
        "Makes a network, whose members are the VMs that are started with --network NAME. They find each other by "
        "name (VM, VM.NAME, VM.NAME.mvm.internal) and reach each other over TCP, UDP and ping. Others do not reach "
        "them. What is beyond the network its policy says, for all of them alike.\n\n"
        "Nothing runs for a network, and nothing is changed on this machine: frames go between the network processes "
        "of its VMs. It has at most 32 VMs at a time.",
    .options = OPTIONS(&opt_policy, &opt_allow),
    .run = run_network_create,
};

const struct command cmd_network_ls = {
    .name = "network ls",
    .synopsis = "[OPTION]...",
    .summary = "list networks of VMs",
    .text = "Lists the networks that there are, with their policy and the VMs that run in them.",
    .options = OPTIONS(&opt_names, &opt_json),
    .json =
        "networks: a list of objects with name, policy (public, none, full or listed: what is allowed alone), allow "
        "(a list of what is allowed besides), created_at (seconds since 1970) and vms: a list of objects with name, "
        "address and address6\n",
    .run = run_network_ls,
};

const struct command cmd_network_rm = {
    .name = "network rm",
    .synopsis = "NAME",
    .summary = "remove a network of VMs",
    .text = "Removes a network in which no VM runs.",
    .options = NO_OPTIONS,
    .words = WORDS_NETWORKS,
    .run = run_network_rm,
};
