#include "builder/build.h"
#include "base/clock.h"
#include "bootstrap/source.h"
#include "builder/boot_budget.h"
#include "builder/builder_session.h"
#include "builder/job.h"
#include "builder/persistent.h"
#include "cache/config.h"
#include "cache/fingerprint.h"
#include "cache/lock.h"
#include "cache/records.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "machine/explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECIPE_VERSION "1" /* raised when this program builds the same inputs differently */

/* What is to be built, in full. */
struct plan {
    struct flake_ref ref;
    struct flake_tree tree;
    bool has_tree;
    struct flake_inputs inputs;
    char system[64];
    char attr[512];
    char fingerprint[SHA256_HEX_SIZE];
    bool verify; /* an image is read before it is taken from the cache */
};

static void plan_done(struct plan *plan)
{
    if (plan->has_tree)
        flake_tree_done(&plan->tree);
    flake_inputs_done(&plan->inputs);
    flake_ref_done(&plan->ref);
}

/* Characters of an attribute path outside of quotes. */
static bool has_unquoted(const char *name, const char *set)
{
    bool quoted = false;
    for (; *name; name++) {
        if (*name == '"')
            quoted = !quoted;
        else if (!quoted && strchr(set, *name))
            return true;
    }
    return false;
}

static bool is_path(const char *name)
{
    return has_unquoted(name, ".");
}

static bool is_attribute(const char *name)
{
    size_t quotes = 0;
    for (const char *s = name; (s = strchr(s, '"')); s++)
        quotes++;
    return quotes % 2 == 0 && !strpbrk(name, "\t\n^") && !has_unquoted(name, "#?");
}

/* Like Nix: a name alone is a package, a path with dots is the whole attribute. */
static int plan_attr(struct plan *plan, const struct build_opts *o, struct mvm_error *err)
{
    snprintf(plan->system, sizeof(plan->system), "%s", o->system ? o->system : "");
    if (!o->system)
        snprintf(plan->system, sizeof(plan->system), "%.32s-linux", os_arch());
    const char *name = o->attr ? o->attr : o->profile ? o->profile : plan->ref.attr ? plan->ref.attr : "default";
    int n;
    if (is_path(name) && name != o->profile)
        n = snprintf(plan->attr, sizeof(plan->attr), "%s", name);
    else
        n = snprintf(plan->attr, sizeof(plan->attr), "packages.%s.%s", plan->system, name);
    if ((size_t)n >= sizeof(plan->attr) || !is_attribute(name))
        return mvm_error_set(err, -EINVAL, "attribute '%.60s': not an attribute path", name);
    return 0;
}

static int plan_load_ref(struct plan *plan, const struct build_opts *o, struct mvm_error *err)
{
    plan->verify = o->verify;
    int r = flake_ref_parse(&plan->ref, o->ref ? o->ref : ".", err);
    return r < 0 ? r : plan_attr(plan, o, err);
}

/* Of the configuration's, what is not there is no matter: it speaks for all flakes. */
int build_load_allowed(struct flake_allow *a, char *const *v, size_t n, struct home *h, struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    int r = config_load(&c, h, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = flake_allow_add(a, v[i], err);
    for (size_t i = 0; r == 0 && i < c.allow_inputs.n; i++)
        (void)!flake_allow_add(a, c.allow_inputs.v[i], NULL);
    return r;
}

/* Every input: the tree (and local inputs of the lock file), attribute, system, the builder with our library, options.
 */
static int plan_load(struct plan *plan, const struct build_opts *o, struct home *h, struct mvm_error *err)
{
    int r = plan_load_ref(plan, o, err);
    if (r == 0)
        r = build_load_allowed(&plan->ref.allow, o->allow, o->n_allow, h, err);
    if (r == 0)
        r = flake_ref_check_out(&plan->ref, h, err);
    if (r == 0 && plan->ref.root) {
        r = flake_tree_load(&plan->tree, &plan->ref, h, err);
        plan->has_tree = r == 0;
        if (r == 0)
            r = flake_inputs_load(&plan->inputs, &plan->ref, h, err);
    }
    char builder[SHA256_HEX_SIZE];
    if (r == 0)
        r = source_current(h, builder, err);
    if (r < 0)
        return r;
    struct fingerprint f;
    fingerprint_init(&f, "mvm build " RECIPE_VERSION);
    fingerprint_add_string(&f, "builder", builder);
    fingerprint_add_string(&f, "system", plan->system);
    fingerprint_add_string(&f, "attr", plan->attr);
    fingerprint_add_string(&f, "write-lock", o->write_lock ? "1" : "0");
    if (plan->has_tree) {
        fingerprint_add_string(&f, "subdir", plan->ref.subdir);
        flake_tree_fingerprint(&plan->tree, &f);
        for (size_t i = 0; i < plan->inputs.n; i++) {
            fingerprint_add_string(&f, "input", plan->inputs.v[i].path);
            flake_tree_fingerprint(&plan->inputs.v[i].tree, &f);
        }
    } else {
        fingerprint_add_string(&f, "remote", plan->ref.remote);
    }
    fingerprint_final(&f, plan->fingerprint);
    return 0;
}

/* A remote reference may move; it is judged anew unless it is pinned to a revision. */
static bool is_pinned(const struct flake_ref *f)
{
    return !f->remote || strstr(f->remote, "rev=") || strstr(f->remote, "narHash=");
}

/* 1 with the image open, 0 where it has to be built; an error where neither can be said. */
static int find_cached(struct plan *plan, struct home *h, struct progress *p, struct build_result *ret,
                       struct mvm_error *err)
{
    struct build_record rec;
    bool damaged = false;
    int r = build_record_load(h, plan->fingerprint, &rec, &damaged, err);
    if (damaged)
        progress_note(p, "a damaged build record was dropped; building again");
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    struct mvm_error why = MVM_ERROR_INIT;
    r = plan->verify ? artifact_image_read(h, rec.image, true, &why) : 0;
    if (r == 0)
        r = artifact_image_open(&ret->image, h, rec.image, &why);
    if (r == -EBADMSG || r == -ENOENT || r == -EINVAL) {
        progress_note(p, "the cached image was dropped: %s; building again", why.msg);
        build_record_remove(h, plan->fingerprint);
        return 0;
    }
    if (r < 0) {
        *err = why;
        return r;
    }
    snprintf(ret->store_path, sizeof(ret->store_path), "%s", rec.store_path);
    /* `up --flake` means what was built last, found in the cache or not. */
    snprintf(rec.ref, sizeof(rec.ref), "%s", plan->ref.id);
    snprintf(rec.attr, sizeof(rec.attr), "%s", plan->attr);
    r = build_record_point(h, &rec, err);
    return r < 0 ? r : 1;
}

/* Nothing is recorded of an image whose start costs more than it may. */
static int judge_budget(const char *digest, struct home *h, struct progress *p, struct mvm_error *err)
{
    CLEAN_ARTIFACT_IMAGE struct artifact_image image = ARTIFACT_IMAGE_INIT;
    int r = artifact_image_open(&image, h, digest, err);
    return r < 0 ? r : boot_budget_check(&image, h, p, err);
}

static int keep(struct plan *plan, struct home *h, struct artifact_stage *stage, struct job_result *job,
                const struct build_opts *o, struct progress *p, struct build_result *ret, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE];
    int r = artifact_stage_commit(stage, h, &job->manifest, digest, err);
    if (r == 0)
        r = judge_budget(digest, h, p, err);
    if (r < 0)
        return r;
    bool lock_changed = job->lock.len && plan->ref.root && o->write_lock;
    if (lock_changed) {
        r = flake_write_lock(&plan->ref, job->lock.data, job->lock.len, err);
        if (r < 0)
            return r;
    }
    struct build_record rec = {.built_at = clock_wall()};
    snprintf(rec.image, sizeof(rec.image), "%s", digest);
    snprintf(rec.store_path, sizeof(rec.store_path), "%s", job->store_path);
    snprintf(rec.ref, sizeof(rec.ref), "%s", plan->ref.id);
    snprintf(rec.attr, sizeof(rec.attr), "%s", plan->attr);
    /* A new lock file is an input of the next build: the record has to stand under what that one will compute. */
    if (lock_changed) {
        struct plan again = {0};
        r = plan_load(&again, o, h, err);
        if (r == 0)
            memcpy(plan->fingerprint, again.fingerprint, sizeof(again.fingerprint));
        plan_done(&again);
        if (r < 0)
            return r;
    }
    snprintf(rec.fingerprint, sizeof(rec.fingerprint), "%s", plan->fingerprint);
    r = build_record_save(h, &rec, err);
    return r < 0 ? r : artifact_image_open(&ret->image, h, digest, err);
}

static int open_session(struct builder_session *s, struct builder_vm_opts *so, bool verify, struct home *h,
                        struct progress *p, struct builder_image_report *report, struct mvm_error *err)
{
    CLEAN_BUILDERCACHE_IMAGE struct buildercache_image image = BUILDERCACHE_IMAGE_INIT;
    int r = builder_image_ensure(h, verify, p, report, &image, err);
    if (r < 0)
        return r;
    so->image = image.path;
    so->image_digest = image.digest;
    r = builder_session_start(s, h, so, p, err);
    if (r == 0)
        buildercache_booted(h);
    return r;
}

static int start_builder(struct builder_session *s, const struct build_opts *o, struct home *h, struct progress *p,
                         struct build_result *ret, struct mvm_error *err)
{
    struct builder_vm_opts so = {
        .single_shot = o->single_shot, .memory_mib = o->builder_memory_mib, .vcpus = o->builder_vcpus};
    int r = open_session(s, &so, o->verify, h, p, &ret->builder, err);
    ret->persistent = s->persistent;
    snprintf(ret->fallback_reason, sizeof(ret->fallback_reason), "%s", s->fallback_reason);
    return r;
}

int build_open_persistent(struct home *h, struct progress *p, struct builder_session *s, struct mvm_error *err)
{
    struct builder_vm_opts so = {0};
    int r = open_session(s, &so, false, h, p, NULL, err);
    if (r == 0 && !s->persistent) {
        mvm_error_set(err, -ENOTSUP, "there is no persistent builder: %s",
                      s->fallback_reason[0] ? s->fallback_reason : "config.toml turns it off");
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        r = -ENOTSUP;
    }
    return r;
}

/* Always said: what leaves the flake's tree for the builder, where fetching could carry it on. */
static void say_outside(const struct plan *plan, struct progress *p)
{
    for (size_t i = 0; i < plan->inputs.n; i++) {
        const struct flake_input *in = &plan->inputs.v[i];
        if (in->outside)
            progress_note(p, "staged from outside of the flake: %s (%zu file%s, %.1f MB)", in->path, in->tree.n_files,
                          in->tree.n_files == 1 ? "" : "s", (double)in->tree.bytes / 1e6);
    }
}

/* Before the job brings them: they go also where this process is killed. */
static int end_with_secrets(struct builder_session *s, const struct nix_settings *settings, struct progress *p,
                            struct mvm_error *err)
{
    if (!settings->secret || !s->persistent)
        return 0;
    progress_verbose(p, "the builder stops when no client uses it any more, for this build has access tokens");
    return persistent_end_unused(&s->vm, err);
}

/* The job, in a session that runs. */
static int build_in(struct builder_session *s, struct plan *plan, const struct build_opts *o,
                    const struct nix_settings *settings, struct home *h, struct progress *p, struct build_result *ret,
                    struct mvm_error *err)
{
    CLEAN_ARTIFACT_STAGE struct artifact_stage stage = ARTIFACT_STAGE_INIT;
    CLEAN_BUILDLOG struct buildlog log = BUILDLOG_INIT;
    int r = buildlog_open(&log, h, plan->ref.id, plan->attr, plan->fingerprint, p, err);
    if (r == 0)
        r = artifact_stage_open(&stage, h, err);
    if (r == 0)
        r = end_with_secrets(s, settings, p, err);
    if (r < 0)
        return r;
    const struct job_opts jo = {
        .ref = &plan->ref,
        .tree = plan->has_tree ? &plan->tree : NULL,
        .inputs = &plan->inputs,
        .attr = plan->attr,
        .system = plan->system,
        .offline = o->offline,
        .settings = settings,
        .max_jobs = o->max_jobs ? o->max_jobs : (unsigned)settings->jobs,
        .stage_fd = stage.fd,
        .log = &log,
    };
    CLEANUP(job_result_done) struct job_result job = {0};
    r = job_run(s, &jo, p, &job, err);
    if (r == 0)
        r = flake_inputs_check(&plan->inputs, job.lock.data, job.lock.len, err);
    buildlog_finish(&log, h, r < 0 ? err : NULL);
    if (r < 0)
        return r;
    progress_phase(p, "cache");
    r = keep(plan, h, &stage, &job, o, p, ret, err);
    snprintf(ret->store_path, sizeof(ret->store_path), "%s", job.store_path);
    return r;
}

/* *vanished: it failed because the builder ended and nobody had asked for that. */
static int build_once(struct plan *plan, const struct build_opts *o, const struct nix_settings *settings,
                      struct home *h, struct progress *p, struct build_result *ret, bool *vanished,
                      struct mvm_error *err)
{
    CLEAN_BUILDER_SESSION struct builder_session s = BUILDER_SESSION_INIT;
    *vanished = false;
    int r = start_builder(&s, o, h, p, ret, err);
    if (r < 0)
        return r;
    /* Another mvmctl may have built the same while we waited for the store. */
    r = !o->force && is_pinned(&plan->ref) ? find_cached(plan, h, NULL, ret, err) : 0;
    if (r != 0)
        return MIN_OF(r, 0);
    say_outside(plan, p);
    r = build_in(&s, plan, o, settings, h, p, ret, err);
    *vanished = r == -EPIPE && explain_vanished(h, s.vm.name, client_peer(s.vm.client), err);
    if (r == 0 && !s.persistent)
        progress_phase(p, "builder-stop");
    return r;
}

/* A builder may be lost under a build: its VMM crashes, the host runs out of memory and kills it, its guest panics. The
 * flake is not to blame, and the next builder finds what the lost one had in its store. */
static int build_now(struct plan *plan, const struct build_opts *o, struct home *h, struct progress *p,
                     struct build_result *ret, struct mvm_error *err)
{
    CLEAN_NIX_SETTINGS struct nix_settings settings = {0};
    int r = nix_settings_load(&settings, h, err);
    if (r < 0)
        return r;
    bool vanished;
    struct mvm_error why = MVM_ERROR_INIT;
    r = build_once(plan, o, &settings, h, p, ret, &vanished, &why);
    if (r < 0 && vanished) {
        progress_note(p, "%s; building once more", why.msg);
        progress_verbose_lines(p, why.detail);
        return build_once(plan, o, &settings, h, p, ret, &vanished, err);
    }
    if (r < 0)
        *err = why;
    return r;
}

int build_run(const struct build_opts *o, struct home *h, struct progress *p, struct build_result *ret,
              struct mvm_error *err)
{
    CLEANUP(plan_done) struct plan plan = {0};
    progress_phase(p, "judge");
    int r = plan_load(&plan, o, h, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
        return r;
    }
    r = !o->force && is_pinned(&plan.ref) ? find_cached(&plan, h, p, ret, err) : 0;
    ret->cached = r == 1;
    if (r == 0)
        r = build_now(&plan, o, h, p, ret, err);
    progress_end(p);
    if (r < 0)
        return r;
    snprintf(ret->attr, sizeof(ret->attr), "%s", plan.attr);
    ret->ref = TAKE_PTR(plan.ref.id);
    return 0;
}

int build_find_last(const struct build_opts *o, struct home *h, struct artifact_image *ret, struct mvm_error *err)
{
    CLEANUP(plan_done) struct plan plan = {0};
    int r = plan_load_ref(&plan, o, err);
    if (r < 0)
        return r;
    struct build_record rec;
    bool damaged;
    uint64_t since = clock_now();
    r = build_record_last(h, plan.ref.id, plan.attr, &rec, &damaged, err);
    steps_add(o->steps, "image-lookup", since);
    if (r == -ENOENT && damaged)
        mvm_error_set(err, r, "the record of what was built from %s (%s) was damaged and is dropped", plan.ref.id,
                      plan.attr);
    else if (r == -ENOENT)
        mvm_error_set(err, r, "no image has been built from %s (%s)", plan.ref.id, plan.attr);
    since = clock_now();
    if (r == 0) {
        r = o->verify ? artifact_image_read(h, rec.image, true, err) : 0;
        if (r == 0)
            r = artifact_image_open(ret, h, rec.image, err);
        if (r < 0)
            mvm_error_wrap(err, "the image that was built from %s (%s)", plan.ref.id, plan.attr);
    }
    steps_add(o->steps, "digest-check", since);
    if (r == 0)
        return 0;
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    if (r == -ENOENT || r == -EBADMSG)
        mvm_error_hint(err, "mvmctl build --flake %s builds it; mvmctl run builds if needed, then boots", plan.ref.id);
    return r;
}

void build_result_done(struct build_result *r)
{
    artifact_image_done(&r->image);
    free(r->ref);
    r->ref = NULL;
}
