#include "builder/builder_image.h"
#include "base/fd.h"
#include "base/path.h"
#include "bootstrap/stage0.h"
#include "builder/builder_session.h"
#include "builder/job.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "release/release_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SOURCE      "source" /* below the staging folder, while the image is built */
#define SOURCE_SEED "seed"   /* in it: the digest of the image whose packages are taken */

struct bootstrap {
    struct home *home;
    struct progress *progress;
    struct builder_image_report *report;
    struct install_paths install;
    struct source source;
    struct buildercache_want want;
};

static void bootstrap_done(struct bootstrap *b)
{
    install_paths_done(&b->install);
    source_done(&b->source);
}

static int bootstrap_init(struct bootstrap *b, struct home *h, struct progress *p, struct builder_image_report *report,
                          struct mvm_error *err)
{
    *b = (struct bootstrap){.home = h, .progress = p, .report = report};
    *report = (struct builder_image_report){.reason = CACHE_MISSING_ARTIFACT};
    int r = install_paths_find(&b->install, err);
    if (r == 0)
        r = source_load(&b->source, h, &b->install, err);
    if (r < 0)
        return r;
    source_fingerprint(&b->source, b->want.fingerprint);
    b->want.kind = report->kind = b->install.checkout ? "source-checkout" : "release";
    return 0;
}

/* ---- Building it inside a seed ---- */

/* The staged sources as a flake reference. Everything is borrowed but root. */
static int source_ref(const struct buildercache_stage *s, const char *cache, struct flake_ref *ref,
                      struct mvm_error *err)
{
    *ref = (struct flake_ref){
        .text = strdup("the builder image"),
        .root = path_join(cache, "builder-vm", s->name, SOURCE, NULL),
        .subdir = strdup(SOURCE_IMAGE),
    };
    return ref->text && ref->root && ref->subdir ? 0 : mvm_error_errno(err, -ENOMEM, "builder image");
}

/* What Nix cannot see, as the packages are no input: of another seed it is another derivation. */
static int name_seed(const struct seed *seed, int source, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE];
    int r = seed_digest(seed, digest, err);
    return r < 0 ? r : path_write_file(source, SOURCE_SEED, digest, strlen(digest), 0644, false, err);
}

static int run_job(struct bootstrap *b, const struct seed *seed, struct builder_session *session,
                   struct buildercache_stage *stage, struct mvm_error *err)
{
    /* The sandbox of this build sees the seed's packages: to hash them and to copy them into the store takes a third
     * of the time that making an image takes. */
    static char packages[] = "extra-sandbox-paths=/packages=/usr";
    char *options[] = {packages, NULL};
    const struct nix_settings settings = {.options = {.v = options, .n = 1}};
    CLEAN_FLAKE_REF struct flake_ref ref = {0};
    CLEAN_FLAKE_TREE struct flake_tree tree = {.root_fd = -1};
    CLEAN_BUILDLOG struct buildlog log = BUILDLOG_INIT;
    CLEANUP(job_result_done) struct job_result result = {0};
    struct flake_inputs none = {0};
    char system[64], attr[128];
    snprintf(system, sizeof(system), "%.32s-linux", os_arch());
    snprintf(attr, sizeof(attr), "packages.%s.default", system);
    CLEAN_FD int source = path_open_dir(stage->fd, SOURCE, err);
    int r = source < 0 ? source : source_copy(&b->source, source, err);
    if (r == 0)
        r = name_seed(seed, source, err);
    if (r == 0)
        r = source_ref(stage, b->home->cache, &ref, err);
    if (r == 0)
        r = flake_tree_load(&tree, &ref, b->home, err);
    if (r == 0)
        r = buildlog_open(&log, b->home, "builder image", attr, b->want.fingerprint, b->progress, err);
    const struct job_opts o = {
        .ref = &ref,
        .tree = &tree,
        .inputs = &none,
        .attr = attr,
        .system = system,
        .offline = true,
        .settings = &settings,
        .builder_image = true,
        .stage_fd = stage->fd,
        .log = &log,
    };
    if (r == 0)
        r = job_run(session, &o, b->progress, &result, err);
    buildlog_finish(&log, b->home, r < 0 ? err : NULL);
    if (r == 0)
        r = path_remove_tree(stage->fd, SOURCE);
    return r;
}

/* Builds the image in one seed. *started: the seed's VM got ready, so that a failure is the image's and not the
 * seed's. */
static int build_in(struct bootstrap *b, const struct seed *seed, const char *label, struct buildercache_stage *stage,
                    bool *started, struct mvm_error *err)
{
    CLEAN_BUILDER_SESSION struct builder_session session = BUILDER_SESSION_INIT;
    const struct builder_vm_opts o = {.image = seed->path, .image_digest = "", .single_shot = true};
    int r = builder_session_start(&session, b->home, &o, b->progress, err);
    *started = r == 0;
    if (r == 0)
        r = run_job(b, seed, &session, stage, err);
    if (r < 0)
        return r;
    progress_phase(b->progress, "builder-stop");
    builder_session_done(&session);
    progress_phase(b->progress, "builder-image");
    json_object *packages = seed_packages(seed, err);
    if (!packages)
        return -EIO;
    snprintf(b->report->seed, sizeof(b->report->seed), "%s", label);
    return buildercache_promote(stage, b->home, &b->want, label, packages, err);
}

static void pass_over(struct bootstrap *b, const char *label, const char *reason)
{
    struct builder_image_report *r = b->report;
    progress_verbose(b->progress, "stage 0 seed '%s': %s", label, reason);
    if (r->n_passed == ARRAY_SIZE(r->passed))
        return;
    snprintf(r->passed[r->n_passed].label, sizeof(r->passed[0].label), "%s", label);
    snprintf(r->passed[r->n_passed++].reason, sizeof(r->passed[0].reason), "%.*s", (int)sizeof(r->passed[0].reason) - 1,
             reason);
}

/* One candidate: 1 where the next one is to be tried, 0, -errno. */
static int try_seed(struct bootstrap *b, const char *folder, const char *label, struct buildercache_stage *stage,
                    struct mvm_error *err)
{
    CLEAN_SEED struct seed seed = SEED_INIT;
    struct mvm_error why = MVM_ERROR_INIT;
    bool started = false;
    if (seed_open(&seed, b->home, folder, &why) < 0) {
        pass_over(b, label, why.msg);
        return 1;
    }
    progress_verbose(b->progress, "stage 0 seed '%s': taken", label);
    int r = build_in(b, &seed, label, stage, &started, err);
    if (r == 0 || started || r == -EINTR || r == -ENOSPC || r == -ENOENT)
        return r;
    progress_verbose(b->progress, "%s", err->msg);
    pass_over(b, label, "does_not_boot");
    *err = (struct mvm_error)MVM_ERROR_INIT;
    return 1;
}

/* Why a published image is not used, in a word without names of this machine. mvmctl dev image verify says it all. */
static const char *refusal(int r)
{
    switch (-r) {
    case ENOENT:
        return "absent";
    case ENOKEY:
    case EKEYREJECTED:
        return "bad_signature";
    case EBADMSG:
    case EMSGSIZE:
    case ENODATA:
        return "other_files_than_signed";
    case ESTALE:
        return "older_than_one_used";
    case EINVAL:
        return "invalid";
    default:
        return "not_reached";
    }
}

/* The published dev image, where one is configured: as try_seed(). */
static int try_published(struct bootstrap *b, const struct seed_candidates *tried, struct buildercache_stage *stage,
                         struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    CLEAN_FREE char *path = NULL;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = config_load(&c, b->home, err);
    if (r < 0 || !c.dev_url)
        return r < 0 ? r : 1;
    r = release_fetch_seed(b->home, &c, b->progress, &path, &why);
    if (r == -EINTR)
        *err = why;
    if (r == -EINTR)
        return r;
    if (r < 0) {
        progress_note(b->progress, "the published dev image is not used (%s)", refusal(r));
        pass_over(b, "published", refusal(r));
        return 1;
    }
    const char *folder = path + strlen(b->home->state) + 1;
    for (size_t i = 0; i < tried->n; i++)
        if (strcmp(tried->v[i].folder, folder) == 0)
            return 1;
    return try_seed(b, folder, "published", stage, err);
}

/* An installed mvmctl may take the published builder image that is configured; a checkout builds its own. 1 where none
 * was taken. */
static int take_published(struct bootstrap *b, struct buildercache_stage *stage, struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = b->install.checkout ? 0 : config_load(&c, b->home, err);
    if (r < 0 || !c.builder_url)
        return r < 0 ? r : 1;
    r = release_fetch_builder(b->home, &c, stage->fd, b->progress, &why);
    if (r == -EINTR)
        *err = why;
    if (r == -EINTR)
        return r;
    if (r < 0) {
        progress_note(b->progress, "the published builder image is not used (%s)", refusal(r));
        pass_over(b, "published builder", refusal(r));
        return 1;
    }
    CLEAN_FREE char *path = path_join(b->home->cache, "builder-vm", stage->name, NULL);
    const struct seed image = {.dirfd = stage->fd, .path = path};
    json_object *packages = path ? seed_packages(&image, err) : NULL;
    if (!packages)
        return -EIO;
    snprintf(b->report->seed, sizeof(b->report->seed), "published builder");
    return buildercache_promote(stage, b->home, &b->want, b->report->seed, packages, err);
}

static int build_image(struct bootstrap *b, struct buildercache_stage *stage, struct mvm_error *err)
{
    struct seed_candidates c;
    int r = take_published(b, stage, err);
    if (r == 1)
        seed_list(&c, b->home);
    if (r != 1)
        return r;
    for (size_t i = 0; r == 1 && i < c.n; i++)
        r = try_seed(b, c.v[i].folder, c.v[i].label, stage, err);
    if (r == 1)
        r = try_published(b, &c, stage, err);
    if (r != 1)
        return r;
    r = stage0_assemble(b->home, &b->source, b->progress, err);
    if (r == 0)
        r = try_seed(b, "dev/current", "distribution packages", stage, err);
    return r == 1 ? mvm_error_set(err, -EIO, "no stage 0 image of this machine boots") : r;
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for the builder image that another process builds (%s)", holder);
}

static int ensure(struct bootstrap *b, bool verify, struct buildercache_image *ret, struct mvm_error *err)
{
    int r = buildercache_judge(b->home, &b->want, verify, &b->report->reason, ret, err);
    progress_verbose(b->progress, "builder cache (%s): %s", b->want.kind, cache_reason_name(b->report->reason));
    if (r < 0 || b->report->reason == CACHE_HIT)
        return r;
    CLEAN_BUILDERCACHE_STAGE struct buildercache_stage stage = BUILDERCACHE_STAGE_INIT;
    const struct lock_wait wait = {.waiting = say_waiting, .data = b->progress};
    enum cache_reason now;
    r = buildercache_stage_open(&stage, b->home, &wait, err);
    /* Another mvmctl may have built it while this one waited. */
    if (r == 0)
        r = buildercache_judge(b->home, &b->want, verify, &now, ret, err);
    if (r < 0 || now == CACHE_HIT)
        return r;
    /* A wrong setting is said before anything is fetched, and is no fault of a seed. */
    r = builder_session_check(b->home, err);
    if (r < 0)
        return r;
    if (now == CACHE_MISSING_ARTIFACT)
        progress_note(b->progress, "this machine has no builder yet: it is made now, which takes a minute or a few");
    else
        progress_note(b->progress, "the builder image is made anew (%s)", cache_reason_name(now));
    r = build_image(b, &stage, err);
    if (r == 0)
        r = buildercache_judge(b->home, &b->want, false, &now, ret, err);
    if (r == 0 && now != CACHE_HIT)
        r = mvm_error_set(err, -EIO, "the builder image was changed just now (%s)", cache_reason_name(now));
    return r;
}

int builder_image_ensure(struct home *h, bool verify, struct progress *p, struct builder_image_report *report,
                         struct buildercache_image *ret, struct mvm_error *err)
{
    CLEANUP(bootstrap_done) struct bootstrap b = {0};
    struct builder_image_report unwanted;
    int r = bootstrap_init(&b, h, p, report ? report : &unwanted, err);
    if (r == 0)
        r = ensure(&b, verify, ret, err);
    if (r < 0) {
        /* Whatever failed inside: for the user, there is no builder. A wrong setting is theirs to mend. */
        if (err->phase != MVM_PHASE_CONFIG)
            err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
        mvm_error_hint(err, "mvmctl doctor checks what a build needs; mvmctl dev status shows the builder's cache");
    }
    return r;
}

int builder_image_judge(struct home *h, bool verify, struct builder_image_report *ret, struct mvm_error *err)
{
    CLEANUP(bootstrap_done) struct bootstrap b = {0};
    int r = bootstrap_init(&b, h, NULL, ret, err);
    return r < 0 ? r : buildercache_judge(h, &b.want, verify, &ret->reason, NULL, err);
}

json_object *builder_image_report_json(const struct builder_image_report *r)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "kind", r->kind);
    json_add_bool(o, "ready", r->reason == CACHE_HIT);
    json_add_string(o, "reason", cache_reason_name(r->reason));
    if (!r->seed[0])
        return o;
    json_object *passed = json_object_new_array();
    for (size_t i = 0; i < r->n_passed; i++) {
        json_object *entry = json_object_new_object();
        json_add_string(entry, "seed", r->passed[i].label);
        json_add_string(entry, "reason", r->passed[i].reason);
        json_object_array_add(passed, entry);
    }
    json_add_string(o, "seed", r->seed);
    json_add(o, "passed_over", passed);
    return o;
}
