#include "guest/nix.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "guest/boot.h"
#include "guest/build_job.h"
#include "guest/cgroup.h"
#include "guest/folders.h"
#include "guest/nix_store.h"
#include "guest/worker_io.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINE (FRAME_MAX_PAYLOAD - 64)
#define NIX      "/usr/bin/nix"
#define MAX_ENV  24

static bool has(const char *p, size_t n, const char *text)
{
    return memmem(p, n, text, strlen(text)) != NULL;
}

/*
 * Nix evaluates in one activity of its log and says when that ends, on success or not. What it does next, where it has
 * something to build, is to look up what is missing. Builds in the middle of evaluation do that before the activity's
 * end. What programs write is a string in the log, in which these quotes would be escaped.
 */
static void watch_line(struct build_job *j, const char *p, size_t n)
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
        build_job_phase(j, "build");
    }
}

static void watch_phase(struct build_job *j, const char *p, size_t n)
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
static void forward_lines(struct build_job *j, struct buf *pending, bool all)
{
    const uint8_t *nl = pending->len ? memrchr(pending->data, '\n', pending->len) : NULL;
    size_t n = nl ? (size_t)(nl + 1 - pending->data) : 0;
    if (n == 0 && (all || pending->len == pending->max))
        n = pending->len;
    if (n == 0)
        return;
    watch_phase(j, (const char *)pending->data, n);
    build_job_keep(j, (const char *)pending->data, n);
    (void)!worker_send(j->sock, CHAN_LOG, pending->data, n);
    buf_drop(pending, n);
}

/*
 * Under software emulation, OpenSSL's vector code for SHA-256 is four times slower than its plain code, and Nix
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

static void fill_environment(const struct build_job *j, const char *env[static MAX_ENV])
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

void nix_add(struct nix_args *a, const char *s)
{
    if (a->n < NIX_MAX_ARGS - 1)
        a->v[a->n++] = s;
}

void nix_add_option(struct nix_args *a, char *option)
{
    char *value = strchr(option, '=');
    if (!value || strspn(option, "abcdefghijklmnopqrstuvwxyz-") != (size_t)(value - option))
        return;
    *value = '\0';
    nix_add(a, "--option");
    nix_add(a, option);
    nix_add(a, value + 1);
}

void nix_begin(struct nix_args *a, const struct build_job *j, const char *command)
{
    nix_add(a, NIX);
    nix_add(a, command);
    nix_add(a, "--extra-experimental-features");
    nix_add(a, "nix-command flakes");
    if (j->m->offline)
        nix_add(a, "--offline");
    for (size_t i = 0; i < j->options.n; i++)
        nix_add(a, j->options.v[i]);
    if (j->before.len) {
        nix_add(a, "--reference-lock-file");
        nix_add(a, j->lock);
    }
}

int nix_run(struct build_job *j, const struct nix_args *a, struct buf *out, bool log)
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
                build_job_keep(j, (const char *)pending.data, pending.len);
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

bool nix_said(const struct build_job *j, const char *text)
{
    return strstr(buf_cstr(&j->tail), text) != NULL;
}

/* Programs say it in many ways; Nix looks at the disk when a builder has failed. */
static bool found_no_room(const struct build_job *j)
{
    return nix_said(j, "No space left on device") || nix_said(j, "lack of free disk space");
}

int nix_run_with_room(struct build_job *j, const struct nix_args *a, struct buf *out)
{
    int code = nix_run(j, a, out, true);
    if (code <= 0 || !found_no_room(j) || !nix_store_make_room())
        return code;
    buf_clear(out);
    buf_clear(&j->tail);
    return nix_run(j, a, out, true);
}

void nix_check_means(struct build_job *j, enum mvm_phase phase, int code)
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
    if (nix_said(j, "Input/output error") || nix_said(j, "Read-only file system") ||
        nix_said(j, "Structure needs cleaning") || nix_said(j, "Bad message"))
        FAIL_KIND(j, "disk-error", phase, (uint64_t)code, "the builder's disk cannot be written");
}

void nix_add_escaped(struct buf *b, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    for (; *text; text++)
        (void)!buf_printf(b, strchr(plain, *text) ? "%c" : "%%%02X", (unsigned char)*text);
}
