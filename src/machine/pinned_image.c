#include "machine/pinned_image.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "image/manifest.h"
#include "vmdir/boot_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER ".images"
#define STAGE  ".new"

void pinned_image_path(const char *state, const char *key, char *path, size_t size)
{
    snprintf(path, size, "%s/snapshots/" FOLDER "/%s", state, key);
}

int pinned_image_open(int root, const char *key)
{
    char path[128];
    snprintf(path, sizeof(path), FOLDER "/%s", key);
    return os_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
}

/* The key of the image that a VM runs: one that continued from a snapshot runs a kept one. */
static int key_of(const struct runfile *run, char key[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    const char *kept = strstr(run->image_path, "/snapshots/" FOLDER "/");
    const char *base = strrchr(run->image_path, '/');
    if (run->image[0])
        snprintf(key, SHA256_HEX_SIZE, "%s", run->image);
    else if (run->state[0] && kept && base)
        snprintf(key, SHA256_HEX_SIZE, "%s", base + 1);
    else
        return boot_snapshot_key_of_files(run->image_path, key, err);
    return 0;
}

static int keep_file(int from, int to, const char *name, bool link, struct mvm_error *err)
{
    if (link && linkat(from, name, to, name, 0) == 0)
        return 0;
    CLEAN_FD int in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (in < 0)
        return errno == ENOENT ? 0 : mvm_error_errno(err, -errno, "cannot read the image's %s", name);
    CLEAN_FD int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = out < 0 ? -errno : fd_copy_file(in, out);
    if (r == 0 && (fchmod(out, 0400) < 0 || fsync(out) < 0))
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "cannot keep the image's %s", name) : 0;
}

static int fill(int images, const struct runfile *run, struct mvm_error *err)
{
    CLEAN_FD int from = open(run->image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0)
        return mvm_error_errno(err, -errno, "the image that the vm runs is gone");
    if (mkdirat(images, STAGE, 0700) < 0)
        return mvm_error_errno(err, -errno, "cannot keep the image");
    CLEAN_FD int to = openat(images, STAGE, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int r = to < 0 ? mvm_error_errno(err, -errno, "cannot keep the image") : 0;
    for (int a = 0; r == 0 && a < ARTIFACT_COUNT; a++)
        r = keep_file(from, to, artifact_name((enum artifact)a), run->image[0], err);
    if (r == 0 && (faccessat(to, artifact_name(ARTIFACT_ROOTFS), F_OK, 0) < 0 || fsync(to) < 0))
        r = mvm_error_errno(err, -errno, "cannot keep the image");
    return r;
}

int pinned_image_keep(int root, const struct runfile *run, char key[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    int r = key_of(run, key, err);
    if (r < 0)
        return r;
    CLEAN_FD int images = path_open_dir(root, FOLDER, err);
    if (images < 0)
        return images;
    if (faccessat(images, key, F_OK, 0) == 0)
        return 0;
    r = path_remove_tree(images, STAGE);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot keep the image");
    r = fill(images, run, err);
    if (r == 0 && renameat(images, STAGE, images, key) < 0)
        r = mvm_error_errno(err, -errno, "cannot keep the image");
    if (r < 0)
        (void)!path_remove_tree(images, STAGE);
    else
        fsync(images);
    return r;
}

struct sweep {
    int images;
    bool (*used)(void *data, const char *key);
    void *data;
};

static int on_image(void *data, const char *key)
{
    const struct sweep *s = data;
    if (strcmp(key, STAGE) == 0 || (path_is_plain_name(key, 64) && !s->used(s->data, key)))
        (void)!path_remove_tree(s->images, key);
    return 0;
}

void pinned_image_sweep(int root, bool (*used)(void *data, const char *key), void *data)
{
    CLEAN_FD int images = openat(root, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct sweep s = {.images = images, .used = used, .data = data};
    if (images >= 0)
        (void)!path_each(images, ".", on_image, &s);
}
