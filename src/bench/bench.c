#include "bench/bench.h"
#include "base/fd.h"
#include "host/interrupt.h"

#include <errno.h>
#include <string.h>

struct bench_side *bench_add(struct bench *b, enum bench_kind kind)
{
    if (b->n_sides == BENCH_MAX_SIDES)
        return NULL;
    struct bench_side *s = &b->sides[b->n_sides++];
    *s = (struct bench_side){.kind = kind, .subject = SUBJECT_INIT, .tether = -1};
    return s;
}

int bench_run(struct bench *b, struct mvm_error *err)
{
    int r = 0;
    progress_phase(b->progress, "prepare");
    for (unsigned i = 0; r == 0 && i < b->n_sides; i++)
        r = sample_prepare(b, &b->sides[i], err);
    unsigned rounds = b->n_warmups + b->n_samples;
    progress_phase(b->progress, "measure");
    for (unsigned round = 0; r == 0 && round < rounds; round++) {
        progress_detail(b->progress, "%u of %u%s", round + 1, rounds, round < b->n_warmups ? ", warming up" : "");
        for (unsigned i = 0; r == 0 && i < b->n_sides; i++) {
            r = interrupt_pending() ? mvm_error_set(err, -EINTR, "interrupted")
                                    : sample_take(b, &b->sides[i], round >= b->n_warmups, err);
            if (r < 0 && b->n_sides > 1 && r != -EINTR)
                mvm_error_wrap(err, "%s", b->sides[i].name);
        }
    }
    progress_end(b->progress);
    return r;
}

void bench_done(struct bench *b)
{
    for (unsigned i = 0; i < b->n_sides; i++) {
        struct bench_side *s = &b->sides[i];
        if (s->tether >= 0) {
            fd_closep(&s->tether);
            (void)!machine_stop(b->h, s->vm, 0, NULL);
        }
        subject_done(&s->subject);
        samples_done(&s->samples);
        samples_done(&s->services);
        for (unsigned k = 0; k < s->n_phases; k++)
            samples_done(&s->phases[k].samples);
        if (s->kind == BENCH_BASELINE)
            free(s->argv);
    }
    b->n_sides = 0;
}

const char *bench_unit(const struct bench_side *s)
{
    return s->count ? "instructions" : "ms";
}

const char *bench_kind_name(enum bench_kind kind)
{
    static const char *const names[] = {"boot", "exec", "build", "baseline"};
    return names[kind];
}
