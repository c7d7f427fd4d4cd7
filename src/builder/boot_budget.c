#include "builder/boot_budget.h"
#include "base/fd.h"
#include "machine/instruction_count.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_MIB   256
#define TIMEOUT_MS   120000
#define WARM_SAMPLES 5
#define MILLION      1e6

static struct machine_config config_of(const struct artifact_image *img)
{
    return (struct machine_config){
        .role = VM_ROLE_RUNTIME,
        .image = img->path,
        .image_digest = img->digest,
        .hostname = "budget",
        .memory_mib = img->metadata.memory_mib ? img->metadata.memory_mib : MEMORY_MIB,
        .vcpus = img->metadata.vcpus ? (unsigned)img->metadata.vcpus : 1,
        .timeout_ms = TIMEOUT_MS,
        .transient = true,
    };
}

static int over(struct mvm_error *err, const char *kind)
{
    mvm_error_phase(err, MVM_PHASE_BOOT_BUDGET);
    mvm_error_kind(err, kind, NULL);
    return -ERANGE;
}

/* ---- Instructions ---- */

static int describe(struct buf *out, const struct instruction_count *c, const struct instruction_count *detailed)
{
    const struct {
        const char *name;
        uint64_t n;
    } phases[] = {{"firmware", c->firmware}, {"kernel", c->kernel}, {"init", c->init}, {"services", c->services}};
    int r = buf_printf(out, "million instructions:\n");
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(phases); i++)
        r = buf_printf(out, "%10.2f  %s%s\n", (double)phases[i].n / MILLION, phases[i].name,
                       i == ARRAY_SIZE(phases) - 1 ? " (after the agent is there: not in the total)" : "");
    if (r == 0 && detailed->n_initcalls)
        r = buf_printf(out, "%10.2f  %llu initcalls of the kernel and its modules, of these:\n",
                       (double)detailed->initcalls / MILLION, (unsigned long long)detailed->n_initcalls);
    for (unsigned i = 0; r == 0 && i < detailed->n_top; i++)
        r = buf_printf(out, "%10.2f    %s\n", (double)detailed->top[i].instructions / MILLION, detailed->top[i].name);
    return r;
}

static int check_instructions(const struct artifact_image *img, struct home *h, struct progress *p,
                              struct mvm_error *err)
{
    struct instruction_count count, detailed = {0};
    const struct machine_config c = config_of(img);
    double budget = (double)img->metadata.boot_budget_minstr;
    int r = instruction_count(h, &c, false, p, &count, NULL, err);
    if (r < 0)
        return mvm_error_wrap(err, "cannot judge the image's bootBudget");
    double cost = (double)count.total / MILLION;
    if (cost <= budget) {
        progress_note(p, "a boot takes %.1f million instructions, within its budget of %.0f", cost, budget);
        return 0;
    }
    /* Noting initcalls costs instructions itself: another boot does it, for the explanation only. */
    CLEAN_BUF struct buf text = BUF_INIT(sizeof(err->detail) - 1);
    r = instruction_count(h, &c, true, p, &detailed, NULL, err);
    if (r == -EINTR)
        return r;
    mvm_error_set(err, -ERANGE, "a boot takes %.1f million instructions, %.1f more than the image's budget of %.0f",
                  cost, cost - budget, budget);
    mvm_error_hint(err, "raise bootBudget in the flake, or make the boot cheaper (docs/boot.md)");
    (void)!describe(&text, &count, &detailed);
    mvm_error_detail(err, buf_cstr(&text), text.len);
    return over(err, "instructions");
}

/* ---- Warm starts ---- */

static int start_once(const struct artifact_image *img, struct home *h, struct progress *p, struct machine_info *info,
                      struct mvm_error *err)
{
    char name[VMDIR_MAX_NAME + 1];
    struct machine_config c = config_of(img);
    int r = -EEXIST;
    c.name = name;
    for (int tries = 0; tries < 20 && r == -EEXIST; tries++) {
        r = machine_pick_name(h, "budget", name, err);
        if (r == 0)
            r = machine_start(h, &c, p, info, err);
    }
    if (r < 0)
        return mvm_error_wrap(err, "cannot judge the image's bootBudget");
    fd_closep(&info->tether);
    return machine_stop(h, name, 0, err);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int check_warm(const struct artifact_image *img, struct home *h, struct progress *p, struct mvm_error *err)
{
    double ms[WARM_SAMPLES], budget = (double)img->metadata.boot_budget_warm_ms;
    struct machine_info info;
    int r = start_once(img, h, p, &info, err); /* leaves the snapshot */
    for (unsigned i = 0; r == 0 && i < WARM_SAMPLES; i++) {
        r = start_once(img, h, p, &info, err);
        ms[i] = (double)info.status.ready_ns / MILLION;
        if (r == 0 && vm_start_parse(info.status.mode) != VM_START_WARM)
            r = mvm_error_set(err, -EIO, "cannot judge the image's bootBudget: a VM was not restored: %s",
                              info.status.cold_reason);
    }
    if (r < 0)
        return r;
    qsort(ms, WARM_SAMPLES, sizeof(ms[0]), by_size);
    double median = ms[WARM_SAMPLES / 2];
    if (median <= budget) {
        progress_note(p, "a warm start takes %.1f ms, within its budget of %.0f", median, budget);
        return 0;
    }
    mvm_error_set(err, -ERANGE, "a warm start takes %.1f ms (median of %d), %.1f more than the image's budget of %.0f",
                  median, WARM_SAMPLES, median - budget, budget);
    mvm_error_hint(err, "raise bootBudget in the flake; mvmctl up --timing shows where the time goes");
    return over(err, "warm-start");
}

int boot_budget_check(const struct artifact_image *img, struct home *h, struct progress *p, struct mvm_error *err)
{
    int r = 0;
    if (!img->metadata.boot_budget_minstr && !img->metadata.boot_budget_warm_ms)
        return 0;
    progress_phase(p, "boot-budget");
    if (img->metadata.boot_budget_minstr)
        r = check_instructions(img, h, p, err);
    if (r == 0 && img->metadata.boot_budget_warm_ms)
        r = check_warm(img, h, p, err);
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    return r;
}
