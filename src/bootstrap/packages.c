#include "bootstrap/packages.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "cache/fingerprint.h"
#include "cache/lock.h"
#include "host/interrupt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER       "stage0"
#define PACKAGE_FILE "packages.txt"
#define KEYRING      "/usr/share/keyrings/debian-archive-keyring.gpg"
#define APT_WAIT_MS  30000
#define NEEDED_BYTES (1200ull << 20)

const char *const packages_list[] = {
    "nix-bin", "busybox-static", "e2fsprogs", "ca-certificates", "git", "tar", "xz-utils", "zstd", NULL,
};

#if defined(__aarch64__)
const char *packages_arch(void)
{
    return "arm64";
}
const char *packages_kernel(void)
{
    return "linux-image-cloud-arm64";
}
#else
const char *packages_arch(void)
{
    return "amd64";
}
const char *packages_kernel(void)
{
    return "linux-image-cloud-amd64";
}
#endif

/* ---- The host's apt configuration ---- */

/* The value of VERSION_CODENAME in /etc/os-release, or "". */
static void host_codename(char *out, size_t size)
{
    CLEAN_BUF struct buf b = BUF_INIT(16384);
    out[0] = '\0';
    if (path_read_file(AT_FDCWD, "/etc/os-release", &b, NULL) < 0)
        (void)!path_read_file(AT_FDCWD, "/usr/lib/os-release", &b, NULL);
    static const char key[] = "VERSION_CODENAME=";
    const char *at = strstr(buf_cstr(&b), key);
    if (!at)
        return;
    at += sizeof(key) - 1;
    at += *at == '"';
    size_t n = strcspn(at, "\"\n");
    snprintf(out, size, "%.*s", (int)n, at);
}

/* Picks the repository that the host's own release comes from: "CODENAME|COMPONENT|URI" lines. The caller frees. */
static char *pick_repository(const char *targets, const char *codename)
{
    for (const char *line = targets; *line;) {
        size_t n = strcspn(line, "\n");
        const char *bar = memchr(line, '|', n);
        const char *bar2 = bar ? memchr(bar + 1, '|', n - (size_t)(bar + 1 - line)) : NULL;
        if (bar2 && strlen(codename) == (size_t)(bar - line) && strncmp(line, codename, (size_t)(bar - line)) == 0 &&
            bar2 - bar == 5 && strncmp(bar + 1, "main", 4) == 0)
            return strndup(bar2 + 1, n - (size_t)(bar2 + 1 - line));
        line += n + (line[n] == '\n');
    }
    return NULL;
}

static int find_repository(char **ret, struct mvm_error *err)
{
    static const char *const argv[] = {
        "apt-get", "indextargets", "--format", "$(CODENAME)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_BUF struct buf out = BUF_INIT(1u << 20);
    char codename[64];
    host_codename(codename, sizeof(codename));
    int code = process_capture(&o, &out, NULL, clock_deadline(APT_WAIT_MS), err);
    if (code < 0) {
        mvm_error_hint(err,
                       "stage 0 needs a Debian host with apt; elsewhere put a dev image into MVM_HOME/dev/current");
        return code;
    }
    *ret = pick_repository(buf_cstr(&out), codename);
    if (*ret)
        return 0;
    mvm_error_set(err, -ENOENT, "apt knows no repository of this host's release (%s main)", *codename ? codename : "?");
    mvm_error_hint(err, "run apt-get update as root, and check the sources below /etc/apt");
    return -ENOENT;
}

/* A proxy goes by the environment, where other users do not see it. */
static void export_proxy(void)
{
    static const char *const argv[] = {"apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_BUF struct buf out = BUF_INIT(4096);
    if (getenv("http_proxy") || process_capture(&o, &out, NULL, clock_deadline(APT_WAIT_MS), NULL) != 0)
        return;
    char *nl = out.len ? strchr((char *)out.data, '\n') : NULL;
    if (nl)
        *nl = '\0';
    if (out.len && out.data[0] && strcmp((char *)out.data, "DIRECT") != 0)
        setenv("http_proxy", (char *)out.data, 0);
}

/* ---- mmdebstrap ---- */

/* Follows mmdebstrap's messages: each is a detail of the phase; the last ones explain a failure. */
static void on_line(struct progress *p, struct buf *tail, char *line)
{
    size_t n = strlen(line);
    if (n == 0)
        return;
    if (tail->len + n + 1 > tail->max)
        buf_drop(tail, MIN_OF(tail->len, n + 1));
    if (buf_printf(tail, "%s\n", line) < 0)
        buf_clear(tail);
    if (strncmp(line, "I: ", 3) == 0)
        progress_detail(p, "%s", line + 3);
    progress_verbose(p, "%s", line);
}

static int follow(struct process *child, int fd, struct progress *p, struct buf *tail)
{
    CLEAN_BUF struct buf pending = BUF_INIT(65536);
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        int n = poll(fds, 2, -1);
        if (interrupt_pending() || fds[1].revents)
            return -EINTR;
        if (n < 0 && errno == EINTR)
            continue;
        ssize_t got = buf_read(&pending, fd, 4096);
        if (got == -EMSGSIZE) {
            buf_clear(&pending);
            continue;
        }
        if (got <= 0)
            break;
        char *nl;
        while (pending.len && (nl = strchr((char *)pending.data, '\n'))) {
            *nl = '\0';
            on_line(p, tail, (char *)pending.data);
            buf_drop(&pending, (size_t)(nl + 1 - (char *)pending.data));
        }
    }
    int r = process_wait(child, 0);
    return r < 0 ? r : process_exit_code(child->status);
}

static int run_mmdebstrap(const char *repository, const char *target, struct progress *p, struct mvm_error *err)
{
    char include[512] = "--include=", source[1200], arch[64];
    for (size_t i = 0; packages_list[i]; i++) {
        strcat(include, packages_list[i]);
        strcat(include, ",");
    }
    strcat(include, packages_kernel());
    snprintf(arch, sizeof(arch), "--architectures=%s", packages_arch());
    snprintf(source, sizeof(source), "deb %s%.1000s " PACKAGES_SUITE " main",
             access(KEYRING, R_OK) == 0 ? "[signed-by=" KEYRING "] " : "", repository);
    /* chrootless, because extracting needs no chroot and no privilege; the hook, which mmdebstrap gives to a shell,
     * keeps the archives' names, versions and digests. */
    const char *const argv[] = {
        "mmdebstrap",
        "--variant=extract",
        "--mode=chrootless",
        "--format=directory",
        "--aptopt=Acquire::Retries \"3\"", /* a mirror's hiccup is no reason to begin anew */
        include,
        arch,
        "--extract-hook=cd \"$1/var/cache/apt/archives\" && sha256sum *.deb > ../../../../" PACKAGE_FILE,
        PACKAGES_SUITE,
        target,
        source,
        NULL};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return mvm_error_errno(err, -errno, "mmdebstrap");
    CLEAN_FD int read_end = fds[0];
    CLEAN_FD int write_end = fds[1];
    const struct process_opts o = {.argv = argv,
                                   .cwd = "/",
                                   .stdin_fd = -1,
                                   .stdout_fd = write_end,
                                   .stderr_fd = write_end,
                                   .new_session = true,
                                   .die_with_parent = true};
    CLEAN_PROCESS struct process child = PROCESS_INIT;
    int r = process_start(&o, &child, err);
    if (r < 0) {
        if (r == -ENOENT)
            mvm_error_hint(err, "install the package mmdebstrap");
        return r;
    }
    fd_closep(&write_end);
    CLEAN_BUF struct buf tail = BUF_INIT(3000);
    pid_t group = child.pid;
    r = follow(&child, read_end, p, &tail);
    if (r < 0)
        kill(-group, SIGKILL); /* apt and its helpers with it */
    if (r == -EINTR)
        return mvm_error_set(err, r, "interrupted while packages were fetched");
    if (r == 0)
        return 0;
    mvm_error_set(err, -ECHILD, "mmdebstrap failed with status %d", r);
    mvm_error_detail(err, buf_cstr(&tail), tail.len);
    mvm_error_hint(err, "check the network and apt's sources: apt-get update; mvmctl doctor checks the rest");
    return -ECHILD;
}

/* ---- The cache ---- */

static void recipe_id(char out[static SHA256_HEX_SIZE])
{
    struct fingerprint f;
    fingerprint_init(&f, "stage 0 packages 2");
    fingerprint_add_string(&f, "suite", PACKAGES_SUITE);
    fingerprint_add_string(&f, "arch", packages_arch());
    fingerprint_add_string(&f, "kernel", packages_kernel());
    for (size_t i = 0; packages_list[i]; i++)
        fingerprint_add_string(&f, "package", packages_list[i]);
    fingerprint_final(&f, out);
    out[16] = '\0'; /* a folder name */
}

static int check_space(int fd, struct mvm_error *err)
{
    struct statvfs sf;
    if (fstatvfs(fd, &sf) < 0 || (uint64_t)sf.f_bavail * (uint64_t)sf.f_frsize >= NEEDED_BYTES)
        return 0;
    mvm_error_set(err, -ENOSPC, "the cache folder's disk has less than %llu MB free",
                  (unsigned long long)(NEEDED_BYTES >> 20));
    mvm_error_hint(err, "free some space, or point MVM_CACHE_DIR and MVM_HOME to another disk");
    return -ENOSPC;
}

static int fetch(int dir, const char *dir_path, const char *name, struct progress *p, struct mvm_error *err)
{
    CLEAN_FREE char *repository = NULL;
    char stage[96];
    int r = check_space(dir, err);
    if (r == 0)
        r = find_repository(&repository, err);
    if (r < 0)
        return r;
    export_proxy();
    /* One stage name: the lock is held, so what is there is a dead process's. */
    snprintf(stage, sizeof(stage), ".%s.stage", name);
    r = path_remove_tree(dir, stage);
    CLEAN_FREE char *target = path_join(dir_path, stage, NULL);
    if (r < 0 || !target)
        return mvm_error_errno(err, r < 0 ? r : -ENOMEM, "cannot make a staging folder");
    r = run_mmdebstrap(repository, target, p, err);
    if (r == 0 && renameat(dir, stage, dir, name) < 0)
        r = mvm_error_errno(err, -errno, "cannot keep the packages");
    if (r < 0)
        (void)!path_remove_tree(dir, stage);
    return r;
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for packages that another process fetches (%s)", holder);
}

int packages_ensure(struct home *h, struct progress *p, char **ret_path, struct mvm_error *err)
{
    char id[SHA256_HEX_SIZE];
    recipe_id(id);
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    if (dir < 0)
        return dir;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    const struct lock_wait wait = {.waiting = say_waiting, .data = p};
    int r = lock_take(&lock, dir, "lock", "fetching packages", &wait, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *marker = path_join(id, PACKAGE_FILE, NULL);
    CLEAN_FREE char *dir_path = path_join(h->cache, FOLDER, NULL);
    if (!marker || !dir_path)
        return mvm_error_errno(err, -ENOMEM, "packages");
    if (faccessat(dir, marker, F_OK, 0) < 0) {
        progress_phase(p, "stage0-packages");
        progress_detail(p, "fetching Debian " PACKAGES_SUITE " packages");
        r = fetch(dir, dir_path, id, p, err);
    }
    if (r < 0)
        return r;
    *ret_path = path_join(dir_path, id, NULL);
    return *ret_path ? 0 : mvm_error_errno(err, -ENOMEM, "packages");
}

/* "name_version_arch.deb", a colon in the version written as %3a. */
static json_object *archive_to_json(const char *digest, const char *name, size_t n)
{
    const char *bar = memchr(name, '_', n);
    const char *bar2 = bar ? memchr(bar + 1, '_', n - (size_t)(bar + 1 - name)) : NULL;
    char version[128];
    size_t out = 0;
    if (!bar2)
        return NULL;
    for (const char *s = bar + 1; s < bar2 && out < sizeof(version) - 1; s++) {
        bool colon = strncasecmp(s, "%3a", 3) == 0;
        version[out++] = colon ? ':' : *s;
        s += colon ? 2 : 0;
    }
    json_object *o = json_object_new_object();
    json_add(o, "name", json_object_new_string_len(name, (int)(bar - name)));
    json_add(o, "version", json_object_new_string_len(version, (int)out));
    json_add(o, "sha256", json_object_new_string_len(digest, SHA256_HEX_SIZE - 1));
    return o;
}

json_object *packages_to_json(const char *list)
{
    static const char hex[] = "0123456789abcdef";
    json_object *all = json_object_new_array();
    while (*list) {
        size_t n = strcspn(list, "\n");
        const char *name = list + SHA256_HEX_SIZE + 1;
        if (n > SHA256_HEX_SIZE + 5 && strspn(list, hex) == SHA256_HEX_SIZE - 1 &&
            strncmp(list + n - 4, ".deb", 4) == 0) {
            json_object *o = archive_to_json(list, name, n - SHA256_HEX_SIZE - 1);
            if (o)
                json_object_array_add(all, o);
        }
        list += n + (list[n] == '\n');
    }
    return all;
}
