#include "builder/build.h"
#include "cli/boot.h"
#include "cli/cli.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/trace.h"
#include "host/interrupt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of an image as JSON, null for those it has not. */
static void add_path(json_object *o, const char *key, const struct artifact_image *img, enum artifact a)
{
    CLEAN_FREE char *path = NULL;
    if (img->manifest.artifacts[a].present)
        (void)!asprintf(&path, "%s/%s", img->path, artifact_name(a));
    json_add_string(o, key, path);
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value && strcmp(value, "0") != 0;
}

struct build_opts build_opts_from(const struct args *a)
{
    struct build_opts o = {
        .ref = arg_value(a, "flake") ? arg_value(a, "flake") : ".",
        .profile = arg_value(a, "profile"),
        .attr = arg_value(a, "attr"),
        .system = arg_value(a, "system"),
        .force = arg_flag(a, "force"),
        .write_lock = !arg_flag(a, "no-write-lock-file"),
        .offline = arg_flag(a, "offline"),
        .verify = arg_flag(a, "verify"),
        .single_shot = arg_flag(a, "no-persistent-builder") || is_set("MVM_NO_PERSISTENT_BUILDER"),
    };
    o.n_allow = arg_list(a, "allow-input", o.allow, ARRAY_SIZE(o.allow));
    return o;
}

static int run_with_limit(const struct args *a, struct build_opts *o, struct home *h, struct progress *p,
                          struct build_result *ret, struct mvm_error *err)
{
    const char *jobs = arg_value(a, "jobs");
    int r = jobs ? parse_jobs(jobs, &o->max_jobs, err) : 0;
    return r < 0 ? r : build_run(o, h, p, ret, err);
}

int build_with_progress(const struct args *a, struct home *h, struct progress *p, struct build_result *ret,
                        struct mvm_error *err)
{
    struct build_opts o = build_opts_from(a);
    return run_with_limit(a, &o, h, p, ret, err);
}

static json_object *builder_json(const struct build_result *b)
{
    if (!b->builder.kind)
        return NULL;
    json_object *o = builder_image_report_json(&b->builder);
    json_add_string(o, "mode", b->persistent ? "persistent" : "single-shot");
    json_add_string(o, "fallback_reason", b->fallback_reason[0] ? b->fallback_reason : NULL);
    return o;
}

int build_and_print(const struct args *a, struct home *h, const char *ref)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_BUILD_RESULT struct build_result b = BUILD_RESULT_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    struct build_opts opts = build_opts_from(a);
    opts.ref = ref;
    struct trace trace = {0};
    p.steps = &trace.own;
    steps_add(&trace.own, "startup", ui.born);
    if (run_with_limit(a, &opts, h, &p, &b, &err) < 0 || network_check_wish(b.image.metadata.network, &err) < 0 ||
        (arg_value(a, "trace") && trace_write(&trace, arg_value(a, "trace"), &err) < 0))
        return ui_fail(&err);
    const struct image_metadata *m = &b.image.metadata;
    if (m->kernel_kind[0])
        progress_verbose(&p, "kernel: %s", m->kernel_kind);
    ui_clear();
    if (!ui.json) {
        ui_line("%.12s  %s  %s", b.image.digest, m->name[0] ? m->name : "image", b.image.path);
        if (m->network[0])
            ui_say("it wishes to reach no more than: %s", m->network + 1);
        ui_say("%sboot it with: mvmctl up --flake %s", b.cached ? "nothing has changed; " : "", ref);
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_bool(o, "cached", b.cached);
    json_add_string(o, "image", b.image.digest);
    add_path(o, "kernel", &b.image, ARTIFACT_VMLINUX);
    add_path(o, "rootfs", &b.image, ARTIFACT_ROOTFS);
    add_path(o, "initrd", &b.image, ARTIFACT_INITRD);
    add_path(o, "cmdline", &b.image, ARTIFACT_CMDLINE);
    json_add_string(o, "kernel_kind", m->kernel_kind[0] ? m->kernel_kind : NULL);
    json_add(o, "network", network_json(m->network));
    json_add_string(o, "store_path", b.store_path);
    json_add_string(o, "attr", b.attr);
    json_add(o, "builder", builder_json(&b));
    json_add(o, "timings", ui_timings(&p));
    ui_print_json(o);
    return 0;
}

static int run_build(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words || a->rest)
        return ui_usage("name the flake with --flake", "build: unexpected argument '%.60s'",
                        a->n_words ? a->words[0] : "--");
    interrupt_install();
    if (home_open(&h, &err) < 0)
        return ui_fail(&err);
    return build_and_print(a, &h, arg_value(a, "flake") ? arg_value(a, "flake") : ".");
}

/* ---- Its description ---- */

const struct command cmd_build = {
    .name = "build",
    .synopsis = "[--flake REF] [OPTION]...",
    .summary = "build a microVM image from a flake",
    .text = "Builds packages.<system>.default of the flake inside the builder VM and keeps kernel and root file "
            "system in the host's cache. Where nothing that goes into the image has changed, the cached one is "
            "taken and no VM starts.\n\n"
            "The first build on a machine assembles the builder from the distribution's signed packages. The "
            "flake's flake.lock is written where Nix created or changed it.\n\n"
            "Of more builds than may run in a builder at once, those that came later wait for their turn, in the "
            "order they came. A build that is interrupted, or whose terminal is closed, ends in the builder too; "
            "others go on. So does one that uses more memory or processes than a build may.\n\n"
            "With --json, progress is told on standard error, one JSON object a line. Its field event says what "
            "it is: phase (phase: its name), progress (phase, and either detail or built, to_build, "
            "copied_paths, paths_to_copy, fetched_bytes, bytes_to_fetch and current: the derivation or file at "
            "work, or null), note and, with --verbose, log (text), error (the fields of a failure, see "
            "DESCRIPTION).\n\n"
            "Where a build fails, kind says which of its phase's failures it is. nix-eval: attribute (there is "
            "no such one), eval, fetch, hash-mismatch. nix-build: builder (a derivation's builder failed), "
            "fetch, hash-mismatch, out-of-memory, too-many-processes, disk-full, disk-error, build (anything else). "
            "artifact-extraction: artifacts (the output is no image). boot-budget: instructions, warm-start (a "
            "start of the image costs more than the flake's bootBudget).",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_system, &opt_force, &opt_no_write_lock_file,
                       &opt_offline, &opt_allow_input, &opt_no_persistent_builder, &opt_verify_all, &opt_jobs,
                       &opt_trace, &opt_json, &opt_verbose),
    .json = "status: ok\n"
            "cached: true where nothing had to be built\n"
            "image: the image's digest\n"
            "kernel: path of the kernel\n"
            "rootfs: path of the root file system\n"
            "initrd: path of the initrd, or null\n"
            "cmdline: path of the kernel command line, or null\n"
            "kernel_kind: distribution, slim, or null where the image does not say\n"
            "builder: null where no builder was needed; else an object with kind, ready and reason of its image "
            "as it was found (" REASONS
            "), and where it was built now, seed (what it was built in) and passed_over (objects with seed and "
            "reason), mode (persistent or single-shot), fallback_reason (why not persistent, where it was "
            "wanted)\n"
            "network: what the image wishes to reach at most, null or an object with policy (public, none, full, or "
            "listed: what is allowed alone) and allow (a list)\n"
            "store_path: the output in the builder's store\n"
            "attr: the attribute that was built\n"
            "timings: milliseconds spent in each phase, and total\n",
    .run = run_build,
};
