/* The part of snapshot.h that looks at the snapshots of all images. */
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "machine/snapmeta.h"
#include "machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_below(int dirfd, const char *name, size_t max)
{
    return path_is_plain_name(name, max) ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
}

/* The snapshots of one image, and one of them: -1 for what else lies there, or went meanwhile. */
static int open_image(int root, const char *digest)
{
    return open_below(root, digest, SHA256_HEX_SIZE - 1);
}

static int open_snapshot(int image, const char *name)
{
    return open_below(image, name, sizeof(((struct snapshot *)0)->name) - 1);
}

/* ---- Reading all of it ---- */

static int read_snapshot(int dir, struct mvm_error *err)
{
    CLEAN_JSON json_object *meta = NULL;
    CLEAN_FD int state = -1;
    CLEAN_FD int memory = -1;
    int r = json_load_sealed(dir, SNAPSHOT_META, SNAPMETA_MAX, &meta, err);
    if (r == 0)
        r = snapmeta_open_file(meta, SNAPSHOT_STATE, dir, SNAPSHOT_STATE, NULL, &state, err);
    if (r == 0)
        r = snapmeta_open_file(meta, SNAPSHOT_MEMORY, dir, SNAPSHOT_MEMORY, NULL, &memory, err);
    return mvm_error_is_absent(r) || mvm_error_is_damage(r) ? -ESTALE : r;
}

struct reading {
    int root, image;
    const char *digest;
    bool remove;
    void (*found)(void *data, const char *name, int r, const char *why);
    void *data;
};

static int on_read_snapshot(void *data, const char *name)
{
    struct reading *w = data;
    char full[160];
    struct mvm_error why = MVM_ERROR_INIT;
    CLEAN_FD int dir = open_snapshot(w->image, name);
    if (dir < 0)
        return 0; /* the file with the image's path, or it went meanwhile */
    int r = read_snapshot(dir, &why);
    snprintf(full, sizeof(full), "%.12s/%s", w->digest, name);
    w->found(w->data, full, r, why.msg);
    if (r == -ESTALE && w->remove)
        (void)!path_remove_tree(w->image, name);
    return 0;
}

static int on_read_image(void *data, const char *digest)
{
    struct reading *w = data;
    CLEAN_FD int image = open_image(w->root, digest);
    w->image = image;
    w->digest = digest;
    return image < 0 ? 0 : path_each(image, ".", on_read_snapshot, w);
}

int snapshot_read_all(int cache_fd, bool remove, void (*found)(void *data, const char *name, int r, const char *why),
                      void *data)
{
    CLEAN_FD int root = openat(cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct reading w = {.root = root, .remove = remove, .found = found, .data = data};
    int r = root < 0 ? -errno : path_each(root, ".", on_read_image, &w);
    return mvm_error_is_absent(r) ? 0 : r;
}

/* ---- Those in the making ---- */

/* .NAME.new, and which lock its maker holds (snapshot.h); false for what else lies there. */
static bool is_unfinished(const char *name, char lock[static 64])
{
    size_t n = strlen(name), k = sizeof(".new") - 1;
    if (name[0] != '.' || n < 2 + k || n >= 60 || strcmp(name + n - k, ".new") != 0)
        return false;
    snprintf(lock, 64, "%.*s.lock", (int)(n - k), name);
    return true;
}

struct sweep {
    int root, image;
};

static int on_sweep_snapshot(void *data, const char *name)
{
    const struct sweep *w = data;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    char lock_name[64];
    if (is_unfinished(name, lock_name) &&
        lock_take(&lock, w->image, lock_name, "removing an unfinished snapshot", NULL, NULL) == 0)
        (void)!path_remove_tree(w->image, name);
    return 0;
}

static int on_sweep_image(void *data, const char *digest)
{
    struct sweep *w = data;
    CLEAN_FD int image = open_image(w->root, digest);
    w->image = image;
    if (image >= 0)
        (void)!path_each(image, ".", on_sweep_snapshot, w);
    return 0;
}

void snapshot_sweep(int cache_fd)
{
    CLEAN_FD int root = openat(cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct sweep w = {.root = root};
    if (root >= 0)
        (void)!path_each(root, ".", on_sweep_image, &w);
}

/* ---- Accounting ---- */

struct survey {
    int root, image;
    struct snapshot_usage *usage;
};

static int on_survey_snapshot(void *data, const char *name)
{
    static const char *const files[] = {SNAPSHOT_MEMORY, SNAPSHOT_STATE, SNAPSHOT_META};
    struct survey *w = data;
    struct stat st;
    char lock[64];
    bool begun = is_unfinished(name, lock);
    CLEAN_FD int dir =
        begun ? openat(w->image, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : open_snapshot(w->image, name);
    w->usage->snapshots += dir >= 0 && !begun;
    w->usage->unfinished += dir >= 0 && begun && lock_is_held(w->image, lock) == 0;
    for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++)
        if (fstatat(dir, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            w->usage->bytes += (uint64_t)st.st_blocks * 512;
    return 0;
}

static int on_survey_image(void *data, const char *digest)
{
    struct survey *w = data;
    CLEAN_FD int image = open_image(w->root, digest);
    w->image = image;
    unsigned before = w->usage->snapshots;
    if (image >= 0)
        (void)!path_each(image, ".", on_survey_snapshot, w);
    w->usage->images += w->usage->snapshots > before;
    return 0;
}

void snapshot_survey(int cache_fd, struct snapshot_usage *ret)
{
    *ret = (struct snapshot_usage){0};
    CLEAN_FD int root = openat(cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct survey w = {.root = root, .usage = ret};
    if (root >= 0)
        (void)!path_each(root, ".", on_survey_image, &w);
}
