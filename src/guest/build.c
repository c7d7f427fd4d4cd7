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
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "base/sha256_hex.h"
#include "guest/cgroup.h"
#include "guest/file_cache.h"
#include "guest/guest.h"
#include "guest/nix_store.h"
#include "guest/place.h"
#include "guest/source.h"
#include "wire/frame.h"
#include "wire/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_OUTPUT (64 * 1024)
#define MAX_LINE   (FRAME_MAX_PAYLOAD - 64)
#define MAX_LOCK   (4u << 20)
#define NIX        "/usr/bin/nix"
#define MAX_ENV    24
#define MAX_ARGS   96

struct args {
    const char *v[MAX_ARGS];
    size_t n;
};

struct job {
    int sock;
    unsigned id;
    const struct msg_build *m;
    char work[64], source[80], tmpdir[96], ref[9000];
    struct args options; /* for every Nix */
    struct cgroup cgroup;
    bool too_many;           /* processes: Nix was ended */
    char evaluation_end[64]; /* what Nix's log has when it has evaluated, or could not */
    bool evaluated;          /* that was seen */
    uint64_t built_at;       /* when Nix turned to building; 0 before */
    struct msg_result result;
    struct buf tail;             /* newest lines of Nix's log */
    struct buf before;           /* flake.lock as it came */
    char lock[80], new_lock[80]; /* what Nix goes by, and what it makes of that */
};

/* ---- Answering ---- */

static void send_phase(struct job *j, const char *name)
{
    struct msg_phase m;
    CLEAN_BUF struct buf b = BUF_INIT(256);
    snprintf(m.name, sizeof(m.name), "%s", name);
    if (msg_phase_encode(&b, &m) == 0)
        (void)!worker_send(j->sock, CHAN_MSG, b.data, b.len);
}

static void finish(struct job *j) __attribute__((noreturn));
static void finish(struct job *j)
{
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = msg_result_encode(&b, &j->result);
    if (r == -EMSGSIZE) { /* the names that there are are too many for a message */
        j->result.available = NULL;
        r = msg_result_encode(&b, &j->result);
    }
    worker_last(j->sock, &b, r);
}

static void fail(struct job *j, enum mvm_phase phase, uint64_t code, const char *fmt, ...) MVM_PRINTF(4, 5)
    __attribute__((noreturn));
static void fail(struct job *j, enum mvm_phase phase, uint64_t code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->result.problem, sizeof(j->result.problem), fmt, ap);
    va_end(ap);
    snprintf(j->result.phase, sizeof(j->result.phase), "%s", mvm_phase_name(phase));
    j->result.exit_code = code;
    finish(j);
}

/* The same with the kind of failure, which the host would have to guess. */
#define FAIL_KIND(j, kind_, ...)                                                                                       \
    do {                                                                                                               \
        snprintf((j)->result.kind, sizeof((j)->result.kind), "%s", kind_);                                             \
        fail(j, __VA_ARGS__);                                                                                          \
    } while (0)

/* ---- Running Nix ---- */

static void keep_tail(struct job *j, const char *p, size_t n)
{
    size_t max = j->tail.max;
    if (n > max) {
        p += n - max;
        n = max;
    }
    if (j->tail.len + n > max) {
        /* whole lines go */
        size_t drop = j->tail.len + n - max;
        const uint8_t *nl = memchr(j->tail.data + drop - 1, '\n', j->tail.len - drop + 1);
        buf_drop(&j->tail, nl ? (size_t)(nl + 1 - j->tail.data) : j->tail.len);
    }
    (void)!buf_append(&j->tail, p, n);
}

static bool has(const char *p, size_t n, const char *text)
{
    return memmem(p, n, text, strlen(text)) != NULL;
}

/*
 * Nix evaluates in one activity of its log and says when that ends, on success or not. What it does next, where it has
 * something to build, is to look up what is missing. Builds in the middle of evaluation do that before the activity's
 * end. What programs write is a string in the log, in which these quotes would be escaped.
 */
static void watch_line(struct job *j, const char *p, size_t n)
{
    static const char key[] = "\"id\":";
    const char *id = j->evaluation_end[0] ? NULL : memmem(p, n, key, sizeof(key) - 1);
    if (id && has(p, n, "\"text\":\"evaluating derivation '")) {
        int digits = (int)strspn(id + sizeof(key) - 1, "0123456789");
        snprintf(j->evaluation_end, sizeof(j->evaluation_end), "\"stop\",%.*s}", (int)sizeof(key) - 1 + digits, id);
    } else if (!j->evaluated) {
        j->evaluated = j->evaluation_end[0] && has(p, n, j->evaluation_end);
    } else if (has(p, n, "\"text\":\"querying info about missing paths\"")) {
        j->built_at = clock_now();
        send_phase(j, "build");
    }
}

static void watch_phase(struct job *j, const char *p, size_t n)
{
    const char *end = p + n;
    while (!j->built_at && p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        n = (size_t)((nl ? nl : end) - p);
        watch_line(j, p, n);
        p += n + 1;
    }
}

/* Whole lines of the log, to the host and into the tail; a line longer than a record is cut. */
static void forward_lines(struct job *j, struct buf *pending, bool all)
{
    const uint8_t *nl = pending->len ? memrchr(pending->data, '\n', pending->len) : NULL;
    size_t n = nl ? (size_t)(nl + 1 - pending->data) : 0;
    if (n == 0 && (all || pending->len == pending->max))
        n = pending->len;
    if (n == 0)
        return;
    watch_phase(j, (const char *)pending->data, n);
    keep_tail(j, (const char *)pending->data, n);
    (void)!worker_send(j->sock, CHAN_LOG, pending->data, n);
    buf_drop(pending, n);
}

/*
 * Under QEMU's software emulation, OpenSSL's vector code for SHA-256 is four times slower than its plain code, and Nix
 * hashes all that it copies. This tells OpenSSL that the processor has neither SSSE3 nor AVX; AES stays as it is.
 */
#define PLAIN_SHA "OPENSSL_ia32cap=~0x1000020000000000:0"

static const char *const nix_environment[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    ("HOME=" BUILD_HOME),
    "USER=root",
    "NIX_SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    "LANG=C.UTF-8",
};

/* What the host may add: it cannot make Nix load or run something else. */
static bool is_welcome(const char *variable)
{
    static const char *const names[] = {"http_proxy=", "https_proxy=", "no_proxy=", "NIX_CONFIG="};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static void fill_environment(const struct job *j, const char *env[static MAX_ENV])
{
    size_t n = ARRAY_SIZE(nix_environment);
    memcpy(env, nix_environment, sizeof(nix_environment));
    env[n++] = j->tmpdir; /* a killed build's files are below the job's folder */
    if (boot_emulated())
        env[n++] = PLAIN_SHA;
    for (size_t i = 0; i < j->m->env.n && n < MAX_ENV - 1; i++)
        if (is_welcome(j->m->env.v[i]))
            env[n++] = j->m->env.v[i];
    env[n] = NULL;
}

static void add(struct args *a, const char *s)
{
    if (a->n < MAX_ARGS - 1)
        a->v[a->n++] = s;
}

/* A setting "name=value" of the host's choosing, which is taken apart: only names that look like Nix's. */
static void add_option(struct args *a, char *option)
{
    char *value = strchr(option, '=');
    if (!value || strspn(option, "abcdefghijklmnopqrstuvwxyz-") != (size_t)(value - option))
        return;
    *value = '\0';
    add(a, "--option");
    add(a, option);
    add(a, value + 1);
}

static void begin_nix(struct args *a, const struct job *j, const char *command, const char *sub)
{
    add(a, NIX);
    add(a, command);
    if (sub)
        add(a, sub);
    add(a, "--extra-experimental-features");
    add(a, "nix-command flakes");
    if (j->m->offline)
        add(a, "--offline");
    for (size_t i = 0; i < j->options.n; i++)
        add(a, j->options.v[i]);
    if (j->before.len) {
        add(a, "--reference-lock-file");
        add(a, j->lock);
    }
}

/* Runs Nix: its output into out, its log to the host. The exit status as a shell reports it, or -errno. */
static int run(struct job *j, const struct args *a, struct buf *out, bool log)
{
    int pipes[2][2];
    if (pipe2(pipes[0], O_CLOEXEC) < 0 || pipe2(pipes[1], O_CLOEXEC) < 0)
        return -errno;
    const char *env[MAX_ENV];
    fill_environment(j, env);
    const struct process_opts o = {
        .argv = a->v,
        .envp = env,
        .cwd = "/",
        .stdin_fd = -1,
        .stdout_fd = pipes[0][1],
        .stderr_fd = pipes[1][1],
        .cgroup_fd = j->cgroup.dirfd,
    };
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    int r = process_start(&o, &p, NULL);
    close(pipes[0][1]);
    close(pipes[1][1]);
    CLEAN_FD int out_fd = pipes[0][0];
    CLEAN_FD int log_fd = pipes[1][0];
    CLEAN_BUF struct buf pending = BUF_INIT(MAX_LINE);
    while (r == 0 && (out_fd >= 0 || log_fd >= 0)) {
        struct pollfd fds[3] = {{.fd = out_fd, .events = POLLIN},
                                {.fd = log_fd, .events = POLLIN},
                                {.fd = j->too_many ? -1 : j->cgroup.pids_fd, .events = POLLPRI}};
        if (poll(fds, 3, -1) < 0)
            continue;
        /* Beyond its bound a fork bomb lives on: nothing in it ends by itself. */
        if (fds[2].revents && cgroup_pids_reached(&j->cgroup)) {
            j->too_many = true;
            cgroup_kill(j->id);
        }
        if (fds[0].revents && buf_read(out, out_fd, 4096) <= 0)
            fd_closep(&out_fd);
        if (fds[1].revents) {
            ssize_t n = buf_read(&pending, log_fd, MAX_LINE - pending.len);
            if (log)
                forward_lines(j, &pending, n <= 0);
            else
                keep_tail(j, (const char *)pending.data, pending.len);
            if (!log)
                buf_clear(&pending);
            if (n <= 0)
                fd_closep(&log_fd);
        }
    }
    if (r == 0)
        r = process_wait(&p, 0);
    return r < 0 ? r : process_exit_code(p.status);
}

static void strip_newline(struct buf *b)
{
    while (b->len && b->data[b->len - 1] == '\n')
        b->data[--b->len] = '\0';
}

static bool tail_says(const struct job *j, const char *text)
{
    return strstr(buf_cstr(&j->tail), text) != NULL;
}

/* Programs say it in many ways; Nix looks at the disk when a builder has failed. */
static bool found_no_room(const struct job *j)
{
    return tail_says(j, "No space left on device") || tail_says(j, "lack of free disk space");
}

/* Where there was no room it is made, once, and Nix tries again. */
static int run_with_room(struct job *j, const struct args *a, struct buf *out)
{
    int code = run(j, a, out, true);
    if (code <= 0 || !found_no_room(j) || !nix_store_make_room())
        return code;
    buf_clear(out);
    buf_clear(&j->tail);
    return run(j, a, out, true);
}

/* Nix that failed for want of memory, processes, or room on the store's disk (or on the host's disk below it), says
 * so first. */
static void check_means(struct job *j, enum mvm_phase phase, int code)
{
    const char *what = phase == MVM_PHASE_NIX_EVAL ? "evaluation" : "build";
    unsigned long long mib = j->cgroup.max_bytes >> 20;
    enum cgroup_memory memory = cgroup_memory_reached(&j->cgroup);
    if (memory == CGROUP_MEMORY_OWN)
        FAIL_KIND(j, "out-of-memory", phase, (uint64_t)code, "the %s used more than %llu MiB of memory", what, mib);
    if (memory == CGROUP_MEMORY_ALL)
        FAIL_KIND(j, "out-of-memory", phase, (uint64_t)code,
                  "the builder's memory was used up by all its builds together, and this %s was ended", what);
    if (j->too_many)
        FAIL_KIND(j, "too-many-processes", phase, (uint64_t)code, "the %s ran more than %u processes at once", what,
                  j->cgroup.max_pids);
    if (found_no_room(j))
        FAIL_KIND(j, "disk-full", phase, (uint64_t)code, "the builder's disk is full");
    if (tail_says(j, "Input/output error") || tail_says(j, "Read-only file system") ||
        tail_says(j, "Structure needs cleaning") || tail_says(j, "Bad message"))
        FAIL_KIND(j, "disk-full", phase, (uint64_t)code, "the builder's disk cannot be written");
}

/* ---- The steps ---- */

static bool is_offer(const struct buf *b)
{
    return b->len > 1 && b->data[0] == CHAN_MSG && b->data[1] == MSG_OFFER;
}

static int answer_offer(struct job *j, const struct buf *b)
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

static void receive_tree(struct job *j)
{
    static const struct tree_limits limits = {.max_bytes = 8ull << 30, .max_size = 8ull << 30, .max_entries = 1000000};
    struct mvm_error err = MVM_ERROR_INIT;
    struct tree_receiver t;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD + 64);
    CLEAN_FD int dir = path_open_dir(AT_FDCWD, j->work, &err);
    if (dir < 0 && dir != -ENOSPC)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the builder has no place for the flake: %.300s", err.msg);
    tree_receiver_init(&t, dir, &limits);
    t.keeper = &file_cache_keeper;
    t.canonical = true;
    t.owner = SOURCE_OWNER;
    int r = dir < 0 ? dir : 0;
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
    if (r == -ENOSPC)
        FAIL_KIND(j, "disk-full", MVM_PHASE_NIX_BUILD, 1, "the builder's disk is full");
    if (r < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the flake did not arrive whole: %.300s", err.msg);
}

/* Local folders and files appear where the flake says they are, for this job alone. */
static void place_inputs(struct job *j)
{
    const struct msg_strings *in = &j->m->inputs;
    static struct place place;
    int r = in->n ? place_begin(&place, j->work) : 0;
    if (r < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "no mount namespace: %s", strerror(-r));
    for (size_t i = 0; i < in->n; i++) {
        char from[100];
        snprintf(from, sizeof(from), "%s/" BUILD_INPUT "%zu", j->work, i);
        r = place_put(&place, from, in->v[i]);
        if (r < 0)
            fail(j, MVM_PHASE_NIX_EVAL, 1, "the input %.300s cannot be had in the builder: %s", in->v[i], strerror(-r));
    }
}

/* A part of a reference's query. */
static void add_escaped(struct buf *b, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    for (; *text; text++)
        (void)!buf_printf(b, strchr(plain, *text) ? "%c" : "%%%02X", (unsigned char)*text);
}

static bool is_revision(const char *text)
{
    return text && strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

/* False: it is left to Nix, which copies and hashes what is not in its store. */
static bool put_into_store(struct job *j, char path[static 128])
{
    struct mvm_error err = MVM_ERROR_INIT;
    if (!j->m->store_name || !j->m->nar_hash || !j->m->nar_hex)
        return false;
    int r = source_to_store(j->source, j->id, j->m, path, &err);
    if (r < 0 && r != -ENOTSUP) {
        keep_tail(j, err.msg, strlen(err.msg));
        check_means(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1);
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "%.900s", err.msg);
    }
    return r == 0;
}

/* When the tree came here says nothing about it: Nix is told how old it is, and which commit. */
static void refer_to_source(struct job *j, const char *subdir)
{
    CLEAN_BUF struct buf ref = BUF_INIT(sizeof(j->ref) - 1);
    char path[128];
    bool stored = put_into_store(j, path);
    (void)!buf_printf(&ref, "path:%s?lastModified=%llu", stored ? path : j->source,
                      (unsigned long long)j->m->last_modified);
    if (stored) {
        (void)!buf_printf(&ref, "&narHash=");
        add_escaped(&ref, j->m->nar_hash);
    }
    if (is_revision(j->m->rev))
        (void)!buf_printf(&ref, "&rev=%s", j->m->rev);
    if (is_revision(j->m->rev) && j->m->rev_count)
        (void)!buf_printf(&ref, "&revCount=%llu", (unsigned long long)j->m->rev_count);
    if (*subdir) {
        (void)!buf_printf(&ref, "&dir=");
        add_escaped(&ref, subdir);
    }
    snprintf(j->ref, sizeof(j->ref), "%s", buf_cstr(&ref));
}

static void prepare_source(struct job *j)
{
    const char *subdir = j->m->subdir ? j->m->subdir : "";
    if (*subdir && !path_is_safe_relative(subdir))
        fail(j, MVM_PHASE_NIX_EVAL, 1, "the flake's folder lies outside of its tree");
    receive_tree(j);
    place_inputs(j);
    refer_to_source(j, subdir);
    snprintf(j->lock, sizeof(j->lock), "%s/" BUILD_LOCK, j->work);
    j->before.max = MAX_LOCK;
    (void)!path_read_file(AT_FDCWD, j->lock, &j->before, NULL);
}

static void list_available(struct job *j)
{
    char what[9200];
    static struct buf names = BUF_INIT(MAX_OUTPUT);
    struct args a = {0};
    snprintf(what, sizeof(what), "%s#packages.%s", j->ref, j->m->system ? j->m->system : "");
    begin_nix(&a, j, "eval", NULL);
    add(&a, "--json");
    add(&a, "--no-write-lock-file");
    add(&a, what);
    add(&a, "--apply");
    add(&a, "builtins.attrNames");
    struct buf saved = j->tail;
    j->tail = (struct buf)BUF_INIT(1024);
    if (run(j, &a, &names, false) == 0 && names.len)
        j->result.available = (char *)names.data;
    buf_done(&j->tail);
    j->tail = saved;
}

/* Nix has failed, and says why in its log. */
static void nix_failed(struct job *j, int code) __attribute__((noreturn));
static void nix_failed(struct job *j, int code)
{
    bool building = j->built_at > 0;
    enum mvm_phase phase = building ? MVM_PHASE_NIX_BUILD : MVM_PHASE_NIX_EVAL;
    if (code < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "nix cannot be run in the builder: %s", strerror(-code));
    check_means(j, phase, code);
    if (!building && tail_says(j, "does not provide attribute")) {
        list_available(j);
        FAIL_KIND(j, "attribute", phase, (uint64_t)code, "flake attribute '%.300s' not found", j->m->attr);
    }
    fail(j, phase, (uint64_t)code, "%s of '%.300s' failed", building ? "build" : "evaluation", j->m->attr);
}

static void build(struct job *j)
{
    char link[80];
    CLEAN_BUF struct buf what = BUF_INIT(16 * 1024);
    CLEAN_BUF struct buf out = BUF_INIT(MAX_OUTPUT);
    struct args a = {0};
    uint64_t start = clock_now();
    (void)!buf_printf(&what, "%s#", j->ref);
    add_escaped(&what, j->m->attr); /* Nix decodes it */
    (void)!buf_printf(&what, "^out");
    snprintf(link, sizeof(link), "%s/result", j->work);
    begin_nix(&a, j, "build", NULL);
    /* It says which inputs Nix took, also those that have no revision. (Where Nix may write none at all it takes the
     * tree for a changed one that has no revision either.) */
    add(&a, "--output-lock-file");
    add(&a, j->new_lock);
    add(&a, "--option");
    add(&a, "allow-dirty-locks");
    add(&a, "true");
    add(&a, "--out-link"); /* a root before Nix lets go of the output */
    add(&a, link);
    add(&a, "--print-out-paths");
    add(&a, "--log-format");
    add(&a, "internal-json");
    add(&a, buf_cstr(&what));
    int code = run_with_room(j, &a, &out);
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

/* ---- Extraction ---- */

static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    return worker_send(*(int *)data, channel, p, n);
}

/* What the output has, for somebody whose derivation is no image. */
static void say_missing(struct job *j, const char *missing)
{
    char found[400] = "";
    DIR *d = opendir(j->result.store_path);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(found);
        if (e->d_name[0] != '.' && n + strlen(e->d_name) + 3 < sizeof(found))
            snprintf(found + n, sizeof(found) - n, "%s%s", n ? ", " : "", e->d_name);
    }
    if (d)
        closedir(d);
    buf_clear(&j->tail);
    FAIL_KIND(j, "artifacts", MVM_PHASE_ARTIFACT_EXTRACTION, 1, "the build's output has no %s (it has: %s)", missing,
              found[0] ? found
              : d      ? "nothing"
                       : "it is a file, no folder");
}

/* Opens an artifact; symlinks may lead to the store only. */
static int open_artifact(const struct job *j, const char *name)
{
    char path[800], real[4096];
    snprintf(path, sizeof(path), "%s/%s", j->result.store_path, name);
    if (!realpath(path, real))
        return -errno;
    if (strncmp(real, "/nix/store/", 11) != 0)
        return -EPERM;
    int fd = open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        return -EINVAL;
    }
    return fd < 0 ? -errno : fd;
}

/* A kernel has its digest beside it (nix/tools/kernels): the host may have that file. Whoever wrote another's digest
 * there gets the other's content. */
static bool is_known(const struct job *j, int fd, uint8_t key[static TREE_KEY_SIZE])
{
    char link[64], path[600], digest[SHA256_HEX_SIZE + 1];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - sizeof(".sha256"));
    if (n < 0 || (size_t)n == sizeof(path) - sizeof(".sha256"))
        return false;
    strcpy(path + n, ".sha256");
    CLEAN_FD int beside = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (beside < 0 || fd_pread_all(beside, digest, SHA256_HEX_SIZE - 1, 0) < 0)
        return false;
    digest[SHA256_HEX_SIZE - 1] = '\0';
    for (size_t i = 0; i < j->m->known.n; i++)
        if (strcmp(j->m->known.v[i], digest) == 0) {
            sha256_parse(digest, key);
            key[SHA256_SIZE] = 0;
            return true;
        }
    return false;
}

static int send_artifact(const struct job *j, struct tree_sender *s, const char *name, int fd, struct mvm_error *err)
{
    uint8_t key[TREE_KEY_SIZE];
    return is_known(j, fd, key) ? tree_send_keyed(s, name, fd, key, true, err) : tree_send_file(s, name, fd, err);
}

/* The host looks whether an input is one that it has not sent, which Nix then found in this builder's own root. */
static void send_lock(struct job *j, struct tree_sender *s, struct mvm_error *err)
{
    CLEAN_BUF struct buf after = BUF_INIT(MAX_LOCK);
    if (path_read_file(AT_FDCWD, j->new_lock, &after, err) < 0)
        fail(j, MVM_PHASE_NIX_EVAL, 1, "Nix has not said which inputs it took: %.300s", err->msg);
    if (after.len != j->before.len || (after.len && memcmp(after.data, j->before.data, after.len) != 0))
        (void)!tree_send_memory(s, "flake.lock", 0644, after.data, after.len, err);
}

static void extract(struct job *j)
{
    static const struct {
        const char *name;
        bool required;
    } artifacts[] = {
        {"vmlinux", true},      {"rootfs.ext4", true}, {"initrd", false},
        {"cmdline.txt", false}, {"image.json", false}, {BUILD_MANIFEST, false},
    };
    size_t n = ARRAY_SIZE(artifacts) - !j->m->manifest;
    struct tree_sender s = {.emit = emit, .data = &j->sock, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct mvm_error err = MVM_ERROR_INIT;
    uint64_t start = clock_now();
    for (size_t i = 0; i < n; i++) {
        CLEAN_FD int fd = open_artifact(j, artifacts[i].name);
        if (fd < 0 && artifacts[i].required)
            say_missing(j, artifacts[i].name);
    }
    for (size_t i = 0; i < n; i++) {
        CLEAN_FD int fd = open_artifact(j, artifacts[i].name);
        if (fd >= 0 && send_artifact(j, &s, artifacts[i].name, fd, &err) < 0)
            fail(j, MVM_PHASE_ARTIFACT_EXTRACTION, 1, "%.500s", err.msg);
    }
    send_lock(j, &s, &err);
    if (tree_send_end(&s, &err) < 0)
        fail(j, MVM_PHASE_ARTIFACT_EXTRACTION, 1, "%.500s", err.msg);
    j->result.extract_ns = clock_now() - start;
}

static void prepare(struct job *j)
{
    snprintf(j->work, sizeof(j->work), BUILD_WORK "/%u", j->id);
    snprintf(j->source, sizeof(j->source), "%s/" BUILD_SOURCE, j->work);
    snprintf(j->tmpdir, sizeof(j->tmpdir), "TMPDIR=%s/tmp", j->work);
    snprintf(j->new_lock, sizeof(j->new_lock), "%s/new.lock", j->work);
    const char *tmp = strchr(j->tmpdir, '=') + 1;
    if (mkdir(j->work, 0700) < 0 || mkdir(tmp, 0700) < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the builder has no room for the job: %s", strerror(errno));
    int r = cgroup_open(&j->cgroup, j->id);
    if (r < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the job's cgroup cannot be made: %s", strerror(-r));
}

void build_serve(int sock, const struct msg_build *m, unsigned id)
{
    static struct job job = {.tail = BUF_INIT(16 * 1024), .before = BUF_INIT(0), .cgroup = CGROUP_INIT};
    struct job *j = &job;
    j->sock = sock;
    j->m = m;
    j->id = id;
    if (!m->attr || !*m->attr || m->attr[0] == '-')
        fail(j, MVM_PHASE_NIX_EVAL, 1, "no attribute to build");
    /* --offline promises that no packet leaves: not that Nix is asked to send none. */
    int r = m->offline ? net_isolate() : 0;
    if (r < 0)
        fail(j, MVM_PHASE_BUILDER_BOOTSTRAP, 1, "the builder has no network namespaces: %s", strerror(-r));
    for (size_t i = 0; i < m->options.n; i++)
        add_option(&j->options, m->options.v[i]);
    uint64_t start = clock_now();
    send_phase(j, "stage");
    prepare(j);
    if (m->remote)
        snprintf(j->ref, sizeof(j->ref), "%s", m->remote);
    else
        prepare_source(j);
    if (j->ref[0] == '-')
        fail(j, MVM_PHASE_NIX_EVAL, 1, "a flake reference cannot begin with '-'");
    j->result.stage_ns = clock_now() - start;
    send_phase(j, "eval");
    build(j);
    send_phase(j, "extract");
    extract(j);
    j->result.ok = true;
    finish(j);
}

void build_clean(unsigned id)
{
    char work[64];
    cgroup_remove(id);
    source_release(id);
    snprintf(work, sizeof(work), BUILD_WORK "/%u", id);
    (void)!path_remove_tree(AT_FDCWD, work);
}
