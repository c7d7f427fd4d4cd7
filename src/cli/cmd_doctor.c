#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "builder/builder_image.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "jail/cgroup.h"
#include "net/libslirp.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum state { OK, WARN, FAIL };

struct report {
    json_object *checks;
    bool failed;
};

static void tell(struct report *r, const char *name, enum state s, const char *hint, const char *fmt, ...)
    MVM_PRINTF(5, 6);
static void tell(struct report *r, const char *name, enum state s, const char *hint, const char *fmt, ...)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    static const char *const colors[] = {"\033[32m", "\033[33m", "\033[31m"};
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    r->failed |= s == FAIL;
    if (!ui.json) {
        ui_colored(colors[s], "%-4s", names[s]);
        ui_line(" %-14s %s", name, text);
        if (s != OK && hint)
            ui_line("                    -> %s", hint);
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "name", name);
    json_add_string(o, "state", names[s]);
    json_add_string(o, "detail", text);
    json_add_string(o, "hint", s == OK ? NULL : hint);
    json_object_array_add(r->checks, o);
}

/* Which there are, and which of them a VM gets that is asked none of. */
static void check_backends(struct report *r, struct home *h)
{
    struct vmm_accel a = {0};
    (void)!vmm_choose_accel(h->state_fd, NULL, &a, NULL); /* what is wrong is told below */
    for (size_t i = 0; vmm_all[i]; i++) {
        struct mvm_error err = MVM_ERROR_INIT;
        if (vmm_all[i]->available(NULL, &err) == 0 && vmm_check_host(vmm_all[i], &a, false, &err) == 0)
            tell(r, vmm_all[i]->name, OK, NULL, "installed%s", i > 0 ? "; --hypervisor asks for it" : "");
        else if (i > 0 && vmm_all[i]->available(NULL, NULL) == 0)
            tell(r, vmm_all[i]->name, OK, NULL, "installed, and not used here: %s", err.msg);
        else if (i > 0 && err.code == -ENOENT)
            tell(r, vmm_all[i]->name, OK, NULL, "not installed, which is fine: %s runs VMs", vmm_all[0]->name);
        else
            tell(r, vmm_all[i]->name, FAIL, err.hint, "%s", err.msg);
    }
}

static void check_confinement(struct report *r)
{
    for (size_t i = 0; vmm_all[i]; i++) {
        struct mvm_error err = MVM_ERROR_INIT;
        struct jail_report jail;
        char text[JAIL_REPORT_MAX];
        if (vmm_all[i]->available(NULL, NULL) < 0)
            continue;
        if (vmm_all[i]->confinement(&jail, &err) < 0) {
            tell(r, "confinement", FAIL, err.hint, "%s: %s", vmm_all[i]->name, err.msg);
            continue;
        }
        jail_report_format(&jail, text);
        tell(r, "confinement", jail.namespaces && jail.seccomp ? OK : WARN,
             jail.seccomp ? "install the package bubblewrap, and allow user namespaces"
                          : "a VMM that a guest takes over can do what you can",
             "%s: %s", vmm_all[i]->name, text);
    }
}

/* Makes a cgroup as for a VMM. */
static void check_limits(struct report *r)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_CGROUP struct cgroup g = CGROUP_INIT;
    const struct cgroup_bounds any = {.memory_bytes = 1u << 30, .processes = 128};
    bool can = cgroup_make(&g, "doctor", &any, &err) == 0;
    tell(r, "limits", can ? OK : WARN, "systemd delegates one: systemd-run --user --scope mvmctl up ...", "%s",
         can ? "each VMM gets a cgroup with bounds on memory and processes" : err.msg);
}

static void check_accel(struct report *r, struct home *h)
{
    struct vmm_accel a;
    struct mvm_error err = MVM_ERROR_INIT;
    if (vmm_choose_accel(h->state_fd, NULL, &a, &err) < 0) {
        tell(r, "acceleration", FAIL, err.hint, "%s", err.msg);
        return;
    }
    tell(r, "acceleration", vmm_accel_emulates(&a) ? WARN : OK,
         "VMs run in software emulation: slower, and otherwise the same", "%s: %s", a.name, a.reason);
    tell(r, "clock", a.tsc_khz ? OK : WARN, "guests calibrate their clocks themselves",
         "time stamp counter at %.0f MHz", (double)a.tsc_khz / 1000);
    const char *hint;
    double ms = vmm_accel_emulates(&a) ? -1 : vmm_creation_ms(&hint);
    if (ms >= 0)
        tell(r, a.name, ms > 10 ? WARN : OK, hint, "a VM is created in %.1f ms", ms);
}

static void check_programs(struct report *r)
{
    static const struct {
        const char *name, *why, *hint;
    } programs[] = {
        {"mmdebstrap", "assembles the builder on its first use", "install the package mmdebstrap"},
        {"apt-get", "says where the builder's packages come from", "stage 0 needs a Debian host"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        CLEAN_FREE char *path = process_find(programs[i].name);
        tell(r, programs[i].name, path ? OK : FAIL, programs[i].hint, path ? "installed" : "not installed; it %s",
             programs[i].why);
    }
}

/* Without it VMs start, and reach nothing. */
static void check_network(struct report *r)
{
    struct mvm_error err = MVM_ERROR_INIT;
    bool can = libslirp_load(&err) != NULL;
    tell(r, "network", can ? OK : FAIL, err.hint, "%s", can ? "libslirp carries what guests send" : err.msg);
}

static void check_folder(struct report *r, const char *name, const char *path, double need_gb)
{
    struct statvfs sv;
    if (statvfs(path, &sv) < 0) {
        tell(r, name, FAIL, "check the folder", "%s: %s", path, strerror(errno));
        return;
    }
    double gb = (double)sv.f_bavail * (double)sv.f_frsize / 1e9;
    tell(r, name, gb < need_gb ? WARN : OK, "builds may run out of space", "%s, %.1f GB free", path, gb);
}

static void check_builder(struct report *r, struct home *h)
{
    struct mvm_error err = MVM_ERROR_INIT;
    struct builder_image_report report;
    if (builder_image_judge(h, false, &report, &err) < 0) {
        tell(r, "builder image", FAIL, err.hint, "%s", err.msg);
        return;
    }
    bool ready = report.reason == CACHE_HIT;
    tell(r, "builder image", ready ? OK : WARN, "the next build makes it, which takes about a minute", "%s: %s",
         report.kind, cache_reason_name(report.reason));
}

static int run_doctor(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words || a->rest)
        return ui_usage("it checks this machine", "doctor: unexpected argument '%.60s'",
                        a->n_words ? a->words[0] : "--");
    struct report r = {.checks = json_object_new_array()};
    if (home_open(&h, &err) < 0) {
        json_object_put(r.checks);
        return ui_fail(&err);
    }
    check_backends(&r, &h);
    check_confinement(&r);
    check_limits(&r);
    check_accel(&r, &h);
    check_programs(&r);
    check_network(&r);
    check_folder(&r, "state folder", h.state, 2);
    check_folder(&r, "cache folder", h.cache, 4);
    check_builder(&r, &h);
    if (ui.json) {
        json_object *o = json_object_new_object();
        json_add_string(o, "status", r.failed ? "error" : "ok");
        json_add(o, "checks", r.checks);
        ui_print_json(o);
    } else {
        json_object_put(r.checks);
    }
    return r.failed ? EXIT_OTHER : 0;
}

/* ---- Its description ---- */

const struct command cmd_doctor = {
    .name = "doctor",
    .synopsis = "[OPTION]...",
    .summary = "check what this machine can do",
    .text = "Checks what builds and boots need, and says what to do about what is missing. Exits with 1 where "
            "something needed is.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok or error\n"
            "checks: a list of objects with name, state (ok, warn, fail), detail, hint\n",
    .run = run_doctor,
};
