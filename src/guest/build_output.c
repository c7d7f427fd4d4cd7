#include "guest/build_output.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/sha256_hex.h"
#include "guest/build_job.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg_build.h"
#include "wire/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the output has, for somebody whose derivation is no image. */
static void say_missing(struct build_job *j, const char *missing)
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
static int open_artifact(const struct build_job *j, const char *name)
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
static bool is_known(const struct build_job *j, int fd, uint8_t key[static TREE_KEY_SIZE])
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

static int send_artifact(const struct build_job *j, struct tree_sender *s, const char *name, int fd,
                         struct mvm_error *err)
{
    uint8_t key[TREE_KEY_SIZE];
    return is_known(j, fd, key) ? tree_send_keyed(s, name, fd, key, true, err) : tree_send_file(s, name, fd, err);
}

/* The host looks whether an input is one that it has not sent, which Nix then found in this builder's own root. */
static void send_lock(struct build_job *j, struct tree_sender *s, struct mvm_error *err)
{
    CLEAN_BUF struct buf after = BUF_INIT(BUILD_JOB_MAX_LOCK);
    if (path_read_file(AT_FDCWD, j->new_lock, &after, err) < 0)
        build_job_fail(j, MVM_PHASE_NIX_EVAL, 1, "Nix has not said which inputs it took: %.300s", err->msg);
    if (after.len != j->before.len || (after.len && memcmp(after.data, j->before.data, after.len) != 0))
        (void)!tree_send_memory(s, "flake.lock", 0644, after.data, after.len, err);
}

void build_output_send(struct build_job *j)
{
    static const struct {
        const char *name;
        bool required;
    } artifacts[] = {
        {"vmlinux", true},      {"rootfs.ext4", true}, {"initrd", false},
        {"cmdline.txt", false}, {"image.json", false}, {BUILD_MANIFEST, false},
    };
    size_t n = ARRAY_SIZE(artifacts) - !j->m->manifest;
    struct tree_sender s = {.emit = worker_emit, .data = &j->sock, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
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
            build_job_fail(j, MVM_PHASE_ARTIFACT_EXTRACTION, 1, "%.500s", err.msg);
    }
    send_lock(j, &s, &err);
    if (tree_send_end(&s, &err) < 0)
        build_job_fail(j, MVM_PHASE_ARTIFACT_EXTRACTION, 1, "%.500s", err.msg);
    j->result.extract_ns = clock_now() - start;
}
