#include "guest/build_input.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/build_job.h"
#include "guest/cgroup.h"
#include "guest/file_cache.h"
#include "guest/nix.h"
#include "guest/place.h"
#include "guest/source.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg_build.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static bool is_offer(const struct buf *b)
{
    return b->len > 1 && b->data[0] == CHAN_MSG && b->data[1] == MSG_OFFER;
}

static int answer_offer(struct build_job *j, const struct buf *b)
{
    static struct msg_offer offer;
    static struct msg_want want;
    CLEAN_BUF struct buf out = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = msg_offer_decode(&offer, b->data + 1, b->len - 1);
    if (r < 0 || offer.len % TREE_KEY_SIZE)
        return -EPROTO;
    want.len = offer.len / TREE_KEY_SIZE;
    for (size_t i = 0; i < want.len; i++)
        want.wanted[i] = !file_cache_has(offer.keys + i * TREE_KEY_SIZE);
    r = msg_want_encode(&out, &want);
    return r < 0 ? r : worker_send(j->sock, CHAN_MSG, out.data, out.len);
}

static void receive_tree(struct build_job *j)
{
    static const struct tree_limits limits = {.max_bytes = 8ull << 30, .max_size = 8ull << 30, .max_entries = 1000000};
    struct mvm_error err = MVM_ERROR_INIT;
    struct tree_receiver t;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    CLEAN_FD int dir = path_open_dir(AT_FDCWD, j->work, &err);
    build_job_check_disk(j, dir < 0 ? -dir : 0);
    if (dir < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the builder has no place for the flake: %.300s", err.msg);
    tree_receiver_init(&t, dir, &limits);
    t.keeper = &file_cache_keeper;
    t.canonical = true;
    t.owner = SOURCE_OWNER;
    int r = 0;
    while (r >= 0 && !t.complete) {
        r = worker_recv(j->sock, &b);
        if (r == 0)
            r = mvm_error_set(&err, -EPIPE, "the tree ended early");
        else if (r > 0 && is_offer(&b))
            r = answer_offer(j, &b);
        else if (r > 0)
            r = tree_receive(&t, b.data[0], b.data + 1, b.len - 1, &err);
    }
    tree_receiver_done(&t);
    if (r >= 0)
        file_cache_keep(dir, j->cgroup.procs_fd, j->sock);
    build_job_check_disk(j, r < 0 ? -r : 0);
    if (r < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the flake did not arrive whole: %.300s", err.msg);
}

/* Local folders and files appear where the flake says they are, for this job alone. */
static void place_inputs(struct build_job *j)
{
    const struct msg_strings *in = &j->m->inputs;
    static struct place place;
    int r = in->n ? place_begin(&place, j->work) : 0;
    if (r < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "no mount namespace: %s", strerror(-r));
    for (size_t i = 0; i < in->n; i++) {
        char from[100];
        snprintf(from, sizeof(from), "%s/" BUILD_INPUT "%zu", j->work, i);
        r = place_put(&place, from, in->v[i]);
        if (r < 0)
            build_job_fail(j, MVM_PHASE_NIX_EVAL, 1, "the input %.300s cannot be had in the builder: %s", in->v[i],
                           strerror(-r));
    }
}

static bool is_revision(const char *text)
{
    return text && strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

/* False: it is left to Nix, which copies and hashes what is not in its store. */
static bool put_into_store(struct build_job *j, char path[static 128])
{
    struct mvm_error err = MVM_ERROR_INIT;
    if (!j->m->store_name || !j->m->nar_hash || !j->m->nar_hex)
        return false;
    int r = source_to_store(j->source, j->id, j->m, path, &err);
    if (r < 0 && r != -ENOTSUP) {
        build_job_check_disk(j, -r);
        build_job_keep(j, err.msg, strlen(err.msg));
        nix_check_means(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1);
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "%.900s", err.msg);
    }
    return r == 0;
}

/* When the tree came here says nothing about it: Nix is told how old it is, and which commit. */
static void refer_to_source(struct build_job *j, const char *subdir)
{
    CLEAN_BUF struct buf ref = BUF_INIT(sizeof(j->ref) - 1);
    char path[128];
    bool stored = put_into_store(j, path);
    (void)!buf_printf(&ref, "path:%s?lastModified=%llu", stored ? path : j->source,
                      (unsigned long long)j->m->last_modified);
    if (stored) {
        (void)!buf_printf(&ref, "&narHash=");
        nix_add_escaped(&ref, j->m->nar_hash);
    }
    if (is_revision(j->m->rev))
        (void)!buf_printf(&ref, "&rev=%s", j->m->rev);
    if (is_revision(j->m->rev) && j->m->rev_count)
        (void)!buf_printf(&ref, "&revCount=%llu", (unsigned long long)j->m->rev_count);
    if (*subdir) {
        (void)!buf_printf(&ref, "&dir=");
        nix_add_escaped(&ref, subdir);
    }
    snprintf(j->ref, sizeof(j->ref), "%s", buf_cstr(&ref));
}

void build_input_receive(struct build_job *j)
{
    const char *subdir = j->m->subdir ? j->m->subdir : "";
    if (*subdir && !path_is_safe_relative(subdir))
        build_job_fail(j, MVM_PHASE_NIX_EVAL, 1, "the flake's folder lies outside of its tree");
    receive_tree(j);
    place_inputs(j);
    refer_to_source(j, subdir);
    snprintf(j->lock, sizeof(j->lock), "%s/" BUILD_LOCK, j->work);
    j->before.max = BUILD_JOB_MAX_LOCK;
    (void)!path_read_file(AT_FDCWD, j->lock, &j->before, NULL);
}
