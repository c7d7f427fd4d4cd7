#include "base/clock.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/network_limits.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/publish.h"
#include "machine/machine.h"
#include "net/peers.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const char *vm_problem(const struct machine_info *m)
{
    return m->status.services_problem[0] ? m->status.services_problem : m->status.problem;
}

json_object *vm_json(const struct machine_info *m)
{
    const struct msg_status *st = &m->status;
    json_object *o = json_object_new_object();
    json_add_string(o, "name", m->name);
    json_add_string(o, "state", m->state);
    json_add_string(o, "role", m->role);
    json_add_string(o, "image", m->image[0] ? m->image : NULL);
    json_add_string(o, "backend", m->backend);
    json_add_string(o, "accel", m->accel.name);
    json_add_string(o, "accel_reason", m->accel.reason);
    json_add_int(o, "memory_mib", (int64_t)m->memory_mib);
    json_add_int(o, "cpus", m->vcpus);
    json_add_int(o, "started_at", (int64_t)(m->started_at / NSEC_PER_SEC));
    json_add_int(o, "vmm_pid", (int64_t)st->vmm_pid);
    json_add_int(o, "supervisor_pid", (int64_t)m->supervisor);
    struct layout_texts there;
    layout_texts(m->member, &there);
    json_add_string(o, "address", st->address[0] ? st->address : NULL);
    json_add_string(o, "member_of", m->member_of[0] ? m->member_of : NULL);
    json_add_string(o, "address6", m->member_of[0] ? there.address6 : NULL);
    json_add_string(o, "confinement", st->confinement[0] ? st->confinement : NULL);
    json_add_string(o, "limits", st->limits[0] ? st->limits : NULL);
    json_add_string(o, "problem", vm_problem(m)[0] ? vm_problem(m) : NULL);
    json_add_string(o, "ended", m->ended[0] ? m->ended : NULL);
    json_add(o, "ports", publish_json(st));
    return o;
}

static void line(const char *name, const char *value)
{
    if (value[0])
        ui_line("%-13s %s", name, value);
}

/* The policy of a VM's network, and what it allows besides. Nothing of one that an mvmctl started which had none. */
static void print_network(const char *text)
{
    char kind[NETWORK_KIND_MAX], rules[sizeof(((struct machine_info *)0)->network)];
    const char *wish = network_wish(text), *first = strchr(text, ' ');
    network_kind(text, kind);
    line("network", kind);
    snprintf(rules, sizeof(rules), "%.*s", first ? (int)(*wish ? wish - 1 - first : (ptrdiff_t)strlen(first)) : 0,
             first ? first : "");
    line("allowed", *rules ? rules + 1 : "");
    line("image wishes", *wish ? wish + 1 : "");
}

void print_member(const struct machine_info *m, const char *indent)
{
    struct layout_texts there;
    if (!m->member_of[0])
        return;
    layout_texts(m->member, &there);
    ui_line("%s %s.%s" PEERS_ZONE " %s %s", indent, m->name, m->member_of, there.address, there.address6);
}

static void number(const char *name, uint64_t value, const char *unit)
{
    if (value)
        ui_line("%-13s %llu%s", name, (unsigned long long)value, unit);
}

static void print_vm(const struct machine_info *m, const char *folder)
{
    const struct msg_status *st = &m->status;
    char accel[sizeof(m->backend) + sizeof(m->accel.name) + sizeof(m->accel.reason) + 8], started[32] = "";
    time_t at = (time_t)(m->started_at / NSEC_PER_SEC);
    struct tm tm;
    if (at && gmtime_r(&at, &tm))
        strftime(started, sizeof(started), "%Y-%m-%dT%H:%M:%SZ", &tm);
    snprintf(accel, sizeof(accel), "%s/%s (%s)", m->backend, m->accel.name, m->accel.reason);
    line("name", m->name);
    line("state", m->state);
    line("problem", vm_problem(m));
    line("ended", m->ended);
    line("role", m->role);
    line("image", m->image);
    line("backend", accel);
    number("memory", m->memory_mib, " MiB");
    number("cpus", m->vcpus, "");
    line("started", started);
    line("start", st->mode);
    line("cold reason", st->cold_reason);
    line("address", st->address);
    publish_print(st, "published     ");
    print_member(m, "member       ");
    print_network(m->network);
    line("net limits", m->network_limits);
    line("traffic", st->network);
    line("confinement", st->confinement);
    line("limits", st->limits);
    line("supervisor in", st->own_confinement);
    number("vmm", st->vmm_pid, "");
    number("supervisor", (uint64_t)m->supervisor, "");
    line("folder", folder);
}

static int run_inspect(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct machine_info *m = calloc(1, sizeof(*m));
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl inspect NAME; mvmctl ls shows the names", "inspect: one VM's name is wanted");
    if (!m)
        return EXIT_OTHER;
    if (home_open(&h, &err) < 0 || machine_inspect(&h, a->words[0], m, &err) < 0)
        return ui_fail(&err);
    CLEAN_FREE char *folder = path_join(h.state, "vms", m->name, NULL);
    if (!ui.json) {
        print_vm(m, folder ? folder : "");
        return 0;
    }
    json_object *o = vm_json(m);
    json_add_string(o, "mode", m->status.mode[0] ? m->status.mode : NULL);
    json_add_string(o, "cold_reason", m->status.cold_reason[0] ? m->status.cold_reason : NULL);
    char network[NETWORK_KIND_MAX];
    network_kind(m->network, network);
    json_add_string(o, "network", network[0] ? network : NULL);
    json_add(o, "allow", network_rules_json(m->network));
    json_add(o, "network_limits", network_limits_json(m->network_limits));
    json_add(o, "traffic", network_counts_json(m->status.network));
    json_add(o, "image_network", network_json(network_wish(m->network)));
    json_add_string(o, "supervisor_confinement", m->status.own_confinement[0] ? m->status.own_confinement : NULL);
    json_add_string(o, "folder", folder);
    ui_print_json(o);
    return 0;
}

/* ---- Its description ---- */

const struct command cmd_inspect = {
    .name = "inspect",
    .synopsis = "NAME [--json]",
    .summary = "show all that is known of a VM",
    .text = "Shows a VM's state, what it runs, how it was started, what confines its VMM, and the folder with "
            "its logs.",
    .options = OPTIONS(&opt_json),
    .json =
        VM_JSON "mode: warm (restored) or cold (booted)\n"
                "cold_reason: why it was booted\n"
                "network: the policy that says what the guest reaches: public, none, full, listed (what is "
                "allowed alone) or builder\n"
                "allow: a list of what was allowed besides\n"
                "network_limits: an object with rate_in and rate_out (bytes a second to and from the guest, 0: none), "
                "connections (open at most) and queries (of names, a second)\n"
                "traffic: what its network process has counted since it was started, null where it was not: an "
                "object with sent_bytes and received_bytes (of the guest), connections (opened, of any protocol), "
                "denied (by policy), too_many (connections beyond those that may be open), refused_frames, "
                "lost_frames, names_asked, names_denied and "
                "names_limited (asked too fast), peer_frames_sent and "
                "peer_frames_received (frames to and from other members of its network)\n"
                "image_network: what the image wishes to reach at most, and counts, too: null or an object with "
                "policy and allow, as above\n"
                "supervisor_confinement: what confines its supervisor\n"
                "folder: where its logs are\n",
    .words = WORDS_VMS,
    .run = run_inspect,
};
