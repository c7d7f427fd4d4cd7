#include "bench/report.h"
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

void report_judge(struct report *r, double budget_ms)
{
    r->has_budget = true;
    r->budget_ms = budget_ms;
    r->over_by_ms = samples_percentile(&r->bench->sides[0].samples, 50) - budget_ms;
    r->over_budget = r->over_by_ms > 0;
}

/* ---- JSON ---- */

/* Milliseconds to the microsecond, instructions as they are. */
static json_object *number(const struct bench_side *s, double v)
{
    char text[64];
    if (s->count)
        return json_object_new_int64((int64_t)(v + 0.5));
    snprintf(text, sizeof(text), "%.3f", v);
    return json_object_new_double_s(v, text);
}

static json_object *rounded(double v)
{
    char text[64];
    snprintf(text, sizeof(text), "%.4f", v);
    return json_object_new_double_s(v, text);
}

static void add_statistics(json_object *o, const struct bench_side *s, const struct samples *samples)
{
    json_add(o, "p50", number(s, samples_percentile(samples, 50)));
    json_add(o, "p90", number(s, samples_percentile(samples, 90)));
    json_add(o, "p99", number(s, samples_percentile(samples, 99)));
    json_add(o, "min", number(s, samples_percentile(samples, 0)));
    json_add(o, "max", number(s, samples_percentile(samples, 100)));
    json_object *list = json_object_new_array();
    for (size_t i = 0; i < samples->n; i++)
        if (json_object_array_add(list, number(s, samples->v[i])) < 0)
            abort();
    json_add(o, "samples", list);
}

static json_object *words_json(char *const *words)
{
    json_object *list = json_object_new_array();
    for (; *words; words++)
        if (json_object_array_add(list, json_object_new_string(*words)) < 0)
            abort();
    return list;
}

static json_object *side_json(const struct bench_side *s)
{
    json_object *o = json_object_new_object(), *phases = json_object_new_object();
    json_add_string(o, "name", s->name);
    json_add_string(o, "kind", bench_kind_name(s->kind));
    json_add_string(o, "unit", bench_unit(s));
    json_add_string(o, "mode",
                    s->kind != BENCH_BOOT ? NULL
                    : s->count            ? "counting"
                                          : vm_start_name(s->cold ? VM_START_COLD : VM_START_WARM));
    json_add_string(o, "flake", s->subject.flake);
    json_add_string(o, "image", s->image[0] ? s->image : NULL);
    json_add_string(o, "backend", s->backend[0] ? s->backend : NULL);
    json_add_string(o, "accel", s->accel.name[0] ? s->accel.name : NULL);
    json_add_string(o, "accel_reason", s->accel.reason[0] ? s->accel.reason : NULL);
    json_add_int(o, "memory_mib", (int64_t)s->memory_mib);
    json_add_int(o, "cpus", s->vcpus);
    json_add(o, "command", s->argv ? words_json(s->argv) : NULL);
    json_add_int(o, "n", (int64_t)s->samples.n);
    if (s->count)
        json_add(o, "instructions", number(s, samples_percentile(&s->samples, 50)));
    add_statistics(o, s, &s->samples);
    for (unsigned i = 0; i < s->n_phases; i++) {
        json_object *phase = json_object_new_object();
        add_statistics(phase, s, &s->phases[i].samples);
        json_add(phases, s->phases[i].name, phase);
    }
    json_add(o, "phases", phases);
    if (s->count)
        json_add(o, "services", number(s, samples_percentile(&s->services, 50)));
    return o;
}

static json_object *host_json(const struct report *r)
{
    const struct hostfacts *f = r->host;
    json_object *o = json_object_new_object();
    json_add_string(o, "cpu", f->cpu);
    json_add_int(o, "cores", f->cores);
    json_add_int(o, "memory_mib", (int64_t)f->memory_mib);
    json_add_string(o, "machine", f->machine);
    json_add_string(o, "kernel", f->kernel);
    json_add_string(o, "backend_version", f->backend);
    json_add(o, "load", rounded(f->load));
    json_add(o, "load_after", rounded(r->load_after));
    return o;
}

/* The first side against each of the others; sides of different units have no ratio. */
static json_object *ratios_json(const struct bench *b)
{
    json_object *list = json_object_new_array();
    for (unsigned i = 1; i < b->n_sides; i++) {
        const struct bench_side *first = &b->sides[0], *other = &b->sides[i];
        struct ratio ratio;
        if (first->count != other->count || samples_ratio(&first->samples, &other->samples, &ratio) < 0)
            continue;
        json_object *o = json_object_new_object();
        json_add_string(o, "of", first->name);
        json_add_string(o, "to", other->name);
        json_add(o, "ratio", rounded(ratio.ratio));
        json_add(o, "low", rounded(ratio.low));
        json_add(o, "high", rounded(ratio.high));
        json_add(o, "confidence", rounded(STATS_LEVEL));
        json_add_int(o, "resamples", STATS_RESAMPLES);
        if (json_object_array_add(list, o) < 0)
            abort();
    }
    return list;
}

json_object *report_json(const struct report *r)
{
    const struct bench *b = r->bench;
    json_object *o = json_object_new_object(), *sides = json_object_new_array();
    char taken[32] = "";
    time_t seconds = (time_t)(r->taken_at / NSEC_PER_SEC);
    struct tm tm;
    if (gmtime_r(&seconds, &tm))
        strftime(taken, sizeof(taken), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_add_string(o, "status", r->over_budget ? "over-budget" : "ok");
    json_add_string(o, "bench", r->title);
    json_add_string(o, "taken", taken);
    json_add(o, "host", host_json(r));
    json_add_int(o, "warmups", b->n_warmups);
    if (b->sides[0].count)
        json_add(o, "instructions", number(&b->sides[0], samples_percentile(&b->sides[0].samples, 50)));
    for (unsigned i = 0; i < b->n_sides; i++)
        if (json_object_array_add(sides, side_json(&b->sides[i])) < 0)
            abort();
    json_add(o, "sides", sides);
    json_add(o, "ratios", ratios_json(b));
    if (r->has_budget) {
        json_object *budget = json_object_new_object();
        json_add(budget, "ms", rounded(r->budget_ms));
        json_add(budget, "over_by_ms", rounded(r->over_by_ms));
        json_add_bool(budget, "kept", !r->over_budget);
        json_add(o, "budget", budget);
    }
    return o;
}

/* ---- Text ---- */

static int text_value(struct buf *out, const struct bench_side *s, double v)
{
    return s->count ? buf_printf(out, " %10.3f", v / 1e6) : buf_printf(out, " %10.2f", v);
}

static int text_row(struct buf *out, const struct bench_side *s, const char *name, const struct samples *samples)
{
    static const double columns[] = {50, 90, 99, 0, 100};
    int r = buf_printf(out, "%-32.32s", name);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(columns); i++)
        r = text_value(out, s, samples_percentile(samples, columns[i]));
    return r == 0 ? buf_printf(out, " %6zu\n", samples->n) : r;
}

int report_text(const struct report *rep, struct buf *out)
{
    const struct bench *b = rep->bench;
    int r = buf_printf(out, "%-32s %10s %10s %10s %10s %10s %6s\n",
                       b->sides[0].count ? "million guest instructions" : "milliseconds", "p50", "p90", "p99", "min",
                       "max", "n");
    for (unsigned i = 0; r == 0 && i < b->n_sides; i++) {
        const struct bench_side *s = &b->sides[i];
        r = text_row(out, s, s->name, &s->samples);
        for (unsigned k = 0; r == 0 && k < s->n_phases; k++) {
            char name[40];
            snprintf(name, sizeof(name), "  %s", s->phases[k].name);
            r = text_row(out, s, name, &s->phases[k].samples);
        }
        if (r == 0 && s->count)
            r = text_row(out, s, "  (services, after that)", &s->services);
    }
    for (unsigned i = 1; r == 0 && i < b->n_sides; i++) {
        struct ratio ratio;
        if (b->sides[0].count != b->sides[i].count ||
            samples_ratio(&b->sides[0].samples, &b->sides[i].samples, &ratio) < 0)
            continue;
        r = buf_printf(out, "%s / %s: %.3f (%.0f%% confidence: %.3f to %.3f)\n", b->sides[0].name, b->sides[i].name,
                       ratio.ratio, 100 * STATS_LEVEL, ratio.low, ratio.high);
    }
    return r;
}
