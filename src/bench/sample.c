/* One sample of each kind. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "bench/bench.h"
#include "host/interrupt.h"
#include "wire/frame.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PREPARE_TRIES 3

static int keep_phase(struct bench_side *s, const char *name, double value)
{
    unsigned i = 0;
    while (i < s->n_phases && strcmp(s->phases[i].name, name) != 0)
        i++;
    if (i == BENCH_MAX_PHASES)
        return 0;
    if (i == s->n_phases)
        snprintf(s->phases[s->n_phases++].name, sizeof(s->phases[i].name), "%s", name);
    return samples_add(&s->phases[i].samples, value);
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* What ran, the same for all samples of a side. */
static void note_machine(struct bench_side *s, const struct machine_info *info)
{
    s->accel = info->accel;
    snprintf(s->backend, sizeof(s->backend), "%s", info->backend);
    snprintf(s->image, sizeof(s->image), "%s", info->image);
    s->memory_mib = info->memory_mib;
    s->vcpus = info->vcpus;
}

/* ---- VMs ---- */

int sample_start(struct bench *b, const struct subject *subject, bool cold, struct machine_info *info,
                 struct mvm_error *err)
{
    char name[VMDIR_MAX_NAME + 1];
    struct machine_config c = subject_config(subject);
    c.name = name;
    c.cold = cold;
    c.timeout_ms = b->timeout_ms;
    for (;;) {
        int r = machine_pick_name(b->h, "bench", name, err);
        if (r == 0)
            r = machine_start(b->h, &c, NULL, info, err);
        if (r != -EEXIST) /* somebody else took the name meanwhile */
            return r;
    }
}

void sample_stop(struct bench *b, struct machine_info *info)
{
    fd_closep(&info->tether);
    (void)!machine_stop(b->h, info->name, 0, NULL);
}

/* ---- Boots ---- */

static int keep_boot(struct bench_side *s, const struct msg_status *st)
{
    int r = samples_add(&s->samples, ms(st->ready_ns));
    if (r == 0)
        r = keep_phase(s, "start", ms(st->spawn_ns));
    if (r == 0)
        r = keep_phase(s, s->cold ? "boot" : "restore", ms(st->hello_ns - st->spawn_ns));
    return r == 0 ? keep_phase(s, "configure", ms(st->ready_ns - st->hello_ns)) : r;
}

static int keep_count(struct bench_side *s, const struct instruction_count *c)
{
    int r = samples_add(&s->samples, (double)c->total);
    if (r == 0)
        r = samples_add(&s->services, (double)c->services);
    if (r == 0 && c->firmware)
        r = keep_phase(s, "firmware", (double)c->firmware);
    if (r == 0 && c->kernel)
        r = keep_phase(s, "kernel", (double)c->kernel);
    return r == 0 && c->init ? keep_phase(s, "init", (double)c->init) : r;
}

static int take_count(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    struct instruction_count count;
    struct machine_info info;
    struct machine_config c = subject_config(&s->subject);
    c.timeout_ms = b->timeout_ms;
    int r = instruction_count(b->h, &c, false, NULL, &count, &info, err);
    if (r < 0)
        return r;
    note_machine(s, &info);
    r = keep ? keep_count(s, &count) : 0;
    return r < 0 ? mvm_error_errno(err, r, "samples") : 0;
}

static int take_boot(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    struct machine_info info;
    if (s->count)
        return take_count(b, s, keep, err);
    int r = sample_start(b, &s->subject, s->cold, &info, err);
    if (r < 0)
        return r;
    sample_stop(b, &info);
    note_machine(s, &info);
    if (keep && !s->cold && vm_start_parse(info.status.mode) != VM_START_WARM) {
        mvm_error_set(err, -EIO, "a VM was booted where a restored one was to be measured: %s",
                      info.status.cold_reason);
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        mvm_error_hint(err, "--cold measures boots");
        return -EIO;
    }
    r = keep ? keep_boot(s, &info.status) : 0;
    return r < 0 ? mvm_error_errno(err, r, "samples") : 0;
}

/* The first VM of an image boots and leaves the snapshot; that is no part of any figure. */
static int prepare_snapshot(struct bench *b, struct bench_side *s, struct mvm_error *err)
{
    for (int i = 0; i < PREPARE_TRIES; i++) {
        struct machine_info info;
        int r = sample_start(b, &s->subject, false, &info, err);
        if (r < 0)
            return r;
        sample_stop(b, &info);
        if (vm_start_parse(info.status.mode) == VM_START_WARM)
            return 0;
    }
    return 0; /* the samples will say why */
}

/* ---- Execs ---- */

static int take_exec(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    CLEAN_CLIENT struct client *c = NULL;
    CLEAN_BUF struct buf request = BUF_INIT(FRAME_MAX_PAYLOAD);
    struct msg_exec m = {.argv = {.v = s->argv}};
    uint32_t stream = 0;
    while (s->argv[m.argv.n])
        m.argv.n++;
    uint64_t start = clock_now();
    int r = client_connect(b->h, s->vm, &c, err);
    uint64_t connected = clock_now();
    if (r == 0 && msg_exec_encode(&request, &m) < 0)
        r = mvm_error_errno(err, -E2BIG, "the command");
    if (r == 0)
        r = client_open(c, &request, &stream, err);
    if (r == 0)
        r = client_expect_exit(c, stream, clock_deadline((int64_t)b->timeout_ms), err);
    uint64_t end = clock_now();
    if (r < 0) {
        if (r == -EIO && err && !err->msg[0])
            mvm_error_set(err, r, "%s ends with another status than 0", s->argv[0]);
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        return r;
    }
    if (!keep)
        return 0;
    r = samples_add(&s->samples, ms(end - start));
    if (r == 0)
        r = keep_phase(s, "connect", ms(connected - start));
    if (r == 0)
        r = keep_phase(s, "run", ms(end - connected));
    return r < 0 ? mvm_error_errno(err, r, "samples") : 0;
}

static int prepare_exec(struct bench *b, struct bench_side *s, struct mvm_error *err)
{
    struct machine_info info;
    int r = sample_start(b, &s->subject, s->cold, &info, err);
    if (r < 0)
        return r;
    note_machine(s, &info);
    memcpy(s->vm, info.name, sizeof(s->vm));
    s->tether = info.tether;
    return 0;
}

/* ---- Builds ---- */

static int take_build(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    CLEAN_BUILD_RESULT struct build_result result = BUILD_RESULT_INIT;
    struct progress p = PROGRESS_INIT(NULL, NULL);
    struct build_opts o = *b->build;
    uint64_t total = 0;
    o.ref = s->subject.flake;
    o.force = true;
    int r = build_run(&o, b->h, &p, &result, err);
    for (unsigned i = 0; r == 0 && keep && i < p.n_phases; i++) {
        total += p.phases[i].ns;
        r = keep_phase(s, p.phases[i].name, ms(p.phases[i].ns));
    }
    memcpy(s->image, result.image.digest, sizeof(s->image));
    return r == 0 && keep ? samples_add(&s->samples, ms(total)) : r;
}

/* ---- Foreign commands ---- */

/* Until it has ended: 0, -EINTR, -ETIMEDOUT. */
static int wait_process(struct process *p, uint64_t deadline)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = p->pidfd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        int n = poll(fds, 2, clock_left_ms(deadline));
        if (n == 0)
            return -ETIMEDOUT;
        if (fds[1].revents || interrupt_pending())
            return -EINTR;
        if (n > 0)
            return process_wait(p, clock_now());
    }
}

static int take_baseline(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    const struct process_opts o = {.argv = (const char *const *)s->argv,
                                   .stdin_fd = -1,
                                   .stdout_fd = -1,
                                   .stderr_fd = -1,
                                   .die_with_parent = true};
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    uint64_t start = clock_now();
    int r = process_start(&o, &p, err);
    if (r < 0)
        return r;
    r = wait_process(&p, clock_deadline((int64_t)b->timeout_ms));
    uint64_t end = clock_now();
    if (r == -ETIMEDOUT) {
        mvm_error_set(err, r, "%s did not end within %.1f s", s->argv[0], (double)b->timeout_ms / 1000);
        mvm_error_hint(err, "more time: --timeout SECONDS");
    } else if (r < 0) {
        mvm_error_set(err, r, "interrupted");
    } else if (process_exit_code(p.status)) {
        r = mvm_error_set(err, -EIO, "%s exits with status %d", s->argv[0], process_exit_code(p.status));
        mvm_error_hint(err, "run it by hand to see why: its output is not shown");
    }
    return r == 0 && keep ? samples_add(&s->samples, ms(end - start)) : r;
}

/* ---- All ---- */

int sample_take(struct bench *b, struct bench_side *s, bool keep, struct mvm_error *err)
{
    switch (s->kind) {
    case BENCH_BOOT:
        return take_boot(b, s, keep, err);
    case BENCH_EXEC:
        return take_exec(b, s, keep, err);
    case BENCH_BUILD:
        return take_build(b, s, keep, err);
    case BENCH_BASELINE:
        return take_baseline(b, s, keep, err);
    }
    return -EINVAL;
}

int sample_prepare(struct bench *b, struct bench_side *s, struct mvm_error *err)
{
    if (s->kind == BENCH_EXEC)
        return prepare_exec(b, s, err);
    return s->kind == BENCH_BOOT && !s->cold && !s->count ? prepare_snapshot(b, s, err) : 0;
}
