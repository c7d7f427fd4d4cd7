#include "bench/stats.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

int samples_add(struct samples *s, double value)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 32;
        double *v = reallocarray(s->v, cap, sizeof(*v));
        if (!v)
            return -ENOMEM;
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = value;
    return 0;
}

void samples_done(struct samples *s)
{
    free(s->v);
    *s = (struct samples){0};
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double of_sorted(const double *v, size_t n, double p)
{
    double at = p / 100 * (double)(n - 1);
    size_t below = (size_t)at;
    return below + 1 >= n ? v[n - 1] : v[below] + (at - (double)below) * (v[below + 1] - v[below]);
}

/* Sorts v. */
static double percentile_of(double *v, size_t n, double p)
{
    qsort(v, n, sizeof(*v), by_size);
    return of_sorted(v, n, p);
}

double samples_percentile(const struct samples *s, double p)
{
    CLEAN_FREE double *v = s->n ? malloc(s->n * sizeof(*v)) : NULL;
    if (!v)
        return 0;
    memcpy(v, s->v, s->n * sizeof(*v));
    return percentile_of(v, s->n, p);
}

/* xorshift64* (Vigna, 2016): small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static double resampled_median(const struct samples *s, double *room, uint64_t *random)
{
    for (size_t i = 0; i < s->n; i++)
        room[i] = s->v[(next_random(random) >> 11) % s->n];
    return percentile_of(room, s->n, 50);
}

int samples_ratio(const struct samples *a, const struct samples *b, struct ratio *ret)
{
    double median = samples_percentile(b, 50);
    if (!a->n || !b->n || !(median > 0))
        return -EINVAL;
    CLEAN_FREE double *room = malloc(MAX_OF(a->n, b->n) * sizeof(*room));
    CLEAN_FREE double *ratios = malloc(STATS_RESAMPLES * sizeof(*ratios));
    if (!room || !ratios)
        return -ENOMEM;
    uint64_t random = STATS_SEED;
    for (size_t i = 0; i < STATS_RESAMPLES; i++) {
        double top = resampled_median(a, room, &random), bottom = resampled_median(b, room, &random);
        ratios[i] = bottom > 0 ? top / bottom : 0;
    }
    ret->ratio = samples_percentile(a, 50) / median;
    ret->low = percentile_of(ratios, STATS_RESAMPLES, 50 * (1 - STATS_LEVEL));
    ret->high = of_sorted(ratios, STATS_RESAMPLES, 100 - 50 * (1 - STATS_LEVEL));
    return 0;
}
