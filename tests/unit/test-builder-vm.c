/* Builder VMs, sessions, and what a start may cost: starting VMs, reaching them and counting are played here. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "builder/boot_budget.h"
#include "builder/builder_session.h"
#include "builder/persistent.h"
#include "machine/instruction_count.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct home home = HOME_INIT;

/* ---- What is played ---- */

#define MAX_STARTS 12

static struct {
    int results[MAX_STARTS]; /* of each start; 0 beyond */
    enum store_health health[MAX_STARTS];
    double ready_ms[MAX_STARTS];
    bool cold;
    unsigned starts, stops;
    struct machine_config last;
    char name[VMDIR_MAX_NAME + 1];
    int persistent; /* what reaching that builder gives */
    double million; /* instructions of a boot */
} played;

int __wrap_machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                         struct mvm_error *err);
int __wrap_machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1],
                             struct mvm_error *err);
int __wrap_machine_stop(struct home *h, const char *name, uint64_t grace_ms, struct mvm_error *err);
int __wrap_persistent_connect(struct builder_vm *v, const struct builder_vm_opts *o, struct mvm_error *err);
int __wrap_client_connect(struct home *h, const char *name, struct client **ret, struct mvm_error *err);
int __wrap_registry_load(struct registry *f, const char *rootfs, struct mvm_error *err);
int __wrap_instruction_count(struct home *h, const struct machine_config *c, bool initcalls, struct progress *p,
                             struct instruction_count *ret, struct machine_info *info, struct mvm_error *err);

int __wrap_machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                         struct mvm_error *err)
{
    unsigned i = played.starts++;
    played.last = *c;
    snprintf(played.name, sizeof(played.name), "%s", c->name);
    info->tether = -1;
    info->status.ready_ns = (uint64_t)(played.ready_ms[i % MAX_STARTS] * 1e6);
    snprintf(info->status.mode, sizeof(info->status.mode), "%s", played.cold ? "cold" : "warm");
    snprintf(info->status.cold_reason, sizeof(info->status.cold_reason), "it was asked for");
    snprintf(info->status.store, sizeof(info->status.store), "%s",
             i < MAX_STARTS ? store_health_name(played.health[i]) : "");
    int r = i < MAX_STARTS ? played.results[i] : 0;
    return r < 0 ? mvm_error_set(err, r, "start %u failed", i + 1) : 0;
}

int __wrap_machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1],
                             struct mvm_error *err)
{
    snprintf(ret, VMDIR_MAX_NAME + 1, "%.30s", base);
    return 0;
}

int __wrap_machine_stop(struct home *h, const char *name, uint64_t grace_ms, struct mvm_error *err)
{
    played.stops++;
    return 0;
}

int __wrap_persistent_connect(struct builder_vm *v, const struct builder_vm_opts *o, struct mvm_error *err)
{
    return played.persistent < 0 ? mvm_error_set(err, played.persistent, "it runs another image") : 0;
}

int __wrap_client_connect(struct home *h, const char *name, struct client **ret, struct mvm_error *err)
{
    return 0;
}

int __wrap_registry_load(struct registry *f, const char *rootfs, struct mvm_error *err)
{
    return 0;
}

int __wrap_instruction_count(struct home *h, const struct machine_config *c, bool initcalls, struct progress *p,
                             struct instruction_count *ret, struct machine_info *info, struct mvm_error *err)
{
    *ret = (struct instruction_count){.total = (uint64_t)(played.million * 1e6), .kernel = 40000000};
    if (initcalls) {
        ret->n_initcalls = ret->n_top = 1;
        ret->top[0].instructions = 9000000;
        snprintf(ret->top[0].name, sizeof(ret->top[0].name), "slow_init");
    }
    return 0;
}

static char noted[1024];

static void on_note(void *data, const char *line)
{
    snprintf(noted, sizeof(noted), "%s", line);
}

static void on_update(void *data, const char *phase, const char *detail)
{
}

static void on_verbose(void *data, const char *line)
{
}

static const struct progress_ops ops = {.update = on_update, .note = on_note, .verbose = on_verbose};
static struct progress progress = PROGRESS_INIT(&ops, NULL);

static void begin(void)
{
    memset(&played, 0, sizeof(played));
    noted[0] = '\0';
}

/* ---- Builder VMs ---- */

static int boot(bool stays, struct mvm_error *e)
{
    struct builder_vm v = BUILDER_VM_INIT;
    const struct builder_vm_opts o = {
        .image = "/image", .image_digest = "", .vcpus = 3, .memory_mib = 700, .idle_ms = 9};
    v.home = &home;
    v.progress = &progress;
    snprintf(v.name, sizeof(v.name), "builder-1");
    *e = (struct mvm_error)MVM_ERROR_INIT;
    if (store_disk_open(&v.store, &home, STORE_DISK_MIN_CAP, false, &progress, NULL) < 0)
        abort();
    int r = builder_vm_boot(&v, &o, stays, e);
    store_disk_close(&v.store);
    return r;
}

static void test_boot(void)
{
    struct mvm_error e;
    begin();
    ok(boot(false, &e) == 0 && played.starts == 1 && played.last.transient && !played.last.idle_ms &&
           !played.last.cold && played.last.vcpus == 3 && played.last.memory_mib == 700 && played.last.store_disk &&
           played.last.role == VM_ROLE_BUILDER,
       "a builder of a session's own goes with it");
    begin();
    ok(boot(true, &e) == 0 && !played.last.transient && played.last.idle_ms == 9 && played.last.hold_fd > 0,
       "one that stays holds the store's lock, and stops when it is unused");
    begin();
    played.results[0] = -ECHILD;
    ok(boot(false, &e) == 0 && played.starts == 2 && played.last.cold &&
           strstr(noted, "start 1 failed; starting it once more"),
       "a builder that ended before it was ready is booted once more, without the snapshot: %s", noted);
    begin();
    played.results[0] = played.results[1] = -EPIPE;
    ok(boot(false, &e) == -EPIPE && played.starts == 2 && e.phase == MVM_PHASE_BUILDER_BOOTSTRAP,
       "but not a third time: %s", e.msg);
    begin();
    played.results[0] = -EINVAL;
    ok(boot(false, &e) == -EINVAL && played.starts == 1, "nor where another try mends nothing");
    begin();
    played.results[0] = -ECHILD;
    played.health[0] = STORE_BROKEN;
    ok(boot(false, &e) == 0 && played.starts == 2 && !played.last.cold && !played.last.store_check,
       "a store beyond repair is made anew, and the builder started with it");
    begin();
    played.results[0] = played.results[1] = played.results[2] = -ECHILD;
    played.health[0] = played.health[1] = STORE_BROKEN;
    ok(boot(false, &e) == -ECHILD && played.starts == 3, "but made anew once at most");
}

static void test_lasting(void)
{
    struct builder_vm v = BUILDER_VM_INIT;
    const struct builder_vm_opts o = {.image = "/image", .image_digest = "", .store_cap = STORE_DISK_MIN_CAP};
    begin();
    v.home = &home;
    v.progress = &progress;
    ok(builder_vm_boot_lasting(&v, PERSISTENT_NAME, &o, NULL) == 0 && strcmp(played.name, PERSISTENT_NAME) == 0 &&
           played.last.memory_mib >= 512 && played.last.vcpus >= 1,
       "a builder that stays has its name, and a default of memory and processors");
}

/* ---- Sessions ---- */

static void put_config(const char *text)
{
    if (path_write_file(home.state_fd, "config.toml", text, strlen(text), 0600, false, NULL) < 0)
        abort();
}

static int session(bool single, struct builder_session *s, struct mvm_error *e)
{
    const struct builder_vm_opts o = {.image = "/image", .image_digest = "digest", .single_shot = single};
    *s = (struct builder_session)BUILDER_SESSION_INIT;
    *e = (struct mvm_error)MVM_ERROR_INIT;
    int r = builder_session_start(s, &home, &o, &progress, e);
    builder_session_done(s);
    return r;
}

static void test_session(void)
{
    struct builder_session s;
    struct mvm_error e;
    begin();
    ok(session(false, &s, &e) == 0 && s.persistent && played.starts == 0, "a session takes the persistent builder (%s)",
       e.msg);
    begin();
    played.persistent = -EBUSY;
    ok(session(false, &s, &e) == 0 && !s.persistent && played.starts == 1 && strstr(played.name, PERSISTENT_NAME "-") &&
           strcmp(s.fallback_reason, "it runs another image") == 0 &&
           strstr(noted, "building in a builder of its own: it runs another image"),
       "where that cannot be, one of its own, and says why: %s", noted);
    begin();
    played.persistent = -ENOSPC;
    ok(session(false, &s, &e) == -ENOSPC && played.starts == 0 && e.phase == MVM_PHASE_BUILDER_BOOTSTRAP &&
           strstr(e.hint, "mvmctl doctor"),
       "a full disk is not tried twice");
    begin();
    played.persistent = -EBUSY;
    ok(session(true, &s, &e) == 0 && !s.fallback_reason[0] && !noted[0], "who wants one of its own is told nothing");
    put_config("[builder]\npersistent = false\nmemory = '900M'\ncpus = 2\n");
    begin();
    ok(session(false, &s, &e) == 0 && !s.persistent && played.last.memory_mib == 900 && played.last.vcpus == 2,
       "config.toml turns the persistent builder off, and says what a builder has");
    put_config("[builder]\npersistent = 7\n");
    begin();
    ok(session(false, &s, &e) < 0 && played.starts == 0 && e.phase == MVM_PHASE_CONFIG,
       "a wrong config.toml starts nothing");
    put_config("");
}

/* ---- Budgets ---- */

static int budget(uint64_t million, uint64_t warm_ms, struct mvm_error *e)
{
    struct artifact_image img = ARTIFACT_IMAGE_INIT;
    char path[] = "/image";
    img.path = path;
    img.metadata.boot_budget_minstr = million;
    img.metadata.boot_budget_warm_ms = warm_ms;
    *e = (struct mvm_error)MVM_ERROR_INIT;
    return boot_budget_check(&img, &home, &progress, e);
}

static void test_budget(void)
{
    struct mvm_error e;
    begin();
    ok(budget(0, 0, &e) == 0 && played.starts == 0 && !noted[0], "an image without a budget is not started");
    played.million = 50;
    ok(budget(50, 0, &e) == 0 && strstr(noted, "50.0 million instructions, within its budget of 50"), "%s", noted);
    ok(budget(49, 0, &e) == -ERANGE && e.phase == MVM_PHASE_BOOT_BUDGET && strstr(e.msg, "1.0 more than") &&
           strstr(e.detail, "40.00  kernel") && strstr(e.detail, "9.00    slow_init"),
       "a boot over its budget is refused with its costs: %s", e.msg);
    begin();
    static const double ms[] = {500, 90, 10, 95, 80, 99};
    memcpy(played.ready_ms, ms, sizeof(ms));
    ok(budget(0, 90, &e) == 0 && played.starts == 6 && played.stops == 6 && strstr(noted, "90.0 ms, within"),
       "of warm starts the median counts, and the first not: %s", noted);
    begin();
    memcpy(played.ready_ms, ms, sizeof(ms));
    ok(budget(0, 89, &e) == -ERANGE && e.phase == MVM_PHASE_BOOT_BUDGET && strstr(e.msg, "90.0 ms"), "%s", e.msg);
    begin();
    played.cold = true;
    ok(budget(0, 89, &e) == -EIO && played.starts == 2 && strstr(e.msg, "it was asked for"),
       "a VM that was not restored is no warm start: %s", e.msg);
    begin();
    played.results[0] = -ECHILD;
    ok(budget(0, 89, &e) == -ECHILD && e.phase == MVM_PHASE_RUNTIME_BACKEND,
       "an image that does not start is not judged");
}

int main(void)
{
    const char *folder = tap_folder();
    CLEAN_FREE char *state = path_join(folder, "state", NULL), *cache = path_join(folder, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    unsetenv("MVM_STORE_CAP");
    if (home_open(&home, NULL) < 0)
        abort();
    test_boot();
    test_lasting();
    test_session();
    test_budget();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
