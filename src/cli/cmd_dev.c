/* The developer's persona: a builder that stays, and a shell in it. No build needs these. */
#include "base/fd.h"
#include "builder/persistent.h"
#include "cli/boot.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "machine/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WORK "/work"

/* ---- The shell ---- */

struct work {
    const struct flake_tree *tree;
    const struct registry *flakes;
};

static int send_work(struct tree_sender *s, void *data, struct mvm_error *err)
{
    const struct work *w = data;
    return flake_tree_send(w->tree, &WORK[1], w->flakes, s, err);
}

/* The flake's files, as a build would take them, become /work; what was there goes. */
static int stage_work(struct builder_session *s, const char *ref, const struct args *a, struct mvm_error *err)
{
    static const char *const clean[] = {"/usr/bin/busybox", "find", WORK,  "-mindepth", "1", "-maxdepth", "1", "-exec",
                                        "/usr/bin/busybox", "rm",   "-rf", "{}",        "+"};
    /* Encoding borrows: the words are not changed. */
    const struct msg_exec m = {.argv = {.v = (char **)(uintptr_t)clean, .n = ARRAY_SIZE(clean)},
                               .cwd = (char *)(uintptr_t) "/"};
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_TREE struct flake_tree tree = {.root_fd = -1};
    char *allow[FLAKE_MAX_ALLOW];
    size_t n_allow = arg_list(a, "allow-input", allow, ARRAY_SIZE(allow));
    int code = 0;
    int r = flake_ref_parse(&f, ref, err);
    if (r == 0 && f.remote)
        r = mvm_error_set(err, -EINVAL, "%s is no folder of this machine", ref);
    if (r == 0)
        r = build_load_allowed(&f.allow, allow, n_allow, s->vm.home, err);
    if (r == 0)
        r = flake_ref_check_out(&f, s->vm.home, err);
    if (r == 0)
        r = flake_tree_load(&tree, &f, s->vm.home, err);
    if (r == 0)
        r = exec_in_vm(s->vm.client, &m, false, &code, err);
    if (r == 0 && code)
        r = mvm_error_set(err, -EIO, WORK " in the builder cannot be emptied");
    struct work w = {.tree = &tree, .flakes = &s->flakes};
    return r < 0 ? r : transfer_push_tree(s->vm.client, "/", send_work, &w, err);
}

/* A login shell, or the command behind "--". */
static int run_shell(struct builder_session *s, const struct args *a, int *ret_code, struct mvm_error *err)
{
    static const char *const shell[] = {"/usr/bin/bash-static", "-l"};
    bool command = a->n_rest > 0;
    struct msg_exec m = {
        .argv = {.v = command ? a->rest : (char **)(uintptr_t)shell,
                 .n = command ? (size_t)a->n_rest : ARRAY_SIZE(shell)},
        .cwd = (char *)(uintptr_t)WORK,
        .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
    };
    char term[128];
    char *env[] = {term};
    struct winsize ws;
    snprintf(term, sizeof(term), "TERM=%.100s", getenv("TERM") ? getenv("TERM") : "dumb");
    m.env = (struct msg_strings){.v = env, .n = 1};
    if (m.terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0) {
        m.rows = ws.ws_row;
        m.cols = ws.ws_col;
    }
    return exec_in_vm(s->vm.client, &m, true, ret_code, err);
}

static const char *flake_of(const struct args *a)
{
    return arg_value(a, "flake") ? arg_value(a, "flake") : ".";
}

/* Without --flake, a folder that is no flake is no reason not to give a shell. */
static int stage_if_there(struct builder_session *s, const struct args *a, struct mvm_error *err)
{
    if (!arg_value(a, "flake") && access("flake.nix", F_OK) < 0)
        return 0;
    return stage_work(s, flake_of(a), a, err);
}

static int open_shell(struct builder_session *s, const struct args *a, struct mvm_error *err)
{
    int code = 0;
    int r = stage_if_there(s, a, err);
    ui_clear();
    if (r == 0)
        r = run_shell(s, a, &code, err);
    return r < 0 ? ui_fail(err) : code;
}

static int run_dev_shell(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_BUILDER_SESSION struct builder_session s = BUILDER_SESSION_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    interrupt_install();
    if (home_open(&h, &err) < 0 || build_open_persistent(&h, &p, &s, &err) < 0)
        return ui_fail(&err);
    progress_end(&p);
    return open_shell(&s, a, &err);
}

/* ---- up and down ---- */

static int run_dev_up(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_BUILDER_SESSION struct builder_session s = BUILDER_SESSION_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "dev up: unexpected argument");
    interrupt_install();
    if (home_open(&h, &err) < 0 || build_open_persistent(&h, &p, &s, &err) < 0 ||
        persistent_note(&s.vm, NULL, 1, &err) < 0)
        return ui_fail(&err);
    progress_end(&p);
    ui_clear();
    if (arg_flag(a, "shell"))
        return open_shell(&s, a, &err);
    if (!ui.json) {
        ui_line("the builder is up until mvmctl dev down");
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_string(o, "state", "ready");
    ui_print_json(o);
    return 0;
}

static int run_dev_down(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    bool reset = arg_flag(a, "reset");
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "dev down: unexpected argument");
    int r = home_open(&h, &err);
    if (r == 0)
        r = persistent_stop(&h, &err);
    bool was_up = r == 0;
    if (r == -ENOENT)
        r = 0;
    if (r == 0 && reset)
        r = store_disk_remove(&h, &err);
    if (r < 0)
        return ui_fail(&err);
    if (!ui.json) {
        ui_line("%s%s", was_up ? "the builder is down" : "the builder was not up",
                reset ? "; its store is gone, the next build begins with an empty one" : "");
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "status", "ok");
    json_add_bool(o, "was_up", was_up);
    json_add_bool(o, "reset", reset);
    ui_print_json(o);
    return 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_shell = {.name = "shell", .help = "open a shell in it, as dev shell does"};

static const struct option_spec opt_reset = {.name = "reset", .help = "remove the builder's store too"};

const struct command cmd_dev_up = {
    .name = "dev up",
    .synopsis = "[OPTION]...",
    .summary = "keep the builder up",
    .text = "Starts the persistent builder where it does not run, and keeps it up until dev down: it does not "
            "stop itself when it has nothing to do. No build needs this.",
    .options = OPTIONS(&opt_shell, &opt_flake, &opt_allow_input, &opt_json, &opt_verbose),
    .json = "status: ok\n"
            "state: ready\n",
    .run = run_dev_up,
};

const struct command cmd_dev_shell = {
    .name = "dev shell",
    .synopsis = "[--flake DIR] [[--] COMMAND [ARGUMENT]...]",
    .summary = "open a shell in the builder",
    .text = "Opens a shell (or runs the command) in the persistent builder, in /work, where the files of the "
            "flake are as a build would take them (default: the present folder, if it has a flake.nix). Nix is "
            "set up as for builds. What is changed there stays there.",
    .options = OPTIONS(&opt_flake, &opt_allow_input, &opt_verbose),
    .words = WORDS_PROGRAM,
    .run = run_dev_shell,
};

const struct command cmd_dev_down = {
    .name = "dev down",
    .synopsis = "[OPTION]...",
    .summary = "stop the builder",
    .text = "Stops the persistent builder. Builds that run in it fail.",
    .options = OPTIONS(&opt_reset, &opt_json),
    .json = "status: ok\n"
            "was_up: true where it ran\n"
            "reset: true where its store was removed\n",
    .run = run_dev_down,
};
