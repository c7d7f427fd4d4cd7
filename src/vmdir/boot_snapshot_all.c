/* The part of boot_snapshot.h that looks at the snapshots of all images. */
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "vmdir/boot_snapshot.h"
#include "vmdir/snapshot_meta.h"

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
    return open_below(image, name, sizeof(((struct boot_snapshot *)0)->name) - 1);
}

/* One pass over all of them. */
struct walk {
    void (*each)(struct walk *w, const char *name); /* for what lies in an image's folder */
    void *data;
    int root, image;
    const char *digest; /* the image's */
    unsigned found;     /* `each`'s, 0 at the beginning of an image */
    int error;          /* the first image's that could not be read to its end; the others are looked at all the same */
};

static int on_entry(void *data, const char *name)
{
    struct walk *w = data;
    w->each(w, name);
    return 0;
}

static int on_image(void *data, const char *digest)
{
    struct walk *w = data;
    CLEAN_FD int image = open_image(w->root, digest);
    w->image = image;
    w->digest = digest;
    w->found = 0;
    int r = image < 0 ? 0 : path_each(image, ".", on_entry, w);
    w->error = w->error ? w->error : r;
    return 0;
}

static int walk_all(int cache_fd, void (*each)(struct walk *w, const char *name), void *data)
{
    CLEAN_FD int root = openat(cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct walk w = {.each = each, .data = data, .root = root};
    int r = root < 0 ? -errno : path_each(root, ".", on_image, &w);
    return r ? r : w.error;
}

/* ---- Reading all of it ---- */

static int read_snapshot(int dir, struct mvm_error *err)
{
    CLEAN_JSON json_object *meta = NULL;
    CLEAN_FD int state = -1;
    CLEAN_FD int memory = -1;
    int r = json_load_sealed(dir, BOOT_SNAPSHOT_META, SNAPSHOT_META_MAX, &meta, err);
    if (r == 0)
        r = snapshot_meta_open_file(meta, BOOT_SNAPSHOT_STATE, dir, BOOT_SNAPSHOT_STATE, NULL, &state, err);
    if (r == 0)
        r = snapshot_meta_open_file(meta, BOOT_SNAPSHOT_MEMORY, dir, BOOT_SNAPSHOT_MEMORY, NULL, &memory, err);
    return mvm_error_is_absent(r) || mvm_error_is_damage(r) ? -ESTALE : r;
}

struct reading {
    bool remove;
    void (*found)(void *data, const char *name, int r, const char *why);
    void *data;
};

static void read_one(struct walk *w, const char *name)
{
    const struct reading *r = w->data;
    char full[160];
    struct mvm_error why = MVM_ERROR_INIT;
    CLEAN_FD int dir = open_snapshot(w->image, name);
    if (dir < 0)
        return; /* the file with the image's path, or it went meanwhile */
    int error = read_snapshot(dir, &why);
    snprintf(full, sizeof(full), "%.12s/%s", w->digest, name);
    r->found(r->data, full, error, why.msg);
    if (error == -ESTALE && r->remove)
        (void)!path_remove_tree(w->image, name);
}

int boot_snapshot_read_all(int cache_fd, bool remove,
                           void (*found)(void *data, const char *name, int r, const char *why), void *data)
{
    struct reading reading = {.remove = remove, .found = found, .data = data};
    int r = walk_all(cache_fd, read_one, &reading);
    return mvm_error_is_absent(r) ? 0 : r;
}

/* ---- Those in the making ---- */

/* .NAME.new, and which lock its maker holds (boot_snapshot.h); false for what else lies there. */
static bool is_unfinished(const char *name, char lock[static 128])
{
    size_t n = strlen(name), k = sizeof(".new") - 1;
    if (name[0] != '.' || n < 2 + k || n >= 60 || strcmp(name + n - k, ".new") != 0)
        return false;
    snprintf(lock, 128, "%.*s.lock", (int)(n - k), name);
    return true;
}

static void sweep_one(struct walk *w, const char *name)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    char lock_name[128];
    if (is_unfinished(name, lock_name) &&
        lock_take(&lock, w->image, lock_name, "removing an unfinished snapshot", NULL, NULL) == 0)
        (void)!path_remove_tree(w->image, name);
}

/* Here and below, what cannot be read has none. */
void boot_snapshot_sweep(int cache_fd)
{
    (void)!walk_all(cache_fd, sweep_one, NULL);
}

/* ---- Accounting ---- */

static void count_one(struct walk *w, const char *name)
{
    static const char *const files[] = {BOOT_SNAPSHOT_MEMORY, BOOT_SNAPSHOT_STATE, BOOT_SNAPSHOT_META};
    struct boot_snapshot_usage *u = w->data;
    struct stat st;
    char lock[128];
    bool begun = is_unfinished(name, lock);
    CLEAN_FD int dir =
        begun ? openat(w->image, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : open_snapshot(w->image, name);
    if (dir < 0)
        return;
    if (begun) {
        u->unfinished += lock_is_held(w->image, lock) == 0;
    } else {
        u->images += w->found++ == 0;
        u->snapshots++;
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (fstatat(dir, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            u->bytes += (uint64_t)st.st_blocks * 512;
}

void boot_snapshot_survey(int cache_fd, struct boot_snapshot_usage *ret)
{
    *ret = (struct boot_snapshot_usage){0};
    (void)!walk_all(cache_fd, count_one, ret);
}
