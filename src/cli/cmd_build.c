#include "base/interrupt.h"
#include "builder/build.h"
#include "cli/boot.h"
#include "cli/cli.h"
#include "cli/trace.h"

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
    json_object *o = bootstrap_report_json(&b->builder);
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
    if (run_with_limit(a, &opts, h, &p, &b, &err) < 0 ||
        (arg_value(a, "trace") && trace_write(&trace, arg_value(a, "trace"), &err) < 0))
        return ui_fail(&err);
    const struct image_metadata *m = &b.image.metadata;
    if (m->kernel_kind[0])
        progress_verbose(&p, "kernel: %s", m->kernel_kind);
    ui_clear();
    if (!ui.json) {
        ui_line("%.12s  %s  %s", b.image.digest, m->name[0] ? m->name : "image", b.image.path);
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
    json_add_string(o, "store_path", b.store_path);
    json_add_string(o, "attr", b.attr);
    json_add(o, "builder", builder_json(&b));
    json_add(o, "timings", ui_timings(&p));
    ui_print_json(o);
    return 0;
}

int cmd_build(struct args *a)
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
