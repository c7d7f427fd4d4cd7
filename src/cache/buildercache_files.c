#include "cache/buildercache_files.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char *const buildercache_artifacts[] = {"vmlinux", "rootfs.ext4", "initrd", "cmdline.txt", MANIFEST};

void buildercache_hidden_name(char *out, size_t size, const char *suffix)
{
    snprintf(out, size, ".%.32s%.40s", os_arch(), suffix);
}

int buildercache_open_root(struct home *h, struct mvm_error *err)
{
    int fd = path_open_dir(h->cache_fd, FOLDER, err);
    if (fd < 0)
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
    return fd;
}

int buildercache_open_file(int dirfd, const char *name)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ELOOP ? -EINVAL : -errno;
    return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -EINVAL;
}

int buildercache_read_sidecar(int dirfd, const char *name, struct buf *out)
{
    CLEAN_FD int fd = buildercache_open_file(dirfd, name);
    if (fd < 0)
        return fd;
    ssize_t n;
    while ((n = buf_read(out, fd, 65536)) > 0)
        ;
    if (n < 0)
        return (int)n;
    if (out->len && out->data[out->len - 1] == '\n')
        out->data[--out->len] = '\0';
    return 0;
}

static int artifact_digest(int dirfd, const char *name, struct statindex *index, bool verify,
                           char out[static SHA256_HEX_SIZE])
{
    uint64_t read_at = clock_wall();
    CLEAN_FD int fd = buildercache_open_file(dirfd, name);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd < 0 ? fd : -errno;
    if (!verify && index && statindex_get(index, name, &st, out))
        return 0;
    int r = sha256_fd(fd, out);
    if (r == 0 && index)
        statindex_put(index, name, &st, read_at, out);
    return r;
}

int buildercache_list_digests(int dirfd, struct statindex *index, bool verify, struct buf *out)
{
    for (size_t i = 0; i < BUILDERCACHE_ARTIFACTS; i++) {
        char digest[SHA256_HEX_SIZE];
        int r = artifact_digest(dirfd, buildercache_artifacts[i], index, verify, digest);
        if (r == -ENOENT)
            continue;
        if (r == 0)
            r = buf_printf(out, "%s  %s\n", digest, buildercache_artifacts[i]);
        if (r < 0)
            return r;
    }
    return 0;
}
