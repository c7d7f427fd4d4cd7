#include "buildlog/build_error.h"
#include "host/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NO_SLIM_KERNEL "the slim kernel has not been built" /* mkGuest says so */

/* "packages.x86_64-linux has: default, http" from the JSON list of names that the guest passes on. */
static void name_available(const struct build_error *o, struct mvm_error *err)
{
    const char *available = o->result->available;
    json_tokener *tok = json_tokener_new_ex(4);
    json_object *list = tok ? json_tokener_parse_ex(tok, available, (int)MIN_OF(strlen(available), 65536ul)) : NULL;
    CLEAN_BUF struct buf names = BUF_INIT(400);
    if (list && json_object_is_type(list, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(list); i++)
            if (buf_printf(&names, "%s%s", i ? ", " : "", json_object_get_string(json_object_array_get_idx(list, i))) <
                0)
                break;
        mvm_error_hint(err, "packages.%s has: %s", o->system, names.len ? buf_cstr(&names) : "nothing");
    }
    json_object_put(list);
    if (tok)
        json_tokener_free(tok);
}

/* ---- Failures that the guest told ---- */

static void explain_kind(const struct build_error *o, const char *kind, struct mvm_error *err)
{
    mvm_error_kind(err, kind, NULL);
    if (strcmp(kind, "disk-full") == 0 && !o->host_full)
        mvm_error_hint(err, "what could be collected is gone already: give the builder's store more room "
                            "(MVM_STORE_CAP=32G), or empty it (mvmctl dev cache prune --store)");
    else if (strcmp(kind, "disk-error") == 0 && !o->host_full)
        mvm_error_hint(err, "the next build checks the builder's disk, and makes it anew where it is beyond repair");
    else if (strcmp(kind, "out-of-memory") == 0)
        mvm_error_hint(err, "let it use less at once, such as fewer compilers side by side; other builds go on");
    else if (strcmp(kind, "too-many-processes") == 0)
        mvm_error_hint(err, "something in it starts processes without end; other builds go on");
    else if (strcmp(kind, "attribute") == 0 && o->result->available)
        name_available(o, err);
}

/* ---- Failures that Nix's log tells ---- */

static void explain_fetch(const struct build_error *o, const struct nix_errors *f, struct mvm_error *err)
{
    const char *what = f->url[0] ? f->url : "what it needs";
    if (f->derivation[0])
        mvm_error_set(err, -ECHILD, "%s cannot be fetched for %s: %s", what, f->names[0], f->why);
    else
        mvm_error_set(err, -ECHILD, "%s cannot be fetched: %s", what, f->why);
    mvm_error_kind(err, "fetch", f->derivation);
    if (o->offline)
        mvm_error_hint(err, "--offline lets nothing be fetched; build once without it");
    else
        mvm_error_hint(err, "check the URL, and that the builder has a network that leads there");
}

static void explain_hash(const struct nix_errors *f, struct mvm_error *err)
{
    bool input = !f->derivation[0];
    mvm_error_set(err, -ECHILD, "hash mismatch in %s%s: specified %s, got %s", input ? "the input " : "",
                  input ? f->url : f->names[0], f->specified, f->got);
    mvm_error_kind(err, "hash-mismatch", f->derivation);
    if (input)
        mvm_error_hint(
            err, "if the new content is right, let nix flake update write the lock file, or set narHash to %s", f->got);
    else
        mvm_error_hint(err, "if the new content is right, set the hash of %s in the flake to %s", f->names[0], f->got);
}

static void explain_builder(const struct nix_errors *f, struct mvm_error *err)
{
    char others[400] = "";
    for (unsigned i = 1; i < MIN_OF(f->n_failed, (unsigned)NIX_ERROR_NAMES); i++) {
        size_t n = strlen(others);
        snprintf(others + n, sizeof(others) - n, "%s%s", n ? ", " : "; also failed: ", f->names[i]);
    }
    mvm_error_set(err, -ECHILD, "the builder of %s %s%s", f->names[0], f->why, others);
    mvm_error_kind(err, "builder", f->derivation);
    mvm_error_hint(err, "its whole log: mvmctl build-log %s", f->names[0]);
}

/* What the result says is the least that is known: "evaluation of 'x' failed". */
static void explain_step(const struct build_error *o, const struct nix_errors *f, enum mvm_phase phase,
                         struct mvm_error *err)
{
    if (f->kind == NIX_ERROR_FETCH) {
        explain_fetch(o, f, err);
    } else if (f->kind == NIX_ERROR_HASH) {
        explain_hash(f, err);
    } else if (f->kind == NIX_ERROR_BUILDER) {
        explain_builder(f, err);
    } else {
        if (f->kind == NIX_ERROR_UNKNOWN)
            mvm_error_set(err, -ECHILD, "%s: %s", o->result->problem, f->why);
        mvm_error_kind(err, phase == MVM_PHASE_NIX_EVAL ? "eval" : "build", NULL);
    }
}

int build_error_explain(const struct build_error *o, struct mvm_error *err)
{
    const struct msg_result *m = o->result;
    enum mvm_phase phase = mvm_phase_parse(m->phase);
    if (phase == MVM_PHASE_NONE)
        phase = MVM_PHASE_NIX_BUILD;
    bool step = phase == MVM_PHASE_NIX_EVAL || phase == MVM_PHASE_NIX_BUILD;
    mvm_error_set(err, -ECHILD, "%s", m->problem[0] ? m->problem : "the job failed without a reason");
    if (m->kind[0])
        explain_kind(o, m->kind, err);
    else if (step)
        explain_step(o, &o->log->nix.failure, phase, err);
    err->phase = phase;
    if (o->host_full)
        mvm_error_hint(err, "the host's disk is full: make room on the file system of MVM_CACHE_DIR");
    if (step)
        mvm_error_detail(err, buf_cstr(&o->log->tail), o->log->tail.len);
    if (step && strstr(err->msg, NO_SLIM_KERNEL))
        mvm_error_hint(err, "tools/build-kernel in mvm's sources builds it, in some minutes; or leave kernel out");
    if (phase == MVM_PHASE_NIX_EVAL)
        mvm_error_hint(err, "check flake.nix, and --profile or --attr");
    else if (phase == MVM_PHASE_NIX_BUILD)
        mvm_error_hint(err, "mvmctl build-log shows the whole log");
    else if (phase == MVM_PHASE_ARTIFACT_EXTRACTION)
        mvm_error_hint(err, "an image's output has vmlinux and rootfs.ext4: mvm.lib.<system>.mkGuest makes one");
    else
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    return -ECHILD;
}
