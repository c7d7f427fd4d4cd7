#include "base/clock.h"
#include "base/fd.h"
#include "cli/boot.h"
#include "cli/options.h"
#include "cli/trace.h"
#include "host/interrupt.h"
#include "machine/client.h"
#include "machine/explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_ENV (MAX_GIVEN + 1) /* TERM, and what is asked for */

static int fail_exec(const struct mvm_error *err)
{
    int status = ui_fail(err);
    /* The program's own statuses are anything up to 255: mvm's failures share one that programs rarely use. */
    return status == EXIT_USAGE || status > 128 ? status : EXIT_EXEC_FAILED;
}

/* The guest's address of the program: argv, environment, user, terminal. Borrows everything. */
static void fill_request(const struct args *a, struct msg_exec *m, char **env)
{
    *m = (struct msg_exec){
        .argv = {.v = a->rest, .n = (size_t)a->n_rest},
        .cwd = (char *)(uintptr_t)arg_value(a, "cwd"),
        .user = (char *)(uintptr_t)arg_value(a, "user"),
        .terminal = arg_flag(a, "terminal"),
    };
    size_t n = 0;
    char *term = getenv("TERM");
    static char term_entry[128];
    if (m->terminal && term) {
        snprintf(term_entry, sizeof(term_entry), "TERM=%s", term);
        env[n++] = term_entry;
    }
    n += arg_list(a, "env", env + n, MAX_ENV - n);
    m->env = (struct msg_strings){.v = env, .n = n};
    struct winsize ws;
    if (m->terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0) {
        m->rows = ws.ws_row;
        m->cols = ws.ws_col;
    }
}

static int run_in(struct home *h, const struct args *a, const char *name, struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    struct msg_exec m;
    char *env[MAX_ENV];
    int code = 0;
    fill_request(a, &m, env);
    int r = client_connect(h, name, &c, err);
    if (r == 0)
        r = exec_in_vm(c, &m, true, &code, err);
    if (r < 0) {
        machine_hint_paused(h, name, err);
        if (r == -EPIPE)
            (void)explain_vanished(h, name, client_peer(c), err);
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        return fail_exec(err);
    }
    return code;
}

static int finish_trace(const struct args *a, const struct trace *t, int code, struct mvm_error *err)
{
    const char *file = arg_value(a, "trace");
    return file && trace_write(t, file, err) < 0 ? fail_exec(err) : code;
}

static int run_transient(struct home *h, const struct args *a, struct mvm_error *err)
{
    CLEAN_ARTIFACT_IMAGE struct artifact_image img = ARTIFACT_IMAGE_INIT;
    struct machine_info info;
    struct build_opts o = build_opts_from(a);
    struct trace t = {0};
    o.steps = &t.own;
    steps_add(&t.own, "startup", ui.born);
    struct progress p = PROGRESS_INIT(ui.verbose ? &ui_progress : NULL, &p);
    interrupt_install();
    if (build_find_last(&o, h, &img, err) < 0 || boot_image(a, h, &img, true, 0, &p, &info, err) < 0)
        return fail_exec(err);
    trace_machine(&t, &info);
    uint64_t since = clock_now();
    int code = run_in(h, a, info.name, err);
    steps_add(&t.own, "exec", since);
    since = clock_now();
    fd_closep(&info.tether); /* had we died before, this would have ended the VM */
    struct mvm_error ignored = MVM_ERROR_INIT;
    (void)!machine_stop(h, info.name, 0, &ignored);
    steps_add(&t.own, "stop", since);
    return finish_trace(a, &t, code, err);
}

static int run_exec(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    bool transient = arg_value(a, "flake");
    if (transient && a->n_words)
        return ui_usage("name the VM, or give --flake", "exec: the VM '%.60s' and --flake at once", a->words[0]);
    if (!transient && !a->n_words)
        return ui_usage("mvmctl exec NAME COMMAND, or mvmctl exec --flake REF COMMAND", "exec: no VM named");
    static const char *const network[] = {"network", "allow", "net-rate", "net-connections", "net-queries", "pcap"};
    for (size_t i = 0; i < ARRAY_SIZE(network) && !transient; i++)
        if (arg_value(a, network[i]))
            return ui_usage("say it when the VM is started: mvmctl up --network ... --allow ...",
                            "exec: --%s, but the VM '%.60s' runs already", network[i], a->words[0]);
    if (a->n_rest < 1)
        return ui_usage("mvmctl exec NAME COMMAND; a shell: mvmctl exec -it NAME sh", "exec: no program to run");
    char *env[MAX_GIVEN];
    size_t n_env = arg_list(a, "env", env, ARRAY_SIZE(env));
    for (size_t i = 0; i < n_env; i++)
        if (!strchr(env[i], '=') || env[i][0] == '=')
            return ui_usage("--env NAME=VALUE", "exec: variable '%.60s' has no %s", env[i],
                            env[i][0] == '=' ? "name" : "value");
    if (home_open(&h, &err) < 0)
        return fail_exec(&err);
    if (transient)
        return run_transient(&h, a, &err);
    struct trace t = {0};
    uint64_t since = clock_now();
    steps_add(&t.own, "startup", ui.born);
    int code = run_in(&h, a, a->words[0], &err);
    steps_add(&t.own, "exec", since);
    return finish_trace(a, &t, code, &err);
}

/* ---- Its description ---- */

static const struct option_spec opt_terminal = {
    .name = "terminal", .letter = 't', .help = "give the program a terminal"};

static const struct option_spec opt_interactive = {
    .name = "interactive", .letter = 'i', .help = "for those who are used to -it: standard input is always connected"};

static const struct option_spec opt_env = {.name = "env",
                                           .letter = 'e',
                                           .argument = "NAME=VALUE",
                                           .help = "set a variable of its environment (may be given several times)"};

static const struct option_spec opt_cwd = {
    .name = "cwd", .argument = "FOLDER", .help = "the folder it starts in (default: the user's home)"};

static const struct option_spec opt_user = {.name = "user",
                                            .letter = 'u',
                                            .argument = "USER",
                                            .help = "the user it runs as, by name or number (default: root)"};

const struct command cmd_exec = {
    .name = "exec",
    .synopsis = "[OPTION]... NAME | --flake REF [OPTION]... [--] COMMAND [ARGUMENT]...",
    .summary = "run a program in a VM",
    .text = "Runs the program in a running VM, with standard input, output and error, signals and window size "
            "carried through, and exits with its exit status (128 + N where signal N ended it, 127 where there "
            "is no such program). The options end at the first word behind NAME, which is the program; what "
            "follows is its own: exec -it NAME sh -c 'ls -l'.\n\n"
            "Signals are the program's, but whatever it and the VM do with them: 1.5 s after SIGTERM, SIGHUP or "
            "a second Ctrl-C (on a terminal: one that stays without an answer) exec ends with 128 + N.\n\n"
            "With --flake, a VM is booted from the image last built from that flake for this one program and "
            "removed afterwards. --profile, --attr, --cpus, --memory, --hypervisor, --cold and --timeout are "
            "about that VM: without --flake they are refused, because a VM that runs keeps what it was started "
            "with.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_interactive, &opt_terminal, &opt_env, &opt_cwd,
                       &opt_user, &opt_cpus, &opt_memory, &opt_hypervisor, NETWORK_OPTIONS, &opt_publish,
                       &opt_publish_all, &opt_cold, &opt_verify_all, &opt_timeout, &opt_trace, &opt_verbose),
    .words = WORDS_VMS | WORDS_PROGRAM,
    .run = run_exec,
};
