#include "builder/job.h"
#include "base/fd.h"
#include "base/name_table.h"
#include "base/path.h"
#include "buildlog/build_error.h"
#include "flake/store.h"
#include "host/sha256.h"
#include "wire/msg_build.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOCK_NAME     "flake.lock"
#define MAX_LOCK      (4u << 20)
#define MAX_ARTIFACTS (16ull << 30)  /* bytes of content */
#define MAX_FILE      (256ull << 30) /* a root file system's size, holes included */
#define DIGEST_ZEROS  (256u * 1024)

/* The receiving side: artifacts are digested while they arrive. */
struct job {
    const struct job_opts *o;
    struct progress *p;
    struct job_result *ret;
    struct client *client;
    const struct registry *flakes;
    struct local_kernels *known;
    uint32_t stream;
    struct tree_receiver tree;
    struct sha256 sha;
    uint64_t received;
    bool done;
    struct msg_result result;
    struct msg_offer offer;
    struct msg_want want;
    struct flake_store store;
};

/* ---- Artifacts ---- */

static void on_content(void *data, const char *path, const void *p, uint64_t n)
{
    struct job *j = data;
    if (p) {
        sha256_update(&j->sha, p, n);
        j->received += n;
        return;
    }
    static const uint8_t zeros[DIGEST_ZEROS];
    for (; n; n -= MIN_OF(n, (uint64_t)sizeof(zeros)))
        sha256_update(&j->sha, zeros, MIN_OF(n, (uint64_t)sizeof(zeros)));
}

static void note_artifact(struct job *j, const char *path, uint64_t size, const char *sha256)
{
    int a = artifact_parse(path);
    if (a < 0)
        return;
    struct artifact_info *info = &j->ret->manifest.artifacts[a];
    info->present = true;
    info->size = size;
    memcpy(info->sha256, sha256, sizeof(info->sha256));
    progress_detail(j->p, "%s, %.1f MB", path, (double)size / 1e6);
}

static void on_file_done(void *data, const char *path, uint64_t size)
{
    struct job *j = data;
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256_final(&j->sha, digest);
    sha256_hex(digest, hex);
    note_artifact(j, path, size, hex);
}

/* What the host has itself comes without its content. */
static int take_known(void *data, const uint8_t *key, int parent, const char *name)
{
    struct job *j = data;
    const struct local_kernel *f;
    int r = local_kernels_take(j->known, key, parent, name, &f);
    if (r == 0)
        note_artifact(j, name, f->size, f->sha256);
    return r;
}

/* Only the names an image is made of are taken, and each is a plain file. */
static int check_entry(const struct job *j, const struct msg_entry *e, struct mvm_error *err)
{
    bool known = artifact_parse(e->path) >= 0 || strcmp(e->path, LOCK_NAME) == 0 ||
                 (j->o->builder_image && strcmp(e->path, BUILD_MANIFEST) == 0);
    if (e->kind == ENTRY_FILE && known)
        return 0;
    mvm_error_set(err, -EPROTO, "the builder sent '%.100s', which is no artifact", e->path);
    return -EPROTO;
}

/* ---- Sending the flake ---- */

static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    struct job *j = data;
    return client_send(j->client, j->stream, channel, p, n);
}

/* ---- What the builder has already ---- */

static int on_event(struct job *j, const struct client_event *e, struct mvm_error *err);

/* Waits for the answer to the offer; a job that waits for its turn is not asked before. */
static int receive_want(struct job *j, struct mvm_error *err)
{
    j->want.len = 0;
    for (;;) {
        struct client_event e;
        while (client_next(j->client, &e)) {
            int r = e.stream == j->stream ? on_event(j, &e, err) : 0;
            if (r < 0)
                return r;
            if (j->done)
                return -EPIPE; /* it failed: the result says why */
            if (j->want.len) {
                client_event_done(j->client);
                return 0;
            }
        }
        int r = client_poll(j->client, NULL, 0, 0, err);
        if (r < 0)
            return r;
    }
}

static int exchange(struct job *j, struct flake_file **offered, size_t n, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = n ? msg_offer_encode(&b, &j->offer) : 0;
    if (r == 0 && n)
        r = client_send(j->client, j->stream, CHAN_MSG, b.data, b.len);
    if (r == 0 && n)
        r = receive_want(j, err);
    if (r == 0 && n && j->want.len != n)
        r = mvm_error_set(err, -EPROTO, "the builder's answer does not fit what was offered");
    for (size_t i = 0; r == 0 && i < n; i++)
        offered[i]->kept = !j->want.wanted[i];
    j->offer.len = 0;
    return r;
}

/* Tells the builder the keys of a tree's files, and notes which of them it has. */
static int offer_tree(struct job *j, struct flake_tree *t, struct mvm_error *err)
{
    struct flake_file *offered[OFFER_MAX];
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < t->n_files; i++) {
        if (!flake_file_key(t, &t->files[i], j->offer.keys + n * TREE_KEY_SIZE))
            continue;
        offered[n++] = &t->files[i];
        j->offer.len = n * TREE_KEY_SIZE;
        if (n == OFFER_MAX) {
            r = exchange(j, offered, n, err);
            n = 0;
        }
    }
    return r < 0 ? r : exchange(j, offered, n, err);
}

static int offer_all(struct job *j, struct mvm_error *err)
{
    int r = offer_tree(j, j->o->tree, err);
    for (size_t i = 0; r == 0 && i < j->o->inputs->n; i++)
        r = offer_tree(j, &j->o->inputs->v[i].tree, err);
    return r;
}

static int send_tree(struct job *j, struct mvm_error *err)
{
    if (!j->o->tree) {
        client_close(j->client, j->stream);
        return 0;
    }
    int r = offer_all(j, err);
    if (r < 0)
        return r;
    size_t n_new = 0;
    for (size_t i = 0; i < j->o->tree->n_files; i++)
        n_new += !j->o->tree->files[i].kept;
    progress_detail(j->p, "%zu files, %.1f MB, %zu new to the builder", j->o->tree->n_files,
                    (double)j->o->tree->bytes / 1e6, n_new);
    struct tree_sender s = {.emit = emit, .data = j, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    r = flake_tree_send(j->o->tree, BUILD_SOURCE, NULL, &s, err);
    if (r == 0)
        r = flake_tree_send_lock(j->o->tree, BUILD_LOCK, j->flakes, &s, err);
    for (size_t i = 0; r == 0 && i < j->o->inputs->n; i++) {
        char into[32];
        snprintf(into, sizeof(into), BUILD_INPUT "%zu", i);
        r = flake_tree_send(&j->o->inputs->v[i].tree, into, j->flakes, &s, err);
    }
    if (r == 0)
        r = tree_send_end(&s, err);
    tree_sender_done(&s);
    if (r == 0)
        client_close(j->client, j->stream);
    return r;
}

static int open_job(struct job *j, struct mvm_error *err)
{
    CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
    const struct flake_ref *f = j->o->ref;
    char *inputs[FLAKE_MAX_INPUTS], *known[LOCAL_KERNELS_MAX];
    for (size_t i = 0; i < j->o->inputs->n; i++)
        inputs[i] = j->o->inputs->v[i].path;
    uint64_t rev_count = 0;
    int r = j->o->tree ? flake_tree_rev_count(j->o->tree, f, &rev_count, err) : 0;
    if (r < 0)
        return r;
    /* Encoding borrows: the struct's pointers are not changed. */
    struct msg_build b = {
        .remote = f->remote,
        .subdir = f->subdir,
        .attr = (char *)(uintptr_t)j->o->attr,
        .system = (char *)(uintptr_t)j->o->system,
        .offline = j->o->offline,
        .manifest = j->o->builder_image,
        .options = j->o->settings ? j->o->settings->options : (struct msg_strings){0},
        .env = j->o->settings ? j->o->settings->env : (struct msg_strings){0},
        .last_modified = j->o->tree ? j->o->tree->last_modified : 0,
        .rev = j->o->tree && j->o->tree->rev[0] ? j->o->tree->rev : NULL,
        .rev_count = rev_count,
        .inputs = {.v = inputs, .n = j->o->inputs->n},
        .max_jobs = j->o->max_jobs,
        .known = local_kernels_digests(j->known, known),
    };
    if (j->o->tree && flake_tree_is_large(j->o->tree)) {
        r = flake_tree_store(j->o->tree, &j->store, err);
        b.store_name = j->store.name;
        b.nar_hash = j->store.hash;
        b.nar_hex = j->store.hex;
        b.nar_size = j->store.size;
    }
    if (r == 0)
        r = msg_build_encode(&m, &b);
    if (r < 0)
        r = mvm_error_code(err) ? r : mvm_error_errno(err, r, "cannot describe the job");
    else
        r = client_open(j->client, &m, &j->stream, err);
    if (m.data)
        explicit_bzero(m.data, m.cap); /* it may have secrets */
    return r;
}

/* ---- The outcome ---- */

static int job_failed(struct job *j, struct mvm_error *err)
{
    const struct build_error o = {
        .result = &j->result,
        .log = j->o->log,
        .system = j->o->system,
        .offline = j->o->offline,
        .host_full = store_disk_host_full(j->o->stage_fd),
    };
    return build_error_explain(&o, err);
}

/* Names come from the guest: others than these are nothing that it should say. */
static int on_phase(struct job *j, const struct msg_phase *m)
{
    static const char *const names[] = {"queue", "stage", "eval", "build", "extract"};
    size_t i = name_find(names, ARRAY_SIZE(names), m->name);
    if (i == ARRAY_SIZE(names))
        return -EPROTO;
    progress_phase(j->p, names[i]);
    if (i == 0)
        progress_detail(j->p, "waiting for %llu build%s before this one", (unsigned long long)m->before,
                        m->before == 1 ? "" : "s");
    else
        buildlog_step(j->o->log);
    return 0;
}

static int on_message(struct job *j, const void *p, size_t n, struct mvm_error *err)
{
    struct msg_reader r;
    int e = msg_open(&r, p, n);
    if (e < 0)
        return mvm_error_errno(err, e, "the builder's answer");
    if (r.type == MSG_PHASE) {
        struct msg_phase m = {0};
        e = msg_phase_decode(&m, p, n);
        return e < 0 ? e : on_phase(j, &m);
    }
    if (r.type == MSG_RESULT) {
        e = msg_result_decode(&j->result, p, n);
        j->done = e == 0;
        return e;
    }
    if (r.type == MSG_WANT)
        return msg_want_decode(&j->want, p, n);
    if (r.type == MSG_ENTRY) {
        CLEAN_FREE struct msg_entry *entry = calloc(1, sizeof(*entry));
        if (!entry)
            return -ENOMEM;
        e = msg_entry_decode(entry, p, n);
        if (e == 0)
            e = check_entry(j, entry, err);
        if (e < 0)
            return e;
    }
    return tree_receive(&j->tree, CHAN_MSG, p, n, err);
}

static int on_event(struct job *j, const struct client_event *e, struct mvm_error *err)
{
    if (e->kind == CLIENT_RESET)
        return mvm_error_set(err, -EPIPE, "the builder gave the job up: %.200s", (const char *)e->data);
    if (e->kind == CLIENT_CLOSED)
        return j->done ? 0 : mvm_error_set(err, -EPIPE, "the builder ended the job without a result");
    if (e->channel == CHAN_LOG) {
        buildlog_lines(j->o->log, (const char *)e->data, e->len);
        return 0;
    }
    if (e->channel == CHAN_TREE)
        return tree_receive(&j->tree, CHAN_TREE, e->data, e->len, err);
    int r = on_message(j, e->data, e->len, err);
    if (r < 0 && !mvm_error_code(err))
        mvm_error_errno(err, r, "the builder's answer cannot be understood");
    return r;
}

static int receive_all(struct job *j, struct mvm_error *err)
{
    while (!j->done) {
        int r = client_poll(j->client, NULL, 0, 0, err);
        if (r < 0)
            return r;
        struct client_event e;
        while (!j->done && client_next(j->client, &e)) {
            if (e.stream == j->stream)
                r = on_event(j, &e, err);
            if (r < 0)
                return r;
        }
    }
    client_event_done(j->client);
    return 0;
}

/* The lock file travels with the artifacts, but belongs to the flake. */
static int take_lock(struct job *j, struct mvm_error *err)
{
    if (faccessat(j->o->stage_fd, LOCK_NAME, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    int r = path_read_file(j->o->stage_fd, LOCK_NAME, &j->ret->lock, err);
    unlinkat(j->o->stage_fd, LOCK_NAME, 0);
    return r;
}

static int run(struct job *j, struct mvm_error *err)
{
    progress_phase(j->p, "stage");
    int r = open_job(j, err);
    if (r == 0) {
        r = send_tree(j, err);
        /* The guest may have ended the job before it had the whole tree: its reason is among the events. */
        if (r == -EPIPE)
            r = 0;
    }
    if (r == 0)
        r = receive_all(j, err);
    if (r < 0)
        return r;
    if (!j->result.ok)
        return job_failed(j, err);
    if (!j->tree.complete)
        return mvm_error_set(err, -EPROTO, "the builder sent no complete set of artifacts");
    snprintf(j->ret->store_path, sizeof(j->ret->store_path), "%s", j->result.store_path);
    j->ret->eval_ns = j->result.eval_ns;
    j->ret->build_ns = j->result.build_ns;
    return take_lock(j, err);
}

int job_run(struct builder_session *s, const struct job_opts *o, struct progress *p, struct job_result *ret,
            struct mvm_error *err)
{
    static const struct tree_keeper keeper = {.take = take_known};
    static const struct tree_limits limits = {.max_bytes = MAX_ARTIFACTS, .max_size = MAX_FILE, .max_entries = 16};
    CLEAN_FREE struct job *j = calloc(1, sizeof(*j));
    if (!j)
        return mvm_error_errno(err, -ENOMEM, "job");
    *j = (struct job){.o = o, .p = p, .ret = ret, .client = s->vm.client, .flakes = &s->flakes, .known = &s->known};
    ret->lock.max = MAX_LOCK;
    sha256_init(&j->sha);
    tree_receiver_init(&j->tree, o->stage_fd, &limits);
    j->tree.content = on_content;
    j->tree.file_done = on_file_done;
    j->tree.data = j;
    j->tree.keeper = &keeper;
    int r = run(j, err);
    if (r < 0)
        store_disk_hint_host(o->stage_fd, err);
    if (r == -ENOSPC)
        mvm_error_hint(err, "make room on the file system of MVM_CACHE_DIR");
    if (r < 0 && j->stream && !j->done)
        client_reset(s->vm.client, j->stream, r == -EINTR ? "interrupted" : "the host gave up");
    tree_receiver_done(&j->tree);
    msg_result_done(&j->result);
    mvm_error_phase(r < 0 ? err : NULL, MVM_PHASE_ARTIFACT_EXTRACTION);
    return r;
}

void job_result_done(struct job_result *r)
{
    buf_done(&r->lock);
}
