#include "cache/artifacts.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/lock.h"
#include "cache/statindex.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER       "artifacts"
#define STAGE_PREFIX ".stage-"

static int open_store(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->cache_fd, FOLDER, err);
}

/* ---- Staging ---- */

/* A stage is alive while its folder is locked. One that is not belongs to a process that died. */
static void sweep(int store)
{
    int dup_fd = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)) != 0)
            continue;
        CLEAN_FD int fd = openat(store, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            (void)!path_remove_tree(store, e->d_name);
    }
    closedir(d);
}

void artifact_sweep(struct home *h)
{
    CLEAN_FD int store = openat(h->cache_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (store >= 0)
        sweep(store);
}

int artifact_stage_open(struct artifact_stage *s, struct home *h, struct mvm_error *err)
{
    CLEAN_FD int store = open_store(h, err);
    if (store < 0)
        return store;
    sweep(store);
    static unsigned counter;
    for (int tries = 0; tries < 100; tries++) {
        snprintf(s->name, sizeof(s->name), STAGE_PREFIX "%d-%u", getpid(), counter++);
        if (mkdirat(store, s->name, 0700) < 0) {
            if (errno == EEXIST)
                continue;
            return mvm_error_errno(err, -errno, "cannot make a staging folder");
        }
        s->fd = openat(store, s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        /* Another process's sweep may have been between the two: then try again. */
        struct stat st;
        if (s->fd >= 0 && flock(s->fd, LOCK_EX | LOCK_NB) == 0 && fstatat(store, s->name, &st, 0) == 0) {
            s->lock_fd = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            return 0;
        }
        fd_closep(&s->fd);
    }
    return mvm_error_set(err, -EIO, "cannot make a staging folder");
}

void artifact_stage_done(struct artifact_stage *s)
{
    if (s->fd >= 0 && s->lock_fd >= 0)
        (void)!path_remove_tree(s->lock_fd, s->name);
    fd_closep(&s->fd);
    fd_closep(&s->lock_fd);
}

/* Files read only and on the disk, so that a promoted image is whole after a power cut. */
static int seal(int dirfd, const struct manifest *m, struct mvm_error *err)
{
    for (int a = 0; a <= ARTIFACT_COUNT; a++) {
        const char *name = a == ARTIFACT_COUNT ? "manifest.json" : artifact_name((enum artifact)a);
        if (a < ARTIFACT_COUNT && !m->artifacts[a].present)
            continue;
        CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
            return mvm_error_errno(err, -errno, "cannot keep %s", name);
        (void)!os_enable_verity(fd); /* where it can be had; digests tell of changes without it */
    }
    if (fsync(dirfd) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the image");
    return 0;
}

int artifact_stage_commit(struct artifact_stage *s, struct home *h, const struct manifest *m,
                          char digest[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    int r = image_validate(s->fd, err);
    if (r == 0)
        r = manifest_check_listed(m, s->fd, true, err);
    if (r == 0)
        r = manifest_save(m, s->fd, err);
    if (r == 0)
        r = seal(s->fd, m, err);
    if (r < 0)
        return r;
    manifest_digest(m, digest);
    CLEAN_ARTIFACT_IMAGE struct artifact_image same = ARTIFACT_IMAGE_INIT;
    if (artifact_image_open(&same, h, digest, NULL) == 0)
        return 0; /* the same image is there and whole; the stage goes away */
    if (fchmod(s->fd, 0555) < 0 || renameat(s->lock_fd, s->name, s->lock_fd, digest) < 0) {
        r = -errno;
        if (r == -ENOTEMPTY || r == -EEXIST) /* another mvmctl was faster */
            return fchmod(s->fd, 0700) < 0 ? -errno : 0;
        return mvm_error_errno(err, r, "cannot promote the image");
    }
    fsync(s->lock_fd);
    fd_closep(&s->fd);
    fd_closep(&s->lock_fd);
    return 0;
}

/* ---- Images ---- */

static int verify_file(int dirfd, const char *name, const struct artifact_info *want, struct statindex *index,
                       struct mvm_error *err)
{
    uint64_t read_at = clock_wall();
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && (errno == ENOENT || errno == ELOOP))
        return mvm_error_set(err, -EBADMSG, "%s is missing or no plain file", name);
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", name);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != want->size)
        return mvm_error_set(err, -EBADMSG, "%s has another size than recorded", name);
    char digest[SHA256_HEX_SIZE];
    if (!index || !statindex_get(index, name, &st, digest)) {
        int r = sha256_fd(fd, digest);
        if (r < 0)
            return mvm_error_errno(err, r, "cannot read %s", name);
        if (index)
            statindex_put(index, name, &st, read_at, digest);
    }
    if (strcmp(digest, want->sha256) != 0)
        return mvm_error_set(err, -EBADMSG, "%s has another content than recorded", name);
    return 0;
}

/* What lacks or is wrong in the image itself is damage; what kept us from reading it (EMFILE, EIO, ENOMEM) is not. */
static int as_damage(int r)
{
    return mvm_error_is_damage(r) || r == -ENOENT ? -EBADMSG : r;
}

/* Every artifact against the manifest: by the index, or, where that is NULL, by reading it. */
static int verify_files(const struct artifact_image *img, struct statindex *index, struct mvm_error *err)
{
    int r = 0;
    for (int a = 0; r == 0 && a < ARTIFACT_COUNT; a++)
        if (img->manifest.artifacts[a].present)
            r = verify_file(img->dirfd, artifact_name((enum artifact)a), &img->manifest.artifacts[a], index, err);
    return r;
}

/* -EBADMSG where the image is damaged. One in the cache has its digest; others may have more files. read: every byte,
 * whatever the stat index knows. */
static int verify(struct artifact_image *img, struct home *h, bool read, struct mvm_error *err)
{
    bool cached = img->digest[0];
    int r = manifest_load(&img->manifest, img->dirfd, err);
    if (r < 0)
        return as_damage(r);
    char digest[SHA256_HEX_SIZE];
    manifest_digest(&img->manifest, digest);
    if (cached && strcmp(digest, img->digest) != 0)
        return mvm_error_set(err, -EBADMSG, "manifest.json is not that of this image");
    r = manifest_check_listed(&img->manifest, img->dirfd, cached, err);
    if (r < 0)
        return r;
    struct statindex *index = read ? NULL : statindex_load(h->cache_fd, img->path);
    r = verify_files(img, index, err);
    if (index)
        statindex_save(index);
    statindex_free(index);
    if (r == 0 && img->manifest.artifacts[ARTIFACT_METADATA].present)
        r = as_damage(image_metadata_load(&img->metadata, img->dirfd, err));
    return r;
}

static bool is_digest(const char *s)
{
    return strlen(s) == SHA256_HEX_SIZE - 1 && strspn(s, "0123456789abcdef") == SHA256_HEX_SIZE - 1;
}

/* With what was made from it: its snapshots (src/vmdir/boot_snapshot.h). */
static void remove_image(struct home *h, int store, const char *digest)
{
    (void)!path_remove_tree(store, digest);
    CLEAN_FD int snapshots = openat(h->cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (snapshots >= 0)
        (void)!path_remove_tree(snapshots, digest);
}

static int open_verified(struct artifact_image *img, struct home *h, const char *digest, bool read, bool remove,
                         struct mvm_error *err)
{
    if (!is_digest(digest))
        return mvm_error_set(err, -EINVAL, "not an image's digest");
    CLEAN_FD int store = open_store(h, err);
    if (store < 0)
        return store;
    *img = (struct artifact_image)ARTIFACT_IMAGE_INIT;
    img->dirfd = openat(store, digest, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (img->dirfd < 0 && !mvm_error_is_absent(-errno))
        return mvm_error_errno(err, -errno, "cannot open image %.12s", digest);
    if (img->dirfd < 0)
        return mvm_error_set(err, -ENOENT, "the image is not in the cache");
    memcpy(img->digest, digest, SHA256_HEX_SIZE);
    img->path = path_join(h->cache, FOLDER, digest, NULL);
    int r = img->path ? verify(img, h, read, err) : -ENOMEM;
    if (r < 0) {
        artifact_image_done(img);
        if (r == -EBADMSG && remove)
            remove_image(h, store, digest);
    }
    return r;
}

int artifact_image_open(struct artifact_image *img, struct home *h, const char *digest, struct mvm_error *err)
{
    return open_verified(img, h, digest, false, true, err);
}

int artifact_image_read(struct home *h, const char *digest, bool remove, struct mvm_error *err)
{
    CLEAN_ARTIFACT_IMAGE struct artifact_image img = ARTIFACT_IMAGE_INIT;
    return open_verified(&img, h, digest, true, remove, err);
}

int artifact_image_open_folder(struct artifact_image *img, struct home *h, const char *path, bool read,
                               struct mvm_error *err)
{
    *img = (struct artifact_image)ARTIFACT_IMAGE_INIT;
    img->path = realpath(path, NULL);
    img->dirfd = img->path ? open(img->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int r = img->dirfd < 0 ? mvm_error_errno(err, -errno, "cannot open the image folder %s", path)
                           : image_validate(img->dirfd, err);
    if (img->dirfd < 0)
        mvm_error_hint(err, "name a folder with vmlinux and rootfs.ext4, or the beginning of an image's digest");
    if (r == 0 && faccessat(img->dirfd, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        r = verify(img, h, read, err);
        if (r == -EBADMSG) {
            mvm_error_wrap(err, "image folder %s", path);
            mvm_error_hint(err, "without its manifest.json the folder boots as it is");
        }
    } else if (r == 0 && read) {
        r = mvm_error_set(err, -EINVAL, "image folder %s has no manifest.json that its files could be compared with",
                          path);
        mvm_error_hint(err, "leave --verify out");
    } else if (r == 0 && faccessat(img->dirfd, artifact_name(ARTIFACT_METADATA), F_OK, 0) == 0) {
        r = image_metadata_load(&img->metadata, img->dirfd, err);
    }
    if (r < 0)
        artifact_image_done(img);
    return r;
}

void artifact_image_done(struct artifact_image *img)
{
    fd_closep(&img->dirfd);
    free(img->path);
    img->path = NULL;
}

struct each_digest {
    int (*each)(void *data, const char *digest);
    void *data;
};

static int on_name(void *data, const char *name)
{
    const struct each_digest *e = data;
    return is_digest(name) ? e->each(e->data, name) : 0;
}

int artifact_each(struct home *h, int (*each)(void *data, const char *digest), void *data, struct mvm_error *err)
{
    struct each_digest e = {.each = each, .data = data};
    CLEAN_FD int store = open_store(h, err);
    int r = store < 0 ? store : path_each(store, ".", on_name, &e);
    return r < 0 ? mvm_error_errno(err, r, "cannot list images") : r;
}

struct search {
    const char *prefix;
    char *digest;
    unsigned found;
};

static int on_digest(void *data, const char *digest)
{
    struct search *s = data;
    if (strncmp(digest, s->prefix, strlen(s->prefix)) == 0) {
        memcpy(s->digest, digest, SHA256_HEX_SIZE);
        s->found++;
    }
    return 0;
}

int artifact_find(struct home *h, const char *prefix, char digest[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    size_t n = strlen(prefix);
    if (n < 6 || n >= SHA256_HEX_SIZE || strspn(prefix, "0123456789abcdef") != n)
        return mvm_error_set(err, -EINVAL, "'%.70s' is neither an image's digest nor a folder", prefix);
    struct search s = {.prefix = prefix, .digest = digest};
    int r = artifact_each(h, on_digest, &s, err);
    if (r < 0 || s.found == 1)
        return r;
    return s.found ? mvm_error_set(err, -EEXIST, "several images' digests begin with %s", prefix)
                   : mvm_error_set(err, -ENOENT, "no image's digest begins with %s", prefix);
}
