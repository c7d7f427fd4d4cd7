/* VMs from images, as the options say: what up, run, exec, fork and dev shell share. */
#include "cli/boot.h"
#include "base/clock.h"
#include "base/fd.h"
#include "builder/persistent.h"
#include "cli/network_limits.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/publish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MEMORY_MIB 256
#define STOP_GRACE_MS      10000

static int machine_options(const struct args *a, const struct artifact_image *img, struct machine_config *c,
                           struct mvm_error *err)
{
    const char *memory = arg_value(a, "memory"), *cpus = arg_value(a, "cpus"), *timeout = arg_value(a, "timeout");
    c->memory_mib = img->metadata.memory_mib ? img->metadata.memory_mib : DEFAULT_MEMORY_MIB;
    c->vcpus = img->metadata.vcpus ? (unsigned)img->metadata.vcpus : 1;
    c->timeout_ms = DEFAULT_TIMEOUT_MS;
    c->hypervisor = arg_value(a, "hypervisor");
    c->cold = arg_flag(a, "cold");
    c->verify = arg_flag(a, "verify");
    int r = memory ? parse_memory(memory, &c->memory_mib, err) : 0;
    if (r == 0 && cpus)
        r = parse_cpus(cpus, &c->vcpus, err);
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &c->timeout_ms, err);
    const char *ready = arg_value(a, "ready");
    c->ready = ready && strcmp(ready, "agent") == 0 ? READY_AGENT : READY_SERVICES;
    if (r == 0 && ready && c->ready == READY_SERVICES && strcmp(ready, "services") != 0) {
        r = mvm_error_set(err, -EINVAL, "--ready %.60s", ready);
        mvm_error_phase(err, MVM_PHASE_USAGE);
        mvm_error_hint(err, "it is agent or services");
    }
    return r;
}

/* "builder" and "builder-N" are builders' (builder/persistent.h). */
int boot_check_name(const char *name, struct mvm_error *err)
{
    size_t n = strlen(PERSISTENT_NAME);
    if (strncmp(name, PERSISTENT_NAME, n) != 0 || (name[n] && name[n] != '-') ||
        (name[n] && strspn(name + n + 1, "0123456789") != strlen(name + n + 1)))
        return vmdir_check_name(name, err);
    mvm_error_set(err, -EINVAL, "vm name '%.60s': builder VMs have such names", name);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "choose another name");
    return -EINVAL;
}

static int start_named(struct home *h, struct machine_config *c, const char *base, struct progress *p,
                       struct machine_info *info, struct mvm_error *err)
{
    char free_name[VMDIR_MAX_NAME + 1];
    int r = 0;
    if (c->name)
        return machine_start(h, c, p, info, err);
    /* The name is free now; whoever starts first has it, and the other takes the next. */
    c->hostname = base;
    for (int tries = 0; tries < 20; tries++) {
        r = machine_pick_name(h, base, free_name, err);
        c->name = free_name;
        if (r == 0)
            r = machine_start(h, c, p, info, err);
        if (r != -EEXIST)
            break;
    }
    c->name = NULL;
    return r;
}

/* A VM that does not publish what it was to is not what was asked for. */
static int publish(struct home *h, struct port_sockets *ports, struct machine_info *info, struct mvm_error *err)
{
    uint64_t since = clock_now();
    int r = ports_publish(h, info->name, ports, &info->status, err);
    steps_add(&info->steps, "publish", since);
    if (r == 0)
        return 0;
    mvm_error_wrap(err, "vm '%s' cannot publish its ports, and was stopped", info->name);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    (void)!machine_stop(h, info->name, 0, NULL);
    fd_closep(&info->tether);
    return r;
}

int boot_named(const struct args *a, struct home *h, struct machine_config *c, const char *base,
               struct port_sockets *ports, struct progress *p, struct machine_info *info, struct mvm_error *err)
{
    CLEAN_FREE char *pcap = NULL;
    int r = network_pcap(a, &pcap, err);
    if (r < 0)
        return r;
    c->pcap = pcap;
    r = start_named(h, c, base, p, info, err);
    if (r == 0 && ports)
        r = publish(h, ports, info, err);
    if (r < 0 && pcap)
        unlink(pcap);
    c->pcap = NULL;
    return r;
}

/* What the guest may reach, by the options or else by config.toml and the image. */
static int network_of(const struct args *a, struct home *h, const struct image_metadata *m,
                      char out[static NETWORK_OPTIONS_MAX], struct mvm_error *err)
{
    CLEAN_CONFIG struct config config = CONFIG_INIT;
    int r = network_options(a, out, err);
    if (r < 0 || out[0] || network_named(a))
        return r;
    r = config_load(&config, h, err);
    return r < 0 ? r : network_default(&config, m->network, out, err);
}

int boot_image(const struct args *a, struct home *h, const struct artifact_image *img, bool transient,
               uint64_t settle_ms, struct progress *p, struct machine_info *info, struct mvm_error *err)
{
    /* An image's name may be a builder's. */
    bool usable = img->metadata.name[0] && boot_check_name(img->metadata.name, NULL) == 0;
    struct machine_config c = {
        .name = arg_value(a, "name"),
        .role = VM_ROLE_RUNTIME,
        .image = img->path,
        .image_digest = img->digest,
        .transient = transient,
        .settle_ms = settle_ms,
    };
    CLEAN_PORT_SOCKETS struct port_sockets *ports = NULL;
    char network[NETWORK_OPTIONS_MAX], limits[NETWORK_LIMITS_MAX];
    int r = machine_options(a, img, &c, err);
    if (r == 0)
        r = network_of(a, h, &img->metadata, network, err);
    if (r == 0)
        r = network_limits(a, h, "", limits, err);
    c.network = network;
    c.member_of = network_named(a);
    c.network_limits = limits;
    if (transient)
        c.ready = READY_AGENT;
    if (r == 0 && c.name)
        r = boot_check_name(c.name, err);
    if (r == 0)
        r = publish_open(a, &img->metadata, h, &ports, err);
    return r < 0 ? r : boot_named(a, h, &c, usable ? img->metadata.name : "vm", ports, p, info, err);
}

int boot_check_options(const struct args *a, struct mvm_error *err)
{
    const struct artifact_image none = ARTIFACT_IMAGE_INIT;
    struct machine_config c = {0};
    const struct vmm_ops *backend;
    char network[NETWORK_OPTIONS_MAX];
    int r = machine_options(a, &none, &c, err);
    if (r == 0)
        r = network_options(a, network, err);
    if (r == 0)
        r = network_limits_check(a, err);
    if (r == 0 && arg_value(a, "name"))
        r = boot_check_name(arg_value(a, "name"), err);
    if (r == 0)
        r = publish_check(a, err);
    if (r == 0)
        r = vmm_find(c.hypervisor, &backend, err);
    return r;
}

void boot_print(const struct machine_info *info, const struct build_result *built, const struct progress *p,
                const struct trace *trace, bool table, json_object *more)
{
    CLEAN_JSON json_object *fields = more;
    const struct msg_status *st = &info->status;
    double ready = (double)st->ready_ns / 1e6;
    ui_clear();
    if (!ui.json) {
        ui_line("%s  ready in %.0f ms", info->name, ready);
        publish_print(st, "  ");
        if (table)
            trace_print(trace);
        if (!st->confined)
            ui_say("warning: confinement of the VMM: %s", st->confinement);
        if (st->problem[0])
            ui_say("in the guest: %s", st->problem);
        if (built && !built->cached)
            ui_say("mvmctl exec -it %s sh opens a shell in it, mvmctl logs %s shows its logs, mvmctl down %s ends it",
                   info->name, info->name, info->name);
        return;
    }
    json_object *o = json_object_new_object(), *t = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_string(o, "name", info->name);
    json_add_string(o, "image", info->image);
    json_add_string(o, "backend", info->backend);
    json_add_string(o, "accel", info->accel.name);
    json_add_string(o, "accel_reason", info->accel.reason);
    json_add_string(o, "confinement", st->confinement);
    json_add_string(o, "limits", st->limits);
    json_add_string(o, "mode", st->mode);
    json_add_string(o, "cold_reason", st->cold_reason[0] ? st->cold_reason : NULL);
    json_add_double(o, "ready_ms", ready);
    json_add_string(o, "address", st->address[0] ? st->address : NULL);
    json_add_string(o, "member_of", info->member_of[0] ? info->member_of : NULL);
    json_add_string(o, "problem", st->problem[0] ? st->problem : NULL);
    json_add(o, "ports", publish_json(st));
    json_add_double(t, "spawn_ms", (double)st->spawn_ns / 1e6);
    json_add_double(t, "hello_ms", (double)st->hello_ns / 1e6);
    json_add_double(t, "ready_ms", ready);
    json_add_double(t, "guest_ready_ms", (double)st->guest_ready_ns / 1e6);
    if (trace)
        json_add(t, "steps", trace_json(trace));
    if (built) {
        json_add_bool(o, "cached", built->cached);
        json_add(t, "build", ui_timings(p));
    }
    json_add(o, "timings", t);
    if (fields) {
        json_object_object_foreach(fields, key, value)
        {
            json_add(o, key, json_object_get(value));
        }
    }
    ui_print_json(o);
}

/* Follows the logs; an interrupt stops the VM, its end ends us. */
int boot_attach(struct home *h, const char *name, struct mvm_error *err)
{
    fflush(stdout);
    int r = follow_logs(h, name, err);
    if (r == -EINTR) {
        ui_say("stopping %s", name);
        r = machine_stop(h, name, STOP_GRACE_MS, err);
    }
    return r < 0 ? ui_fail(err) : 0;
}
