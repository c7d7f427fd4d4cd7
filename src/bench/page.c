/*
 * The HTML page. Everything is drawn here, as SVG inside the page; colours are CSS variables with a dark and a light
 * set. Plots are as wide as the page: across they are drawn in percent, so that text keeps its size on a telephone.
 * Names come from flakes, files and command lines: all text is escaped.
 */
#include "base/clock.h"
#include "bench/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LEFT   6.0 /* of the plots, in percent of the width */
#define RIGHT  5.0
#define ROW    76.0 /* the side's name, and what is drawn below it */
#define MIDDLE 46.0 /* of what is drawn, in its row */
#define TICKS  5
#define COLORS 6 /* in the style: --c0 ... */

/* Takes everything; the first failure is what the caller hears of at the end. */
struct page {
    struct buf *out;
    int error;
};

static void put(struct page *p, const char *fmt, ...) MVM_PRINTF(2, 3);
static void put(struct page *p, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (p->error == 0)
        p->error = buf_str(p->out, text);
}

static void put_text(struct page *p, const char *text)
{
    for (; *text && p->error == 0; text++) {
        const char c[2] = {*text, '\0'};
        p->error = buf_str(p->out, *text == '&'    ? "&amp;"
                                   : *text == '<'  ? "&lt;"
                                   : *text == '>'  ? "&gt;"
                                   : *text == '"'  ? "&quot;"
                                   : *text == '\'' ? "&#39;"
                                                   : c);
    }
}

/* What a figure is shown in: milliseconds, or millions of instructions. */
static double shown(const struct bench_side *s, double v)
{
    return s->count ? v / 1e6 : v;
}

static const char *unit(const struct bench_side *s)
{
    return s->count ? "million instructions" : "ms";
}

static void put_fact(struct page *p, const char *name, const char *value)
{
    put(p, "<dt>%s</dt><dd>", name);
    put_text(p, value);
    put(p, "</dd>\n");
}

/* ---- Head ---- */

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fbfbf8;--fg:#1c1d21;--dim:#5d6068;--line:#d8d8d2;--c0:#2463b4;--c1:#b4471f;"
    "--c2:#3a7d3a;--c3:#7a4aa3;--c4:#8a6a00;--c5:#0f7c86}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#17181c;--fg:#e9e9e4;--dim:#a2a5ad;--line:#3a3c44;--c0:#7fb2ff;"
    "--c1:#ff9a6c;--c2:#8fd08f;--c3:#c9a3f0;--c4:#e3c45c;--c5:#6fd3dc}}\n"
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;"
    "padding:0 "
    "1rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;display:block;overflow:visible}\n"
    "svg text{fill:var(--fg);font-size:13px}svg .dim{fill:var(--dim);font-size:12px}svg .axis{stroke:var(--line)}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15rem .7rem;text-align:right;"
    "border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}\n"
    "dl{display:grid;grid-template-columns:max-content auto;gap:.1rem 1rem}dt{color:var(--dim)}dd{margin:0}\n"
    ".scroll{overflow-x:auto}.over{color:var(--c1);font-weight:600}dd{overflow-wrap:anywhere}\n"
    ".key{display:inline-block;vertical-align:middle;margin:0 .4rem 0 1rem;border-left:2px solid;height:24px}"
    ".key:first-child{margin-left:0}.p50{height:32px;color:var(--fg)}.p90{height:18px;color:var(--dim)}"
    ".dot{border:0;width:8px;height:8px;border-radius:4px;background:var(--c0);opacity:.55}\n";

static void put_head(struct page *p, const struct report *r)
{
    put(p,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>mvmctl %s</title>\n<style>\n",
        r->title);
    if (p->error == 0)
        p->error = buf_str(p->out, style);
    put(p, "</style>\n</head>\n<body>\n<h1>mvmctl %s</h1>\n", r->title);
}

static void put_facts(struct page *p, const struct report *r)
{
    char text[256], taken[32] = "";
    time_t seconds = (time_t)(r->taken_at / NSEC_PER_SEC);
    struct tm tm;
    if (gmtime_r(&seconds, &tm))
        strftime(taken, sizeof(taken), "%Y-%m-%d %H:%M:%S UTC", &tm);
    put(p, "<dl>\n");
    put_fact(p, "Taken", taken);
    snprintf(text, sizeof(text), "%s, %u cores, %llu MiB", r->host->cpu, r->host->cores,
             (unsigned long long)r->host->memory_mib);
    put_fact(p, "Machine", text);
    put_fact(p, "Kernel", r->host->kernel);
    put_fact(p, "Backend", r->host->backend);
    const struct vmm_accel *accel = &r->bench->sides[0].accel;
    snprintf(text, sizeof(text), "%s: %s", accel->name, accel->reason);
    if (accel->name[0])
        put_fact(p, "Acceleration", text);
    snprintf(text, sizeof(text), "%.2f before, %.2f after", r->host->load, r->load_after);
    put_fact(p, "Load", text);
    put(p, "</dl>\n");
    if (r->has_budget)
        put(p, "<p%s>The median is %.2f ms %s the budget of %.2f ms.</p>\n", r->over_budget ? " class=\"over\"" : "",
            r->over_budget ? r->over_by_ms : -r->over_by_ms, r->over_budget ? "above" : "below", r->budget_ms);
}

/* ---- Plots ---- */

struct axis {
    double from, to;
};

static double x_of(const struct axis *a, double v)
{
    return LEFT + (v - a->from) / (a->to - a->from) * (100 - LEFT - RIGHT);
}

/* 1, 2 or 5 times a power of ten: about TICKS of them. */
static double tick_step(const struct axis *a)
{
    static const double nice[] = {1, 2, 5, 10};
    double wanted = (a->to - a->from) / TICKS, power = 0.001;
    while (power * 10 <= wanted)
        power *= 10;
    size_t i = 0;
    while (i + 1 < ARRAY_SIZE(nice) && nice[i] * power < wanted)
        i++;
    return nice[i] * power;
}

static void put_axis(struct page *p, const struct axis *a, double height, const char *name)
{
    double step = tick_step(a);
    int digits = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;
    long first = (long)(a->from / step), last = (long)(a->to / step);
    for (long i = (double)first * step < a->from ? first + 1 : first; i <= last; i++) {
        double v = (double)i * step, x = x_of(a, v);
        put(p, "<line class=\"axis\" x1=\"%.2f%%\" y1=\"8\" x2=\"%.2f%%\" y2=\"%.1f\"/>", x, x, height - 34);
        put(p, "<text class=\"dim\" text-anchor=\"middle\" x=\"%.2f%%\" y=\"%.1f\">%.*f</text>\n", x, height - 18,
            digits, v);
    }
    put(p, "<text class=\"dim\" text-anchor=\"middle\" x=\"%.2f%%\" y=\"%.1f\">%s</text>\n", (100 + LEFT - RIGHT) / 2,
        height - 2, name);
}

static void put_name(struct page *p, const char *name, double y)
{
    char cut[40];
    snprintf(cut, sizeof(cut), strlen(name) > 38 ? "%.36s.." : "%s", name);
    put(p, "<text x=\"0\" y=\"%.1f\">", y);
    put_text(p, cut);
    put(p, "<title>");
    put_text(p, name);
    put(p, "</title></text>\n");
}

static void open_svg(struct page *p, double height, const char *title, const char *what)
{
    put(p, "<svg role=\"img\" height=\"%.0f\"><title>%s</title><desc>%s</desc>\n", height, title, what);
}

/* An upright line, so much up and down from y. */
static void put_mark(struct page *p, double x, double y, double reach, const char *color, const char *name, double v)
{
    put(p,
        "<line x1=\"%.2f%%\" y1=\"%.1f\" x2=\"%.2f%%\" y2=\"%.1f\" stroke=\"var(--%s)\" stroke-width=\"2\">"
        "<title>%s %.3f</title></line>\n",
        x, y - reach, x, y + reach, color, name, v);
}

/* One row a side: a dot a sample, lines at the median and the 90th percentile. */
static void put_distribution(struct page *p, const struct report *r)
{
    const struct bench *b = r->bench;
    struct axis axis = {0, 0};
    double height = b->n_sides * ROW + 48;
    for (unsigned i = 0; i < b->n_sides; i++) {
        double low = shown(&b->sides[i], samples_percentile(&b->sides[i].samples, 0));
        double high = shown(&b->sides[i], samples_percentile(&b->sides[i].samples, 100));
        axis.from = i == 0 ? low : MIN_OF(axis.from, low);
        axis.to = MAX_OF(axis.to, high);
    }
    double margin = MAX_OF((axis.to - axis.from) / 20, axis.to / 1000 + 0.001);
    axis.from = MAX_OF(axis.from - margin, 0);
    axis.to += margin;
    put(p, "<h2>Distribution</h2>\n");
    open_svg(p, height, "Distribution of the samples",
             "A dot for each sample, a long line at the median, a short one at the 90th percentile.");
    put_axis(p, &axis, height, unit(&b->sides[0]));
    for (unsigned i = 0; i < b->n_sides; i++) {
        const struct bench_side *s = &b->sides[i];
        double y = 8 + ROW * i + MIDDLE;
        put_name(p, s->name, y - MIDDLE + 14);
        for (size_t k = 0; k < s->samples.n; k++) /* spread a little, so that equal ones are seen */
            put(p, "<circle cx=\"%.2f%%\" cy=\"%.1f\" r=\"3.5\" fill=\"var(--c%u)\" fill-opacity=\".55\"/>\n",
                x_of(&axis, shown(s, s->samples.v[k])), y + (double)(k * 7 % 19) - 9, i % COLORS);
        double p50 = shown(s, samples_percentile(&s->samples, 50)), p90 = shown(s, samples_percentile(&s->samples, 90));
        put_mark(p, x_of(&axis, p50), y, 22, "fg", "median", p50);
        put_mark(p, x_of(&axis, p90), y, 12, "dim", "p90", p90);
    }
    put(p, "</svg>\n<p class=\"legend\"><span class=\"key dot\"></span>a sample<span class=\"key p50\"></span>median"
           "<span class=\"key p90\"></span>90th percentile (p90)</p>\n");
}

static double sum_of_phases(const struct bench_side *s)
{
    double sum = 0;
    for (unsigned k = 0; k < s->n_phases; k++)
        sum += shown(s, samples_percentile(&s->phases[k].samples, 50));
    return sum;
}

static void put_legend(struct page *p, const struct bench_side *s)
{
    put(p, "<p>");
    put_text(p, s->name);
    put(p, ":");
    for (unsigned k = 0; k < s->n_phases; k++) {
        put(p, " <span style=\"color:var(--c%u)\">&#9632;</span> ", k % COLORS);
        put_text(p, s->phases[k].name);
        put(p, " %.2f", shown(s, samples_percentile(&s->phases[k].samples, 50)));
    }
    put(p, " %s</p>\n", unit(s));
}

/* One bar a side: the phases' medians one behind the other. */
static void put_phases(struct page *p, const struct report *r)
{
    const struct bench *b = r->bench;
    struct axis axis = {0, 0};
    double height = b->n_sides * ROW + 48;
    for (unsigned i = 0; i < b->n_sides; i++)
        axis.to = MAX_OF(axis.to, sum_of_phases(&b->sides[i]));
    if (!(axis.to > 0))
        return;
    put(p, "<h2>Phases</h2>\n");
    open_svg(p, height, "Phases of a sample", "Bars made of the medians of the phases, in their order.");
    put_axis(p, &axis, height, unit(&b->sides[0]));
    for (unsigned i = 0; i < b->n_sides; i++) {
        const struct bench_side *s = &b->sides[i];
        double y = 8 + ROW * i + MIDDLE, at = 0;
        put_name(p, s->name, y - MIDDLE + 14);
        for (unsigned k = 0; k < s->n_phases; k++) {
            double v = shown(s, samples_percentile(&s->phases[k].samples, 50)), x = x_of(&axis, at);
            put(p, "<rect x=\"%.2f%%\" y=\"%.1f\" width=\"%.2f%%\" height=\"28\" fill=\"var(--c%u)\"><title>", x,
                y - 14, MAX_OF(x_of(&axis, at + v) - x, 0.1), k % COLORS);
            put_text(p, s->phases[k].name);
            put(p, " %.3f %s</title></rect>\n", v, unit(s));
            at += v;
        }
    }
    put(p, "</svg>\n");
    for (unsigned i = 0; i < b->n_sides; i++)
        if (b->sides[i].n_phases)
            put_legend(p, &b->sides[i]);
}

/* ---- Tables ---- */

static void put_summary(struct page *p, const struct report *r)
{
    static const double columns[] = {50, 90, 99, 0, 100};
    const struct bench *b = r->bench;
    put(p,
        "<h2>Summary</h2>\n<div class=\"scroll\"><table><caption>%s</caption>\n<thead><tr><th scope=\"col\">side</th>"
        "<th scope=\"col\">median</th><th scope=\"col\">p90</th><th scope=\"col\">p99</th><th scope=\"col\">min</th>"
        "<th scope=\"col\">max</th><th scope=\"col\">n</th></tr></thead><tbody>\n",
        unit(&b->sides[0]));
    for (unsigned i = 0; i < b->n_sides; i++) {
        const struct bench_side *s = &b->sides[i];
        put(p, "<tr><td>");
        put_text(p, s->name);
        put(p, "</td>");
        for (size_t k = 0; k < ARRAY_SIZE(columns); k++)
            put(p, "<td>%.3f</td>", shown(s, samples_percentile(&s->samples, columns[k])));
        put(p, "<td>%zu</td></tr>\n", s->samples.n);
    }
    put(p, "</tbody></table></div>\n");
    for (unsigned i = 1; i < b->n_sides; i++) {
        struct ratio ratio;
        if (b->sides[0].count != b->sides[i].count ||
            samples_ratio(&b->sides[0].samples, &b->sides[i].samples, &ratio) < 0)
            continue;
        put(p, "<p>");
        put_text(p, b->sides[0].name);
        put(p, " / ");
        put_text(p, b->sides[i].name);
        put(p, ": %.3f (%.0f%% confidence: %.3f to %.3f)</p>\n", ratio.ratio, 100 * STATS_LEVEL, ratio.low, ratio.high);
    }
}

static void put_samples(struct page *p, const struct report *r)
{
    const struct bench *b = r->bench;
    put(p,
        "<h2>Samples</h2>\n<div class=\"scroll\"><table><caption>in the order they were taken, %s</caption>\n"
        "<thead><tr><th scope=\"col\">round</th>",
        unit(&b->sides[0]));
    size_t rows = 0;
    for (unsigned i = 0; i < b->n_sides; i++) {
        put(p, "<th scope=\"col\">");
        put_text(p, b->sides[i].name);
        put(p, "</th>");
        rows = MAX_OF(rows, b->sides[i].samples.n);
    }
    put(p, "</tr></thead><tbody>\n");
    for (size_t k = 0; k < rows; k++) {
        put(p, "<tr><td>%zu</td>", k + 1);
        for (unsigned i = 0; i < b->n_sides; i++)
            put(p, "<td>%.3f</td>", shown(&b->sides[i], b->sides[i].samples.v[k]));
        put(p, "</tr>\n");
    }
    put(p, "</tbody></table></div>\n");
}

int report_page(const struct report *r, struct buf *out)
{
    struct page p = {.out = out};
    put_head(&p, r);
    put_facts(&p, r);
    put_distribution(&p, r);
    put_phases(&p, r);
    put_summary(&p, r);
    put_samples(&p, r);
    put(&p, "</body>\n</html>\n");
    return p.error;
}
