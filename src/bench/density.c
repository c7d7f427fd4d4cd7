/*
 * Each VM has a thread while it starts or stops: starting waits for the guest, and all shall wait at the same time. A
 * VM is transient, so that the death of this process ends it.
 */
#include "bench/density.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STACK_SIZE (512u * 1024)

struct job {
    struct bench *bench;
    const struct subject *subject;
    struct density_vm *vm;
    struct machine_info info;
    char name[VMDIR_MAX_NAME + 1];
    int result; /* 0 where it runs */
    struct mvm_error err;
    bool started; /* the thread */
    pthread_t thread;
};

static void *start_one(void *data)
{
    struct job *j = data;
    struct machine_config c = subject_config(j->subject);
    c.name = j->name;
    c.cold = false;
    c.timeout_ms = j->bench->timeout_ms;
    j->result = machine_start(j->bench->h, &c, NULL, &j->info, &j->err);
    return NULL;
}

static void *stop_one(void *data)
{
    struct job *j = data;
    sample_stop(j->bench, &j->info);
    return NULL;
}

/* Runs f for every job that is like that, all at once, and waits. */
static void run_all(struct job *jobs, unsigned n, void *(*f)(void *), bool running)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    for (unsigned i = 0; i < n; i++) {
        jobs[i].started = (jobs[i].result == 0) == running && pthread_create(&jobs[i].thread, &attr, f, &jobs[i]) == 0;
        if (!jobs[i].started && running && jobs[i].result == 0)
            f(&jobs[i]); /* one after the other then */
    }
    for (unsigned i = 0; i < n; i++)
        if (jobs[i].started)
            pthread_join(jobs[i].thread, NULL);
    pthread_attr_destroy(&attr);
}

/* The process's proportional set size in KiB (proc(5), smaps_rollup); 0 where it cannot be read. */
static uint64_t pss_kib(uint64_t pid)
{
    char path[64], text[4096];
    unsigned long long kib;
    snprintf(path, sizeof(path), "/proc/%llu/smaps_rollup", (unsigned long long)pid);
    CLEAN_FD int fd = pid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *at = strstr(text, "\nPss:");
    return at && sscanf(at, "\nPss: %llu", &kib) == 1 ? kib : 0;
}

static int look(struct density *d, struct job *jobs)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < d->n; i++) {
        struct density_vm *vm = jobs[i].vm;
        const struct machine_info *info = &jobs[i].info;
        memcpy(vm->name, info->name, sizeof(vm->name));
        vm->warm = vm_start_parse(info->status.mode) == VM_START_WARM;
        vm->ready_ms = (double)info->status.ready_ns / 1e6;
        vm->vmm_kib = pss_kib(info->status.vmm_pid);
        vm->supervisor_kib = pss_kib((uint64_t)info->supervisor);
        r = samples_add(&d->ready_ms, vm->ready_ms);
        if (r == 0)
            r = samples_add(&d->vmm_mib, (double)vm->vmm_kib / 1024);
        if (r == 0)
            r = samples_add(&d->supervisor_mib, (double)vm->supervisor_kib / 1024);
        if (r == 0)
            r = samples_add(&d->total_mib, (double)(vm->vmm_kib + vm->supervisor_kib) / 1024);
    }
    return r;
}

/* The snapshot must be there before: the first VM of an image boots. */
static int prepare(struct bench *b, const struct subject *s, struct mvm_error *err)
{
    struct machine_info info;
    int r = 0;
    info.status.mode[0] = '\0';
    for (int tries = 0; r == 0 && tries < 3 && vm_start_parse(info.status.mode) != VM_START_WARM; tries++) {
        r = sample_start(b, s, false, &info, err);
        if (r == 0)
            sample_stop(b, &info);
    }
    return r;
}

static int first_failure(const struct job *jobs, unsigned n, struct mvm_error *err)
{
    for (unsigned i = 0; i < n; i++) {
        if (jobs[i].result == 0)
            continue;
        if (err)
            *err = jobs[i].err;
        return jobs[i].result;
    }
    return 0;
}

int density_run(struct bench *b, const struct subject *s, unsigned n, struct density *ret, struct mvm_error *err)
{
    CLEAN_FREE struct job *jobs = calloc(n, sizeof(*jobs));
    ret->vms = calloc(n, sizeof(*ret->vms));
    ret->n = n;
    if (!jobs || !ret->vms)
        return mvm_error_errno(err, -ENOMEM, "vms");
    progress_phase(b->progress, "prepare");
    int r = prepare(b, s, err);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < n; i++) {
        jobs[i] = (struct job){.bench = b, .subject = s, .vm = &ret->vms[i], .result = -ECANCELED};
        mvm_error_set(&jobs[i].err, -ECANCELED, "no thread could be made");
        /* Names are this process's own: others' VMs are left alone. */
        snprintf(jobs[i].name, sizeof(jobs[i].name), "bench-%d-%u", (int)getpid(), i);
    }
    progress_phase(b->progress, "start");
    uint64_t start = clock_now();
    run_all(jobs, n, start_one, false);
    ret->all_ready_ms = (double)(clock_now() - start) / 1e6;
    progress_phase(b->progress, "measure");
    r = first_failure(jobs, n, err);
    if (r == 0 && look(ret, jobs) < 0)
        r = mvm_error_errno(err, -ENOMEM, "samples");
    progress_phase(b->progress, "stop");
    start = clock_now();
    run_all(jobs, n, stop_one, true);
    ret->down_ms = (double)(clock_now() - start) / 1e6;
    progress_end(b->progress);
    return r;
}

void density_done(struct density *d)
{
    free(d->vms);
    samples_done(&d->ready_ms);
    samples_done(&d->vmm_mib);
    samples_done(&d->supervisor_mib);
    samples_done(&d->total_mib);
}

static json_object *rounded(double v)
{
    char text[64];
    snprintf(text, sizeof(text), "%.3f", v);
    return json_object_new_double_s(v, text);
}

static void add_summary(json_object *o, const char *key, const struct samples *s)
{
    json_object *summary = json_object_new_object();
    json_add(summary, "p50", rounded(samples_percentile(s, 50)));
    json_add(summary, "p90", rounded(samples_percentile(s, 90)));
    json_add(summary, "p99", rounded(samples_percentile(s, 99)));
    json_add(summary, "max", rounded(samples_percentile(s, 100)));
    json_add(o, key, summary);
}

json_object *density_json(const struct density *d, const struct hostfacts *host)
{
    json_object *o = json_object_new_object(), *vms = json_object_new_array(), *h = json_object_new_object();
    unsigned warm = 0;
    for (unsigned i = 0; i < d->n; i++) {
        const struct density_vm *v = &d->vms[i];
        json_object *vm = json_object_new_object();
        warm += v->warm;
        json_add_bool(vm, "warm", v->warm);
        json_add(vm, "ready_ms", rounded(v->ready_ms));
        json_add_int(vm, "vmm_pss_kib", (int64_t)v->vmm_kib);
        json_add_int(vm, "supervisor_pss_kib", (int64_t)v->supervisor_kib);
        if (json_object_array_add(vms, vm) < 0)
            abort();
    }
    json_add_string(h, "cpu", host->cpu);
    json_add_int(h, "cores", host->cores);
    json_add_int(h, "memory_mib", (int64_t)host->memory_mib);
    json_add_string(h, "kernel", host->kernel);
    json_add_string(h, "backend_version", host->backend);
    json_add(h, "load", rounded(host->load));
    json_add_string(o, "status", "ok");
    json_add_string(o, "bench", "bench density");
    json_add(o, "host", h);
    json_add_int(o, "count", d->n);
    json_add_int(o, "warm", warm);
    json_add(o, "all_ready_ms", rounded(d->all_ready_ms));
    json_add(o, "down_ms", rounded(d->down_ms));
    add_summary(o, "ready_ms", &d->ready_ms);
    add_summary(o, "pss_mib", &d->total_mib);
    add_summary(o, "vmm_pss_mib", &d->vmm_mib);
    add_summary(o, "supervisor_pss_mib", &d->supervisor_mib);
    json_add(o, "vms", vms);
    return o;
}
