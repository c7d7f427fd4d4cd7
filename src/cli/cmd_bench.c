/* bench: arguments become sides of a run (bench/bench.h); its results are printed. */
#include "base/buf.h"
#include "base/clock.h"
#include "bench/density.h"
#include "bench/report.h"
#include "bench/shell_split.h"
#include "cli/boot.h"
#include "cli/options.h"
#include "host/interrupt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_SAMPLES  20
#define DEFAULT_WARMUPS  2
#define BUILD_TIMEOUT_MS 1800000
#define MAX_PAGE         ((size_t)64 << 20)

/* What the options say besides the sides. */
struct wishes {
    double budget_ms; /* 0: none */
    unsigned cpus;
    uint64_t memory_mib;
};

static void bench_donep(struct bench *b)
{
    bench_done(b);
}

static int bad(struct mvm_error *err, const char *hint, const char *what)
{
    mvm_error_set(err, -EINVAL, "%s", what);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "%s", hint);
    return -EINVAL;
}

static int parse_budget(const char *text, double *ret, struct mvm_error *err)
{
    char *end;
    double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : 0;
    if (!(v > 0) || v > 1e9 || *end)
        return bad(err, "--budget takes milliseconds, such as 60 or 2.5", "a budget that is no number above 0");
    *ret = v;
    return 0;
}

static int read_wishes(const struct args *a, struct bench *b, struct wishes *w, struct mvm_error *err)
{
    const char *samples = arg_value(a, "samples"), *warmups = arg_value(a, "warmups");
    const char *timeout = arg_value(a, "timeout"), *budget = arg_value(a, "budget");
    int r = samples ? parse_number(samples, "number of samples", 1, BENCH_MAX_SAMPLES, &b->n_samples, err) : 0;
    if (r == 0 && warmups)
        r = parse_number(warmups, "number of warm-ups", 0, BENCH_MAX_SAMPLES, &b->n_warmups, err);
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &b->timeout_ms, err);
    if (r == 0 && budget)
        r = parse_budget(budget, &w->budget_ms, err);
    if (r == 0 && arg_value(a, "cpus"))
        r = parse_cpus(arg_value(a, "cpus"), &w->cpus, err);
    if (r == 0 && arg_value(a, "memory"))
        r = parse_memory(arg_value(a, "memory"), &w->memory_mib, err);
    if (r == 0 && budget && arg_flag(a, "count-instructions"))
        r = bad(err, "bootBudget in the flake is a budget of instructions", "--budget is in milliseconds");
    return r;
}

/* ---- Sides ---- */

static bool is_config(const char *word)
{
    size_t n = strlen(word);
    return n > 5 && strcmp(word + n - 5, ".toml") == 0;
}

/* A flake's image, or with a name that ends in .toml (or from --config) what the file says. */
static int load_subject(const struct args *a, struct subject *s, struct home *h, const char *word, bool config,
                        struct mvm_error *err)
{
    if (config)
        return subject_load(s, h, word, err);
    struct build_opts o = build_opts_from(a);
    o.ref = word;
    return subject_of_flake(s, &o, h, err);
}

static int add_side(const struct args *a, struct bench *b, enum bench_kind kind, const char *word, bool config,
                    const struct wishes *w, struct mvm_error *err)
{
    struct bench_side *s = bench_add(b, kind);
    int r = load_subject(a, &s->subject, b->h, word, config, err);
    if (r < 0)
        return r;
    snprintf(s->name, sizeof(s->name), "%s", s->subject.name);
    s->cold = arg_flag(a, "cold") || (s->subject.has_mode && s->subject.cold);
    s->count = arg_flag(a, "count-instructions");
    if (w->cpus)
        s->subject.vcpus = w->cpus;
    if (w->memory_mib)
        s->subject.memory_mib = w->memory_mib;
    if (kind == BENCH_BUILD && !s->subject.flake)
        return bad(err, "give --flake REF, or flake = \"REF\" in the file", "there is no flake to build");
    return 0;
}

static int add_baseline(const struct args *a, struct bench *b, struct mvm_error *err)
{
    const char *command = arg_value(a, "baseline");
    if (!command)
        return 0;
    struct bench_side *s = bench_add(b, BENCH_BASELINE);
    snprintf(s->name, sizeof(s->name), "%s", command);
    int r = shell_split(command, &s->argv, err);
    if (r < 0) {
        mvm_error_wrap(err, "--baseline");
        mvm_error_phase(err, MVM_PHASE_USAGE);
        mvm_error_hint(err, "it is split into words at spaces, with quotes as in a shell; no shell is run");
    }
    return r;
}

/* --compare A B, --config FILE or --flake REF; the default is the flake of this folder. */
static int add_sides(const struct args *a, struct bench *b, enum bench_kind kind, const struct wishes *w,
                     struct mvm_error *err)
{
    const char *first = arg_value(a, "compare"), *config = arg_value(a, "config"), *flake = arg_value(a, "flake");
    int r;
    if (first) {
        r = add_side(a, b, kind, first, is_config(first), w, err);
        if (r == 0)
            r = add_side(a, b, kind, a->words[0], is_config(a->words[0]), w, err);
        if (r == 0 && strcmp(b->sides[0].name, b->sides[1].name) == 0) {
            strcpy(b->sides[0].name, "A");
            strcpy(b->sides[1].name, "B");
        }
    } else {
        r = add_side(a, b, kind, config ? config : flake ? flake : ".", config != NULL, w, err);
    }
    return r == 0 ? add_baseline(a, b, err) : r;
}

static int check_words(const struct args *a)
{
    bool compare = arg_value(a, "compare");
    if (compare + (arg_value(a, "config") != NULL) + (arg_value(a, "flake") != NULL) > 1)
        return ui_usage("give one of --flake, --config, --compare", "%s: more than one thing to measure",
                        a->command->name);
    if (a->n_words != (compare ? 1 : 0))
        return ui_usage(compare ? "--compare A B: each a flake, or a file that ends in .toml"
                                : "name what is measured with --flake or --config",
                        compare ? "%s: --compare needs two things%.0s" : "%s: unexpected argument '%.60s'",
                        a->command->name, a->n_words ? a->words[0] : "");
    return 0;
}

/* ---- Results ---- */

static int over_budget(const struct report *r, struct mvm_error *err)
{
    mvm_error_set(err, -ERANGE, "the median of %.2f ms is %.2f ms above the budget of %.2f ms",
                  r->budget_ms + r->over_by_ms, r->over_by_ms, r->budget_ms);
    mvm_error_phase(err, MVM_PHASE_BOOT_BUDGET);
    mvm_error_hint(err, "the phases above say where the time goes");
    return -ERANGE;
}

static int print_report(const struct args *a, struct report *r, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_PAGE);
    const char *file = arg_value(a, "report");
    if (file && report_page(r, &text) < 0)
        return mvm_error_errno(err, -EMSGSIZE, "the report");
    if (file) {
        int e = ui_write_file(file, text.data, text.len, err);
        if (e < 0)
            return e;
    }
    buf_clear(&text);
    ui_clear();
    if (ui.json)
        ui_print_json(report_json(r));
    else if (report_text(r, &text) == 0)
        ui_out("%s", buf_cstr(&text));
    return 0;
}

static int run_bench(struct args *a, enum bench_kind kind, char **argv, uint64_t timeout_ms)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    const struct build_opts opts = build_opts_from(a);
    CLEANUP(bench_donep)
    struct bench b = {.h = &h,
                      .progress = &p,
                      .build = &opts,
                      .n_samples = DEFAULT_SAMPLES,
                      .n_warmups = DEFAULT_WARMUPS,
                      .timeout_ms = timeout_ms};
    struct wishes w = {0};
    struct hostfacts host, after;
    int status = check_words(a);
    if (status)
        return status;
    interrupt_install();
    if (read_wishes(a, &b, &w, &err) < 0 || home_open(&h, &err) < 0 || add_sides(a, &b, kind, &w, &err) < 0)
        return ui_fail(&err);
    for (unsigned i = 0; i < b.n_sides; i++)
        if (b.sides[i].kind == BENCH_EXEC)
            b.sides[i].argv = argv;
    hostfacts_load(&host, b.sides[0].subject.hypervisor);
    struct report r = {.bench = &b, .title = a->command->name, .host = &host, .taken_at = clock_wall()};
    if (bench_run(&b, &err) < 0)
        return ui_fail(&err);
    hostfacts_load(&after, b.sides[0].subject.hypervisor);
    r.load_after = after.load;
    if (w.budget_ms > 0)
        report_judge(&r, w.budget_ms);
    if (print_report(a, &r, &err) < 0)
        return ui_fail(&err);
    if (!r.over_budget)
        return 0;
    over_budget(&r, &err);
    if (ui.json) /* standard output has its object already */
        return exit_status_of(&err);
    return ui_fail(&err);
}

static int run_bench_boot(struct args *a)
{
    if (a->rest)
        return ui_usage("name a foreign command with --baseline", "bench boot: unexpected argument '--'");
    return run_bench(a, BENCH_BOOT, NULL, DEFAULT_TIMEOUT_MS);
}

static int run_bench_exec(struct args *a)
{
    static char program[] = "/bin/true";
    static char *words[] = {program, NULL};
    if (a->rest && a->n_rest < 1)
        return ui_usage("put the program behind --, or leave -- out", "bench exec: no program to run");
    return run_bench(a, BENCH_EXEC, a->rest ? a->rest : words, DEFAULT_TIMEOUT_MS);
}

static int run_bench_build(struct args *a)
{
    if (a->rest)
        return ui_usage("name a foreign command with --baseline", "bench build: unexpected argument '--'");
    return run_bench(a, BENCH_BUILD, NULL, BUILD_TIMEOUT_MS);
}

/* ---- Density ---- */

static void print_density(const struct density *d, const struct hostfacts *host)
{
    ui_clear();
    if (ui.json) {
        ui_print_json(density_json(d, host));
        return;
    }
    ui_line("%u VMs: all ready after %.0f ms, all gone within %.0f ms", d->n, d->all_ready_ms, d->down_ms);
    ui_line("ready       p50 %8.1f ms   p90 %8.1f ms   max %8.1f ms", samples_percentile(&d->ready_ms, 50),
            samples_percentile(&d->ready_ms, 90), samples_percentile(&d->ready_ms, 100));
    ui_line("memory (proportional) of each   p50 %6.1f MiB   max %6.1f MiB", samples_percentile(&d->total_mib, 50),
            samples_percentile(&d->total_mib, 100));
    ui_line("  its backend %.1f MiB, its supervisor %.1f MiB", samples_percentile(&d->vmm_mib, 50),
            samples_percentile(&d->supervisor_mib, 50));
}

static int run_density(const struct args *a, struct bench *b, struct subject *s, struct mvm_error *err)
{
    const char *config = arg_value(a, "config"), *flake = arg_value(a, "flake"), *count = arg_value(a, "count");
    const char *timeout = arg_value(a, "timeout"), *memory = arg_value(a, "memory");
    unsigned n = 10;
    uint64_t memory_mib = 0;
    int r = count ? parse_number(count, "number of VMs", 1, DENSITY_MAX, &n, err) : 0;
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &b->timeout_ms, err);
    if (r == 0 && memory)
        r = parse_memory(memory, &memory_mib, err);
    if (r == 0)
        r = home_open(b->h, err);
    if (r == 0)
        r = load_subject(a, s, b->h, config ? config : flake ? flake : ".", config != NULL, err);
    if (r < 0)
        return r;
    if (memory_mib)
        s->memory_mib = memory_mib;
    struct hostfacts host;
    struct density d = {0};
    hostfacts_load(&host, s->hypervisor);
    r = density_run(b, s, n, &d, err);
    if (r == 0)
        print_density(&d, &host);
    density_done(&d);
    return r;
}

static int run_bench_density(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    struct bench b = {.h = &h, .progress = &p, .timeout_ms = DEFAULT_TIMEOUT_MS};
    CLEANUP(subject_done) struct subject s = SUBJECT_INIT;
    if (a->n_words || a->rest || (arg_value(a, "config") && arg_value(a, "flake")))
        return ui_usage("give one of --flake, --config", "bench density: more than one thing to measure");
    interrupt_install();
    return run_density(a, &b, &s, &err) < 0 ? ui_fail(&err) : 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_config = {
    .name = "config", .argument = "FILE", .help = "what is measured, from a TOML file (see bench boot)"};

static const struct option_spec opt_compare = {
    .name = "compare", .argument = "A B", .help = "measure A and B in turn and print the ratio of their medians"};

static const struct option_spec opt_baseline = {
    .name = "baseline",
    .argument = "COMMAND",
    .help = "measure another program in turn: its words are split as by a shell, but no shell is run"};

static const struct option_spec opt_samples = {
    .name = "samples", .argument = "N", .help = "how many samples of each side to take (default: 20)"};

static const struct option_spec opt_warmups = {
    .name = "warmups", .argument = "N", .help = "how many to take before these and throw away (default: 2)"};

static const struct option_spec opt_count_instructions = {.name = "count-instructions",
                                                          .help = "count guest instructions instead of time"};

static const struct option_spec opt_report = {
    .name = "report", .argument = "FILE", .help = "write a page with plots and all samples (HTML)"};

static const struct option_spec opt_budget = {
    .name = "budget",
    .argument = "MS",
    .help = "exit with 15 where the first side's median is above so many milliseconds"};

static const struct option_spec opt_cold_boots = {.name = "cold", .help = "measure boots instead of restores"};

static const struct option_spec opt_count = {.name = "count", .argument = "N", .help = "how many VMs (default: 10)"};

static const struct option_spec opt_sample_timeout = {
    .name = "timeout", .argument = "SECONDS", .help = "how long one sample may take (default: 60; of a build: 1800)"};

#define BENCH_JSON                                                                                                     \
    "status: ok, or over-budget\n"                                                                                     \
    "bench: the command\n"                                                                                             \
    "taken: when, in UTC\n"                                                                                            \
    "host: cpu, cores, memory_mib, machine, kernel, backend_version, load and load_after (of the last "                \
    "minute)\n"                                                                                                        \
    "warmups: how many samples of each side were thrown away\n"                                                        \
    "instructions: with --count-instructions, the median of the first side\n"                                          \
    "sides: a list of objects with name, kind (boot, exec, build, baseline), unit (ms or instructions), "              \
    "mode, flake, image, backend, accel, accel_reason, memory_mib, cpus, command, n, p50, p90, p99, min, "             \
    "max, samples (in the order they were taken), phases (the same for each)\n"                                        \
    "ratios: of the first side's median to each other's: of, to, ratio, low, high, confidence, "                       \
    "resamples\n"                                                                                                      \
    "budget: where one was given: ms, over_by_ms, kept\n"

const struct command cmd_bench_boot = {
    .name = "bench boot",
    .synopsis = "[--flake REF | --config FILE | --compare A B] [OPTION]...",
    .summary = "measure starts of VMs",
    .text = "Starts VMs of an image that exists, one after another, and says how long they take from the first "
            "step of the start to the configured agent: restored from a snapshot, or with --cold booted. With "
            "--count-instructions each boots with a clock that counts the guest's instructions from reset until "
            "its agent is ready, which does not depend on what else this machine does. Nothing is built, and "
            "neither making the first snapshot nor stopping VMs is part of a figure.\n\n"
            "The file of --config has name, flake or kernel, rootfs, initrd, cmdline (files relative to it), "
            "backend, memory, cpus, mode (warm or cold). With --compare, A and B are each a flake, or a file "
            "that ends in .toml.\n\n"
            "Percentiles are interpolated between the nearest ranks. The interval of a ratio of medians is a "
            "percentile bootstrap of 4000 resamples with a fixed seed.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_config, &opt_compare, &opt_baseline, &opt_cold_boots,
                       &opt_count_instructions, &opt_samples, &opt_warmups, &opt_cpus, &opt_memory, &opt_budget,
                       &opt_report, &opt_sample_timeout, &opt_json, &opt_verbose),
    .json = BENCH_JSON,
    .run = run_bench_boot,
};

const struct command cmd_bench_exec = {
    .name = "bench exec",
    .synopsis = "[--flake REF | --config FILE | --compare A B] [OPTION]... [-- COMMAND [ARGUMENT]...]",
    .summary = "measure running a program in a VM",
    .text = "Starts a VM, and measures running the program in it (default: /bin/true), from connecting to its "
            "exit, which must be with status 0.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_config, &opt_compare, &opt_baseline, &opt_samples,
                       &opt_warmups, &opt_cpus, &opt_memory, &opt_budget, &opt_report, &opt_sample_timeout, &opt_json,
                       &opt_verbose),
    .json = BENCH_JSON,
    .run = run_bench_exec,
};

const struct command cmd_bench_build = {
    .name = "bench build",
    .synopsis = "[--flake REF | --config FILE | --compare A B] [OPTION]...",
    .summary = "measure builds",
    .text = "Builds the flake again and again although its result is there, in the persistent builder, and says "
            "what each phase takes. The flake must have been built once. The first warm-up starts the builder.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_config, &opt_compare, &opt_baseline, &opt_samples,
                       &opt_warmups, &opt_offline, &opt_allow_input, &opt_no_persistent_builder, &opt_budget,
                       &opt_report, &opt_sample_timeout, &opt_json, &opt_verbose),
    .json = BENCH_JSON,
    .run = run_bench_build,
};

const struct command cmd_bench_density = {
    .name = "bench density",
    .synopsis = "[--flake REF | --config FILE] [--count N] [OPTION]...",
    .summary = "measure many VMs at once",
    .text = "Starts N VMs of an image at once, restored from its snapshot, and says when they were ready and how "
            "much memory each takes while all run: the proportional set sizes of its backend and its supervisor, "
            "in which what several share is divided among them. Then all are stopped; so they are when this "
            "command is interrupted.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_config, &opt_count, &opt_memory, &opt_sample_timeout,
                       &opt_json, &opt_verbose),
    .json = "status: ok\n"
            "bench: the command\n"
            "host: as bench boot has it\n"
            "count: how many VMs\n"
            "warm: how many were restored\n"
            "all_ready_ms: from the first start to the last one ready\n"
            "down_ms: from the first stop to the last one gone\n"
            "ready_ms, pss_mib, vmm_pss_mib, supervisor_pss_mib: objects with p50, p90, p99, max\n"
            "vms: a list of objects with warm, ready_ms, vmm_pss_kib, supervisor_pss_kib\n",
    .run = run_bench_density,
};
