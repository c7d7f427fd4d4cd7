/* The builder's caches seen from outside: labels and sizes only, no paths, names or digests of this machine. */
#include "base/fd.h"
#include "base/path.h"
#include "bootstrap/stage0.h"
#include "builder/builder_image.h"
#include "builder/store_disk.h"
#include "cache/artifacts.h"
#include "cache/config.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "machine/machine.h"
#include "machine/snapshot.h"
#include "machine/verify.h"
#include "release/release_fetch.h"
#include "vmdir/boot_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA_VERSION 1

/* ---- What there is ---- */

struct inspection {
    struct builder_image_report report;
    struct buildercache_leftovers left;
    struct store_disk_info store;
    struct {
        char label[64], state[64]; /* "valid", or why not */
    } seeds[SEED_MAX_CANDIDATES];
    size_t n_seeds;
};

static int inspect(struct home *h, bool verify, struct inspection *ret, struct mvm_error *err)
{
    CLEAN_CONFIG struct config config = CONFIG_INIT;
    int r = builder_image_judge(h, verify, &ret->report, err);
    if (r == 0)
        r = buildercache_leftovers(h, &ret->left, err);
    uint64_t cap;
    if (r == 0)
        r = config_load(&config, h, err);
    if (r == 0)
        r = store_disk_cap(config.store_size, &cap, err);
    return r < 0 ? r : store_disk_inspect(h, cap, &ret->store, err);
}

static void inspect_seeds(struct home *h, struct inspection *ret)
{
    struct seed_candidates c;
    seed_list(&c, h);
    ret->n_seeds = c.n;
    for (size_t i = 0; i < c.n; i++) {
        CLEAN_SEED struct seed seed = SEED_INIT;
        struct mvm_error why = MVM_ERROR_INIT;
        bool valid = seed_open(&seed, h, c.v[i].folder, &why) == 0;
        snprintf(ret->seeds[i].label, sizeof(ret->seeds[i].label), "%s", c.v[i].label);
        snprintf(ret->seeds[i].state, sizeof(ret->seeds[i].state), "%.60s", valid ? "valid" : why.msg);
    }
}

/* "running", "starting", "failed" ... or "absent". */
static const char *dev_vm_state(struct home *h, struct machine_info *info)
{
    return machine_inspect(h, "builder", info, NULL) == 0 ? info->state : "absent";
}

static json_object *cache_json(const struct inspection *in)
{
    json_object *o = builder_image_report_json(&in->report);
    json_add_bool(o, "building", in->left.building);
    json_add_bool(o, "previous_kept", in->left.previous);
    json_add_int(o, "stale_stages", in->left.stages);
    return o;
}

static json_object *store_json(const struct store_disk_info *s)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "state", !s->exists ? "absent" : s->in_use ? "in use" : s->clean ? "clean" : "to be checked");
    json_add_int(o, "allocated", (int64_t)s->allocated);
    json_add_int(o, "cap", (int64_t)s->cap);
    if (s->surveyed_at)
        json_add_int(o, "reclaimable", (int64_t)s->reclaimable);
    return o;
}

static void print_store(const struct store_disk_info *s)
{
    if (!s->exists) {
        ui_line("store          none yet");
        return;
    }
    ui_out("store          %.1f of %.1f GB%s", (double)s->allocated / 1e9, (double)s->cap / 1e9,
           s->in_use  ? ", in use"
           : s->clean ? ""
                      : ", to be checked before use");
    if (s->surveyed_at)
        ui_out(", %.1f GB needed by no image", (double)s->reclaimable / 1e9);
    ui_out("\n");
}

static json_object *snapshots_json(const struct boot_snapshot_usage *u)
{
    json_object *o = json_object_new_object();
    json_add_int(o, "images", u->images);
    json_add_int(o, "snapshots", u->snapshots);
    json_add_int(o, "unfinished", u->unfinished);
    json_add_int(o, "allocated", (int64_t)u->bytes);
    return o;
}

static json_object *seeds_json(const struct inspection *in)
{
    json_object *all = json_object_new_array();
    for (size_t i = 0; i < in->n_seeds; i++) {
        json_object *o = json_object_new_object();
        json_add_string(o, "image", in->seeds[i].label);
        json_add_string(o, "state", in->seeds[i].state);
        json_object_array_add(all, o);
    }
    return all;
}

/* {"images": {"good": 1, "damaged": 0, "unreadable": 0}, ...} */
static json_object *verified_json(const struct verify *v)
{
    static const char *const keys[] = {"images", "boot_snapshots", "snapshots"};
    _Static_assert(ARRAY_SIZE(keys) == VERIFY_COUNT, "every kind has a key");
    json_object *all = json_object_new_object();
    for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
        json_object *o = json_object_new_object();
        json_add_int(o, "good", v->tally[k].good);
        json_add_int(o, "damaged", v->tally[k].damaged);
        json_add_int(o, "unreadable", v->tally[k].unreadable);
        json_add(all, keys[k], o);
    }
    return all;
}

static void print_verified(const struct verify *v)
{
    for (int k = 0; k < VERIFY_COUNT; k++) {
        const struct verify_tally *t = &v->tally[k];
        ui_line("%-14s %ss: %u good, %u damaged, %u cannot be read now", k ? "" : "read",
                verify_kind_name((enum verify_kind)k), t->good, t->damaged, t->unreadable);
    }
}

static unsigned count_damaged(const struct verify *v)
{
    unsigned n = 0;
    for (int k = 0; k < VERIFY_COUNT; k++)
        n += v->tally[k].damaged;
    return n;
}

static int inspect_or_fail(struct args *a, struct inspection *in, struct home *h, struct mvm_error *err)
{
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "%s: unexpected argument", a->command->name);
    if (home_open(h, err) < 0 || inspect(h, arg_flag(a, "verify"), in, err) < 0)
        return ui_fail(err);
    return 0;
}

static void print_cache(const struct inspection *in)
{
    ui_line("builder cache  %s: %s (%s)", in->report.kind, in->report.reason == CACHE_HIT ? "ready" : "not ready",
            cache_reason_name(in->report.reason));
}

static int run_dev_status(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct inspection in = {0};
    struct machine_info info;
    int status = inspect_or_fail(a, &in, &h, &err);
    if (status)
        return status;
    const char *state = dev_vm_state(&h, &info);
    if (!ui.json) {
        ui_line("dev VM         %s", state);
        print_cache(&in);
        return 0;
    }
    json_object *o = json_object_new_object(), *vm = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA_VERSION);
    json_add_string(vm, "state", state);
    json_add(o, "dev_vm", vm);
    json_add(o, "builder_cache", cache_json(&in));
    ui_print_json(o);
    return 0;
}

static int run_dev_cache_inspect(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct inspection in = {0};
    int status = inspect_or_fail(a, &in, &h, &err);
    if (status)
        return status;
    inspect_seeds(&h, &in);
    struct boot_snapshot_usage snapshots;
    struct verify read = {0};
    bool verify = arg_flag(a, "verify");
    if (verify && verify_all(&read, &h, &err) < 0)
        return ui_fail(&err);
    boot_snapshot_survey(h.cache_fd, &snapshots);
    if (!ui.json) {
        print_cache(&in);
        print_store(&in.store);
        ui_line("snapshots      %u of %u images, %.1f MB", snapshots.snapshots, snapshots.images,
                (double)snapshots.bytes / 1e6);
        if (snapshots.unfinished)
            ui_line("               %u unfinished ones of processes that are gone: dev cache prune removes them",
                    snapshots.unfinished);
        if (in.left.building)
            ui_line("               an image is being built right now");
        if (in.left.previous)
            ui_line("               the image before is kept until this one has booted");
        if (in.left.stages)
            ui_line("               %u unfinished images of processes that are gone", in.left.stages);
        for (size_t i = 0; i < in.n_seeds; i++)
            ui_line("%-14s %s: %s", i ? "" : "dev images", in.seeds[i].label, in.seeds[i].state);
        if (verify)
            print_verified(&read);
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA_VERSION);
    json_add(o, "builder_cache", cache_json(&in));
    json_add(o, "dev_images", seeds_json(&in));
    json_add(o, "store", store_json(&in.store));
    json_add(o, "snapshots", snapshots_json(&snapshots));
    json_add(o, "verified", verify ? verified_json(&read) : NULL);
    ui_print_json(o);
    return 0;
}

/* ---- Cleaning ---- */

/* read: NULL where nothing was. */
static int report_clean(const char *status, const struct inspection *in, const struct verify *read)
{
    if (!ui.json) {
        print_cache(in);
        if (read)
            print_verified(read);
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA_VERSION);
    json_add_string(o, "status", status);
    json_add(o, "builder_cache", cache_json(in));
    if (read)
        json_add(o, "verified", verified_json(read));
    ui_print_json(o);
    return 0;
}

/* Dev images that are known to be no good, or, with all, every one. */
static int remove_seeds(struct home *h, bool all, struct mvm_error *err)
{
    struct seed_candidates c;
    seed_list(&c, h);
    for (size_t i = 0; i < c.n; i++) {
        CLEAN_SEED struct seed seed = SEED_INIT;
        int r = all ? -EINVAL : seed_open(&seed, h, c.v[i].folder, NULL);
        if (r != -EINVAL && r != -ENOENT) /* good, or cannot be read now */
            continue;
        r = path_remove_tree(h->state_fd, c.v[i].folder);
        if (r < 0)
            return mvm_error_errno(err, r, "cannot remove the dev image '%s'", c.v[i].label);
    }
    return 0;
}

/* What killed processes left unfinished; locks tell it from what is in the making. */
static int sweep(struct home *h, struct mvm_error *err)
{
    artifact_sweep(h);
    boot_snapshot_sweep(h->cache_fd);
    stage0_sweep(h);
    release_sweep(h);
    store_disk_sweep(h);
    path_sweep_temporary(h->state_fd);
    path_sweep_temporary(h->cache_fd);
    return snapshot_sweep(h, err);
}

static int run_dev_cache_prune(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct inspection in = {0};
    bool all = arg_flag(a, "all");
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "%s: unexpected argument", a->command->name);
    int r = home_open(&h, &err);
    if (r == 0)
        r = buildercache_clean(&h, all, &err);
    if (r == 0)
        r = sweep(&h, &err);
    if (r == 0)
        r = remove_seeds(&h, all, &err);
    if (r == 0 && arg_flag(a, "store"))
        r = store_disk_remove(&h, &err);
    /* The packages' archive is needed only to assemble a dev image. */
    if (r == 0 && (r = path_remove_tree(h.cache_fd, "stage0")) < 0)
        mvm_error_errno(&err, r, "cannot remove the packages");
    if (r == 0)
        r = inspect(&h, false, &in, &err);
    return r < 0 ? ui_fail(&err) : report_clean("ok", &in, NULL);
}

static int run_dev_cache_repair(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_BUILDERCACHE_IMAGE struct buildercache_image image = BUILDERCACHE_IMAGE_INIT;
    struct inspection in = {0};
    struct builder_image_report found;
    struct verify read = {.remove = true};
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "%s: unexpected argument", a->command->name);
    interrupt_install();
    int r = home_open(&h, &err);
    if (r == 0)
        r = buildercache_clean(&h, false, &err);
    if (r == 0)
        r = sweep(&h, &err);
    if (r == 0)
        r = remove_seeds(&h, false, &err);
    if (r == 0)
        r = verify_all(&read, &h, &err);
    if (r == 0)
        r = builder_image_ensure(&h, true, &p, &found, &image, &err);
    if (r == 0)
        r = inspect(&h, false, &in, &err);
    progress_end(&p);
    ui_clear();
    if (r < 0)
        return ui_fail(&err);
    bool whole = found.reason == CACHE_HIT && count_damaged(&read) == 0;
    return report_clean(whole ? "ok" : "repaired", &in, &read);
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_verify = {
    .name = "verify", .help = "read every byte of the builder image instead of trusting its files' timestamps"};

static const struct option_spec opt_all = {.name = "all", .help = "the builder image and the dev images too"};

static const struct option_spec opt_store = {.name = "store", .help = "the builder's store too"};

#define VERIFIED_JSON                                                                                                  \
    "verified: with --verify and of repair, an object of images, boot_snapshots and snapshots: each has "              \
    "good, damaged and unreadable (how many)\n"

#define CACHE_JSON                                                                                                     \
    "schema_version: 1\n"                                                                                              \
    "builder_cache: an object with kind (source-checkout, release), ready, reason (" REASONS                           \
    "), building, previous_kept, stale_stages\n"

const struct command cmd_dev_status = {
    .name = "dev status",
    .synopsis = "[OPTION]...",
    .summary = "show the builder's state",
    .text = "Shows the dev VM's state, and whether the builder image in the cache is fresh, with the reason code "
            "of the verdict. Nothing is built or changed.",
    .options = OPTIONS(&opt_verify, &opt_json),
    .json = CACHE_JSON "dev_vm: an object with state\n",
    .run = run_dev_status,
};

const struct command cmd_dev_cache_inspect = {
    .name = "dev cache inspect",
    .synopsis = "[OPTION]...",
    .summary = "show the builder's caches",
    .text = "Shows the verdict on the builder image as dev status does, what else lies in its cache, and which "
            "dev images there are. With --verify every byte of the builder image, of built images and of "
            "snapshots is read.",
    .options = OPTIONS(&opt_verify_all, &opt_json),
    .json = CACHE_JSON
    "dev_images: a list of objects with image (its label) and state (valid, absent, invalid_kernel, "
    "invalid_rootfs, no_host_vm_init, no_package_list)\n"
    "store: an object with state (absent, clean, in use, to be checked), allocated and cap in bytes, and "
    "reclaimable (bytes of what no cached image needs, once that is known)\n"
    "snapshots: an object with images (that have snapshots of their first boots), snapshots (how many), "
    "unfinished (how many killed processes left), allocated (bytes)\n" VERIFIED_JSON,
    .run = run_dev_cache_inspect,
};

const struct command cmd_dev_cache_prune = {
    .name = "dev cache prune",
    .synopsis = "[OPTION]...",
    .summary = "remove what the next build does not need",
    .text = "Removes unfinished images and snapshots that killed processes left, dev images that are no good, "
            "and the archive of packages. With --all also the builder image and every dev image: the next build "
            "begins from nothing. With --store also the disk of the builder's store: the next build fetches and "
            "builds everything again.",
    .options = OPTIONS(&opt_all, &opt_store, &opt_json),
    .json = "status: ok\n" CACHE_JSON,
    .run = run_dev_cache_prune,
};

const struct command cmd_dev_cache_repair = {
    .name = "dev cache repair",
    .synopsis = "[OPTION]...",
    .summary = "make the builder image whole",
    .text = "Reads every byte of the builder image, of built images and of snapshots, removes what is damaged or "
            "unfinished, and builds the builder image anew where it is not fresh. Built images are built again "
            "when they are asked for; a damaged snapshot that a user made is told of and kept.",
    .options = OPTIONS(&opt_json, &opt_verbose),
    .json =
        "status: ok, or repaired where the image was built anew or something was removed\n" CACHE_JSON VERIFIED_JSON,
    .run = run_dev_cache_repair,
};
