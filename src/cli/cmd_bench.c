/* bench: arguments become sides of a run (bench/bench.h); its results are printed. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/interrupt.h"
#include "bench/density.h"
#include "bench/report.h"
#include "bench/words.h"
#include "cli/boot.h"

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
    int r = words_split(command, &s->argv, err);
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

int cmd_bench_boot(struct args *a)
{
    if (a->rest)
        return ui_usage("name a foreign command with --baseline", "bench boot: unexpected argument '--'");
    return run_bench(a, BENCH_BOOT, NULL, DEFAULT_TIMEOUT_MS);
}

int cmd_bench_exec(struct args *a)
{
    static char program[] = "/bin/true";
    static char *words[] = {program, NULL};
    if (a->rest && a->n_rest < 1)
        return ui_usage("put the program behind --, or leave -- out", "bench exec: no program to run");
    return run_bench(a, BENCH_EXEC, a->rest ? a->rest : words, DEFAULT_TIMEOUT_MS);
}

int cmd_bench_build(struct args *a)
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

int cmd_bench_density(struct args *a)
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
