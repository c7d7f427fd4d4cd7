/* The part of snapshot.h that looks at the snapshots of all images. */
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "machine/snapmeta.h"
#include "machine/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    CLEAN_FD int dir = path_is_plain_name(name, sizeof(((struct snapshot *)0)->name) - 1)
                           ? openat(w->image, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                           : -1;
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
    if (!path_is_plain_name(digest, SHA256_HEX_SIZE - 1))
        return 0;
    CLEAN_FD int image = openat(w->root, digest, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
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

/* ---- Accounting ---- */

static void survey_image(int image, struct snapshot_usage *u)
{
    DIR *d = fdopendir(image);
    if (!d)
        close(image);
    for (struct dirent *e; d && (e = readdir(d));) {
        CLEAN_FD int dir = path_is_plain_name(e->d_name, sizeof(((struct snapshot *)0)->name) - 1)
                               ? openat(image, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                               : -1;
        static const char *const files[] = {SNAPSHOT_MEMORY, SNAPSHOT_STATE, SNAPSHOT_META};
        struct stat st;
        u->snapshots += dir >= 0;
        for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++)
            if (fstatat(dir, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
                u->bytes += (uint64_t)st.st_blocks * 512;
    }
    if (d)
        closedir(d);
}

void snapshot_survey(int cache_fd, struct snapshot_usage *ret)
{
    *ret = (struct snapshot_usage){0};
    int root = openat(cache_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = root >= 0 ? fdopendir(root) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        int image = path_is_plain_name(e->d_name, 64)
                        ? openat(root, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                        : -1;
        if (image < 0)
            continue;
        unsigned before = ret->snapshots;
        survey_image(image, ret);
        ret->images += ret->snapshots > before;
    }
    if (d)
        closedir(d);
}
