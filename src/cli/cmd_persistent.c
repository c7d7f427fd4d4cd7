/* The low-level controls of the persistent builder. No build needs them: mvmctl build starts and finds it by itself. */
#include "builder/persistent.h"
#include "cli/boot.h"
#include "cli/options.h"
#include "host/interrupt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORK "/work"

static json_object *status_json(const struct persistent_status *s)
{
    json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "state", s->state);
    json_add_string(o, "mode", s->mode[0] ? s->mode : NULL);
    json_add_int(o, "clients", s->clients);
    json_add_bool(o, "held", s->held);
    json_add_int(o, "idle_stop_ms", (int64_t)s->idle_ms);
    json_add_int(o, "started_at", (int64_t)(s->started_at / 1000000000));
    json_add_int(o, "supervisor_pid", s->supervisor);
    json_add_int(o, "memory_mib", (int64_t)s->memory_mib);
    json_add_int(o, "cpus", s->vcpus);
    json_add_string(o, "workspace", s->workspace[0] ? s->workspace : NULL);
    json_add_bool(o, "stale_record_removed", s->stale);
    return o;
}

static void print_status(const struct persistent_status *s)
{
    ui_out("persistent builder  %s", s->state);
    if (s->supervisor) {
        ui_out("%s%s, %u client%s", s->mode[0] ? ", started " : "", s->mode, s->clients, s->clients == 1 ? "" : "s");
        if (s->idle_ms)
            ui_out(", stops when idle for %llu s", (unsigned long long)s->idle_ms / 1000);
        else
            ui_out(", stays until mvmctl dev down");
    }
    ui_out("\n");
    if (s->workspace[0])
        ui_line("workspace           %s (" WORK " in the builder)", s->workspace);
    if (s->stale)
        ui_line("                    the record of one that is gone was removed");
}

static int show(struct home *h, struct mvm_error *err)
{
    struct persistent_status s;
    if (persistent_status(h, &s, err) < 0)
        return ui_fail(err);
    ui_clear();
    if (ui.json)
        ui_print_json(status_json(&s));
    else
        print_status(&s);
    return 0;
}

static int run_persistent_status(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "persistent-builder status: unexpected argument");
    return home_open(&h, &err) < 0 ? ui_fail(&err) : show(&h, &err);
}

static int run_persistent_start(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_BUILDER_SESSION struct builder_session s = BUILDER_SESSION_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    const char *workspace = arg_value(a, "workspace") ? arg_value(a, "workspace") : ".";
    struct stat st;
    if (a->n_words || a->rest)
        return ui_usage("name the folder with --workspace", "persistent-builder start: unexpected argument");
    CLEAN_FREE char *real = realpath(workspace, NULL);
    if (!real || stat(real, &st) < 0 || !S_ISDIR(st.st_mode) || strlen(real) >= 4096)
        return ui_usage("give a folder of this machine", "persistent-builder start: workspace '%.200s': %s", workspace,
                        real ? "not a folder" : strerror(errno));
    interrupt_install();
    if (home_open(&h, &err) < 0 || build_open_persistent(&h, &p, &s, &err) < 0 ||
        persistent_note(&s.vm, real, -1, &err) < 0)
        return ui_fail(&err);
    progress_end(&p);
    builder_session_done(&s);
    return show(&h, &err);
}

/* "path:/work[/FOLDER][?dir=FOLDER][#ATTR]" is a folder of the workspace. The caller frees. */
static char *in_workspace(const char *ref, const char *workspace)
{
    static const char prefix[] = "path:" WORK;
    char *out = NULL;
    if (strncmp(ref, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    const char *rest = ref + sizeof(prefix) - 1;
    if (*rest && !strchr("/?#", *rest))
        return NULL;
    for (const char *s = rest; *s == '/'; s += 1 + strcspn(s + 1, "/?#"))
        if (strncmp(s + 1, "..", 2) == 0 && (!s[3] || strchr("/?#", s[3])))
            return NULL;
    return asprintf(&out, "%s%s", workspace, rest) < 0 ? NULL : out;
}

static int run_persistent_submit(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct persistent_status s;
    const char *ref = arg_value(a, "flake") ? arg_value(a, "flake") : "path:" WORK;
    if (a->n_words || a->rest)
        return ui_usage("name the flake with --flake path:" WORK, "persistent-builder submit: unexpected argument");
    interrupt_install();
    if (home_open(&h, &err) < 0 || persistent_status(&h, &s, &err) < 0)
        return ui_fail(&err);
    if (strcmp(s.state, "ready") != 0 || !s.workspace[0]) {
        mvm_error_set(&err, -ENOENT, "%s",
                      s.workspace[0] || strcmp(s.state, "ready") != 0 ? "the persistent builder does not run"
                                                                      : "the persistent builder has no workspace");
        mvm_error_phase(&err, MVM_PHASE_BUILDER_BOOTSTRAP);
        mvm_error_hint(&err, "mvmctl persistent-builder start --workspace DIR");
        return ui_fail(&err);
    }
    CLEAN_FREE char *local = in_workspace(ref, s.workspace);
    if (!local)
        return ui_usage("the workspace is path:" WORK " in the builder; other flakes: mvmctl build --flake REF",
                        "persistent-builder submit: '%.100s' is not in the workspace", ref);
    return build_and_print(a, &h, local);
}

static int run_persistent_stop(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "persistent-builder stop: unexpected argument");
    if (home_open(&h, &err) < 0 || persistent_stop(&h, &err) < 0)
        return ui_fail(&err);
    if (!ui.json) {
        ui_line("the persistent builder is stopped");
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    ui_print_json(o);
    return 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_workspace = {
    .name = "workspace", .argument = "DIR", .help = "the folder that submitted flakes are in (default: .)"};

#define PERSISTENT_JSON                                                                                                \
    "schema_version: 1\n"                                                                                              \
    "state: absent, starting, ready, stopping or not responding\n"                                                     \
    "clients: connections it serves\n"                                                                                 \
    "held: true where dev up keeps it up\n"                                                                            \
    "idle_stop_ms: stops by itself after so long without a client, 0: never\n"                                         \
    "started_at: seconds since 1970\n"                                                                                 \
    "supervisor_pid: of its supervisor\n"                                                                              \
    "memory_mib, cpus: what it has\n"                                                                                  \
    "workspace: the folder that is /work in it, or null\n"                                                             \
    "stale_record_removed: true where the record of one that is gone was removed\n"

const struct command cmd_persistent_start = {
    .name = "persistent-builder start",
    .synopsis = "[--workspace DIR]",
    .summary = "start the persistent builder",
    .text = "Starts the builder that builds share, where it does not run, and notes the workspace: submit calls "
            "it path:/work. mvmctl build needs none of this.",
    .options = OPTIONS(&opt_workspace, &opt_json, &opt_verbose),
    .json = PERSISTENT_JSON,
    .run = run_persistent_start,
};

const struct command cmd_persistent_status = {
    .name = "persistent-builder status",
    .synopsis = "[OPTION]...",
    .summary = "show the persistent builder",
    .text = "Shows whether it runs, who uses it, and when it stops by itself.",
    .options = OPTIONS(&opt_json),
    .json = PERSISTENT_JSON,
    .run = run_persistent_status,
};

const struct command cmd_persistent_submit = {
    .name = "persistent-builder submit",
    .synopsis = "[--flake path:/work[/DIR]] [OPTION]...",
    .summary = "build a flake of its workspace",
    .text = "Builds a flake of the workspace in the persistent builder, where it lies at /work, and prints what "
            "build prints.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_system, &opt_force, &opt_no_write_lock_file,
                       &opt_offline, &opt_allow_input, &opt_json, &opt_verbose),
    .json = "the fields of build: see there\n",
    .run = run_persistent_submit,
};

const struct command cmd_persistent_stop = {
    .name = "persistent-builder stop",
    .synopsis = "[OPTION]...",
    .summary = "stop the persistent builder",
    .text = "Stops it in an orderly way.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n",
    .run = run_persistent_stop,
};
