/* stats: what running VMs have used so far. */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "machine/machine.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define WATCH_MS 1000

/* Of one VM, at one time. */
struct stats {
    struct os_usage vmm, supervisor;
    uint64_t sent, received, denied; /* by its network process's count */
};

static void take_usage(pid_t pid, struct os_usage *ret)
{
    if (pid <= 0 || os_process_usage(pid, ret) < 0)
        *ret = (struct os_usage){0};
}

static uint64_t counted(json_object *counts, const char *name)
{
    json_object *v = NULL;
    return json_object_object_get_ex(counts, name, &v) ? (uint64_t)json_object_get_int64(v) : 0;
}

static struct stats stats_of(const struct machine_info *m)
{
    struct stats s = {0};
    CLEAN_JSON json_object *counts = network_counts_json(m->status.network);
    take_usage((pid_t)m->status.vmm_pid, &s.vmm);
    take_usage(m->supervisor, &s.supervisor);
    s.sent = counted(counts, "sent_bytes");
    s.received = counted(counts, "received_bytes");
    s.denied = counted(counts, "denied");
    return s;
}

/* ---- As they are shown ---- */

static void size(uint64_t bytes, char out[static 16])
{
    static const char units[] = "KMGT";
    double v = (double)bytes;
    int unit = -1;
    while (v >= 1024 && unit < 3) {
        v /= 1024;
        unit++;
    }
    if (unit < 0)
        snprintf(out, 16, "%u", (unsigned)bytes);
    else
        snprintf(out, 16, v < 10 ? "%.1f%c" : "%.0f%c", v, units[unit]);
}

static void print_one(const struct machine_info *m)
{
    char memory[16], most[16], sent[16], received[16], connections[48];
    struct stats s = stats_of(m);
    size(s.vmm.resident_bytes, memory);
    size(m->memory_mib << 20, most);
    size(s.sent, sent);
    size(s.received, received);
    snprintf(connections, sizeof(connections), "%llu/%llu", (unsigned long long)m->status.port_connections,
             (unsigned long long)m->status.ports_connected);
    ui_line("%-20s %-10s %9.1f s %7s/%-7s %8s %8s %8llu %11s", m->name, m->state, (double)s.vmm.cpu_ns / 1e9, memory,
            most, received, sent, (unsigned long long)s.denied, connections);
}

static void print_table(const struct machine_info *v, size_t n)
{
    ui_line("%-20s %-10s %11s %15s %8s %8s %8s %11s", "NAME", "STATE", "CPU", "MEMORY", "NET IN", "NET OUT", "DENIED",
            "PUBLISHED");
    for (size_t i = 0; i < n; i++)
        print_one(&v[i]);
}

static json_object *stats_json(const struct machine_info *m)
{
    struct stats s = stats_of(m);
    json_object *o = json_object_new_object(), *published = json_object_new_object();
    json_add_string(o, "name", m->name);
    json_add_string(o, "state", m->state);
    json_add_int(o, "cpus", m->vcpus);
    json_add_int(o, "cpu_ms", (int64_t)(s.vmm.cpu_ns / NSEC_PER_MSEC));
    json_add_int(o, "memory_bytes", (int64_t)s.vmm.resident_bytes);
    json_add_int(o, "memory_mib", (int64_t)m->memory_mib);
    json_add_int(o, "supervisor_cpu_ms", (int64_t)(s.supervisor.cpu_ns / NSEC_PER_MSEC));
    json_add_int(o, "supervisor_memory_bytes", (int64_t)s.supervisor.resident_bytes);
    json_add(o, "traffic", network_counts_json(m->status.network));
    json_add_int(published, "open", (int64_t)m->status.port_connections);
    json_add_int(published, "connections", (int64_t)m->status.ports_connected);
    json_add(o, "published", published);
    return o;
}

static void print(const struct machine_info *v, size_t n)
{
    if (!ui.json) {
        print_table(v, n);
        fflush(stdout);
        return;
    }
    json_object *o = json_object_new_object(), *vms = json_object_new_array();
    for (size_t i = 0; i < n; i++)
        json_object_array_add(vms, stats_json(&v[i]));
    json_add(o, "vms", vms);
    ui_print_json(o);
}

/* ---- Which VMs ---- */

static bool is_named(const struct args *a, const char *name)
{
    for (int i = 0; i < a->n_words; i++)
        if (strcmp(a->words[i], name) == 0)
            return true;
    return a->n_words == 0;
}

/* A VM that was named must be there, and run. */
static int check_named(const struct args *a, const struct machine_info *v, size_t n, struct mvm_error *err)
{
    for (int w = 0; w < a->n_words; w++) {
        size_t i = 0;
        while (i < n && strcmp(v[i].name, a->words[w]) != 0)
            i++;
        if (i < n && v[i].running)
            continue;
        mvm_error_set(err, -ENOENT, i < n ? "vm '%.60s' is not running" : "there is no vm '%.60s'", a->words[w]);
        mvm_error_hint(err, "mvmctl ls shows the VMs there are");
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        return -ENOENT;
    }
    return 0;
}

static int look(const struct args *a, struct home *h, struct mvm_error *err)
{
    CLEAN_FREE struct machine_info *v = NULL;
    size_t n = 0, kept = 0;
    int r = machine_list(h, a->n_words > 0, &v, &n, err);
    if (r == 0)
        r = check_named(a, v, n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (v[i].running && is_named(a, v[i].name))
            v[kept++] = v[i];
    print(v, kept);
    return 0;
}

static int run_stats(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->rest)
        return ui_usage("mvmctl stats [NAME]...", "stats: unexpected argument '--'");
    bool watch = arg_flag(a, "watch");
    if (watch)
        interrupt_install();
    int r = home_open(&h, &err);
    do
        r = r < 0 ? r : look(a, &h, &err);
    while (r == 0 && watch && poll(&(struct pollfd){.fd = interrupt_fd(), .events = POLLIN}, 1, WATCH_MS) == 0);
    return r < 0 ? ui_fail(&err) : 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_watch = {.name = "watch", .help = "again every second, until Ctrl-C"};

const struct command cmd_stats = {
    .name = "stats",
    .synopsis = "[NAME]... [--watch] [--json]",
    .summary = "show what running VMs use",
    .text = "Shows what the VMs named, or all that run, have used since they were started: the processor time of the "
            "backend, its memory and the guest's most, bytes to and from the guest through its network process, what "
            "that denied, and connections through published ports, those that are open and all there were.",
    .options = OPTIONS(&opt_watch, &opt_json),
    .json = "vms: a list of objects with\n"
            "name: the VM's name\n"
            "state: as ls has it\n"
            "cpus: its processors\n"
            "cpu_ms: processor time of its backend\n"
            "memory_bytes: of its backend, not swapped out\n"
            "memory_mib: what the guest has at most\n"
            "supervisor_cpu_ms: processor time of its supervisor\n"
            "supervisor_memory_bytes: of its supervisor, not swapped out\n"
            "traffic: as inspect has it, or null\n"
            "published: an object with open and connections: through published ports, open now and since the start\n",
    .words = WORDS_VMS,
    .run = run_stats,
};
