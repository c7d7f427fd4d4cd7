/*
 * Serving MSG_BUILD: evaluation, build and extraction, and the one that fails names the failure's phase.
 *
 * The flake's tree is received into a work folder on the store's disk. One `nix build` evaluates and builds, because
 * starting Nix takes as long as either; its log is in Nix's internal-json format, whose lines go to the host as they
 * are (this side knows no JSON but the line by which Nix says that it has evaluated). The output's artifacts, and a
 * flake.lock that Nix changed, go back as a tree. Nix and what it starts run in the job's cgroup, this process does
 * not: it says which bound of the cgroup a job met. When the stream is reset, the agent kills both, so nothing here
 * watches for cancellation; what a job leaves is taken away by build_clean(), however it ended.
 */
#include "guest/build.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/path.h"
#include "guest/build_input.h"
#include "guest/build_job.h"
#include "guest/build_output.h"
#include "guest/cgroup.h"
#include "guest/folders.h"
#include "guest/net.h"
#include "guest/nix.h"
#include "guest/nix_store.h"
#include "guest/source.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_OUTPUT (64 * 1024)

static void strip_newline(struct buf *b)
{
    while (b->len && b->data[b->len - 1] == '\n')
        b->data[--b->len] = '\0';
}

static void list_available(struct build_job *j)
{
    char what[9200];
    static struct buf names = BUF_INIT(MAX_OUTPUT);
    struct nix_args a = {0};
    snprintf(what, sizeof(what), "%s#packages.%s", j->ref, j->m->system ? j->m->system : "");
    nix_begin(&a, j, "eval");
    nix_add(&a, "--json");
    nix_add(&a, "--no-write-lock-file");
    nix_add(&a, what);
    nix_add(&a, "--apply");
    nix_add(&a, "builtins.attrNames");
    struct buf saved = j->tail;
    j->tail = (struct buf)BUF_INIT(1024);
    if (nix_run(j, &a, &names, false) == 0 && names.len)
        j->result.available = (char *)names.data;
    buf_done(&j->tail);
    j->tail = saved;
}

/* Nix has failed, and says why in its log. */
static void nix_failed(struct build_job *j, int code) __attribute__((noreturn));
static void nix_failed(struct build_job *j, int code)
{
    bool building = j->built_at > 0;
    enum mvm_phase phase = building ? MVM_PHASE_NIX_BUILD : MVM_PHASE_NIX_EVAL;
    if (code < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "nix cannot be run in the builder: %s", strerror(-code));
    nix_check_means(j, phase, code);
    if (!building && nix_said(j, "does not provide attribute")) {
        list_available(j);
        FAIL_KIND(j, "attribute", phase, (uint64_t)code, "flake attribute '%.300s' not found", j->m->attr);
    }
    build_job_fail(j, phase, (uint64_t)code, "%s of '%.300s' failed", building ? "build" : "evaluation", j->m->attr);
}

static void build(struct build_job *j)
{
    char link[80];
    CLEAN_BUF struct buf what = BUF_INIT(16 * 1024);
    CLEAN_BUF struct buf out = BUF_INIT(MAX_OUTPUT);
    struct nix_args a = {0};
    uint64_t start = clock_now();
    (void)!buf_printf(&what, "%s#", j->ref);
    nix_add_escaped(&what, j->m->attr); /* Nix decodes it */
    (void)!buf_printf(&what, "^out");
    snprintf(link, sizeof(link), "%s/result", j->work);
    nix_begin(&a, j, "build");
    /* It says which inputs Nix took, also those that have no revision. (Where Nix may write none at all it takes the
     * tree for a changed one that has no revision either.) */
    nix_add(&a, "--output-lock-file");
    nix_add(&a, j->new_lock);
    nix_add(&a, "--option");
    nix_add(&a, "allow-dirty-locks");
    nix_add(&a, "true");
    nix_add(&a, "--out-link"); /* a root before Nix lets go of the output */
    nix_add(&a, link);
    nix_add(&a, "--print-out-paths");
    nix_add(&a, "--log-format");
    nix_add(&a, "internal-json");
    nix_add(&a, buf_cstr(&what));
    int code = nix_run_with_room(j, &a, &out);
    uint64_t end = clock_now();
    if (code)
        nix_failed(j, code);
    if (!j->built_at)
        j->built_at = end;
    j->result.eval_ns = j->built_at - start;
    j->result.build_ns = end - j->built_at;
    strip_newline(&out);
    snprintf(j->result.store_path, sizeof(j->result.store_path), "%s", buf_cstr(&out));
    (void)!nix_store_protect(j->result.store_path);
}

static void prepare(struct build_job *j)
{
    snprintf(j->work, sizeof(j->work), BUILD_WORK "/%u", j->id);
    snprintf(j->source, sizeof(j->source), "%s/" BUILD_SOURCE, j->work);
    snprintf(j->tmpdir, sizeof(j->tmpdir), "TMPDIR=%s/tmp", j->work);
    snprintf(j->new_lock, sizeof(j->new_lock), "%s/new.lock", j->work);
    const char *tmp = strchr(j->tmpdir, '=') + 1;
    if (mkdir(j->work, 0700) < 0 || mkdir(tmp, 0700) < 0) {
        int e = errno;
        build_job_check_disk(j, e);
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the job's folder cannot be made: %s", strerror(e));
    }
    int r = cgroup_open(&j->cgroup, j->id);
    if (r < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the job's cgroup cannot be made: %s", strerror(-r));
}

void build_serve(int sock, const struct msg_build *m, unsigned id)
{
    static struct build_job job = {.tail = BUF_INIT(16 * 1024), .before = BUF_INIT(0), .cgroup = CGROUP_INIT};
    struct build_job *j = &job;
    j->sock = sock;
    j->m = m;
    j->id = id;
    if (!m->attr || !*m->attr || m->attr[0] == '-')
        build_job_fail(j, MVM_PHASE_NIX_EVAL, 1, "no attribute to build");
    /* --offline promises that no packet leaves: not that Nix is asked to send none. */
    int r = m->offline ? net_isolate() : 0;
    if (r < 0)
        build_job_fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the builder has no network namespaces: %s", strerror(-r));
    for (size_t i = 0; i < m->options.n; i++)
        nix_add_option(&j->options, m->options.v[i]);
    uint64_t start = clock_now();
    build_job_phase(j, "stage");
    prepare(j);
    if (m->remote)
        snprintf(j->ref, sizeof(j->ref), "%s", m->remote);
    else
        build_input_receive(j);
    if (j->ref[0] == '-')
        build_job_fail(j, MVM_PHASE_NIX_EVAL, 1, "a flake reference cannot begin with '-'");
    j->result.stage_ns = clock_now() - start;
    build_job_phase(j, "eval");
    build(j);
    build_job_phase(j, "extract");
    build_output_send(j);
    j->result.ok = true;
    build_job_finish(j);
}

void build_clean(unsigned id)
{
    char work[64];
    cgroup_remove(id);
    source_release(id);
    snprintf(work, sizeof(work), BUILD_WORK "/%u", id);
    (void)!path_remove_tree(AT_FDCWD, work);
}
