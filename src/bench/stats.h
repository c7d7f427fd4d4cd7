/*
 * Samples and what is said about them. Percentiles are interpolated between the two nearest ranks: that of p is at
 * position p / 100 * (n - 1) of the sorted samples. So the 50th is the median, the 0th and 100th are the extremes, and
 * with few samples the 99th lies just below the largest.
 */
#pragma once

#include "base/macros.h"

#include <stddef.h>

#define STATS_SEED      0x6d766d62656e6368ull /* of the resampling: the same samples give the same interval */
#define STATS_RESAMPLES 4000
#define STATS_LEVEL     0.95

struct samples {
    double *v; /* owned, in the order they came */
    size_t n, cap;
};

int samples_add(struct samples *s, double value) MVM_MUST_CHECK;
void samples_done(struct samples *s);

/* p from 0 to 100; 0 where there are no samples. */
double samples_percentile(const struct samples *s, double p);

struct ratio {
    double ratio;     /* of the medians, a / b */
    double low, high; /* in which it lies with a confidence of STATS_LEVEL */
};

/* The interval is what the middle STATS_LEVEL of the ratios of STATS_RESAMPLES resampled pairs spans (the percentile
 * bootstrap; both sides are drawn with replacement, each from its own). -EINVAL where a side is empty or b's median is
 * not above 0, -ENOMEM. */
int samples_ratio(const struct samples *a, const struct samples *b, struct ratio *ret) MVM_MUST_CHECK;
