/* The results of a run: as JSON (docs/bench.md has the fields), and as one HTML page. */
#pragma once

#include "bench/bench.h"
#include "bench/hostfacts.h"
#include "host/json.h"

struct report {
    const struct bench *bench;
    const char *title;            /* "bench boot" */
    const struct hostfacts *host; /* as it was before the first sample */
    double load_after;            /* of the last minute */
    uint64_t taken_at;            /* CLOCK_REALTIME ns */
    bool has_budget, over_budget; /* report_judge() */
    double budget_ms, over_by_ms; /* over_by_ms: median less budget */
};

/* Compares the first side's median with the budget. */
void report_judge(struct report *r, double budget_ms);
/* The caller owns the object. */
json_object *report_json(const struct report *r);
/* Lines for people. */
int report_text(const struct report *r, struct buf *out) MVM_MUST_CHECK;
/* A whole page: no script, nothing fetched, dark and light. */
int report_page(const struct report *r, struct buf *out) MVM_MUST_CHECK;
