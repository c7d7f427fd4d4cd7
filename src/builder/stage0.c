#include "builder/stage0.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "builder/devimage.h"
#include "builder/install.h"
#include "builder/packages.h"
#include "cache/fingerprint.h"
#include "cache/lock.h"
#include "cache/statindex.h"
#include "image/ext4.h"
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILDS         "dev/builds"
#define CURRENT        "current"
#define STAGE          ".stage-0"
#define PROVENANCE     "provenance.json"
#define GUEST_INIT     "/sbin/mvm-host-vm-init"
#define RECIPE_VERSION "2" /* raised when devimage.c makes something else of the same inputs */

/* ---- Which image this installation wants ---- */

struct id_walk {
    struct fingerprint *f;
    struct statindex *index;
    struct mvm_error *err;
};

static int add_file(struct id_walk *w, const char *label, const char *path)
{
    uint64_t read_at = clock_wall();
    struct stat st;
    char digest[SHA256_HEX_SIZE];
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s", path);
    if (!statindex_get(w->index, path, &st, digest)) {
        int r = sha256_fd(fd, digest);
        if (r < 0)
            return mvm_error_errno(w->err, r, "cannot read %s", path);
        statindex_put(w->index, path, &st, read_at, digest);
    }
    fingerprint_add_string(w->f, label, digest);
    fingerprint_add_string(w->f, "mode", st.st_mode & 0100 ? "x" : "-");
    return 0;
}

static int not_dot(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int add_folder(struct id_walk *w, const char *label, const char *path)
{
    struct dirent **list;
    int n = scandir(path, &list, not_dot, alphasort);
    if (n < 0)
        return mvm_error_errno(w->err, -errno, "cannot read %s", path);
    int r = 0;
    for (int i = 0; i < n; i++) {
        CLEAN_FREE char *sub = path_join(path, list[i]->d_name, NULL);
        CLEAN_FREE char *name = path_join(label, list[i]->d_name, NULL);
        struct stat st;
        if (r == 0 && (!sub || !name || stat(sub, &st) < 0))
            r = mvm_error_errno(w->err, -EIO, "cannot read %s", path);
        if (r == 0)
            r = S_ISDIR(st.st_mode) ? add_folder(w, name, sub) : add_file(w, name, sub);
        free(list[i]);
    }
    free(list);
    return r;
}

static int compute_id(struct id_walk *w, const struct install *inst, char id[static SHA256_HEX_SIZE])
{
    fingerprint_init(w->f, "dev image " RECIPE_VERSION);
    fingerprint_add_string(w->f, "suite", PACKAGES_SUITE);
    fingerprint_add_string(w->f, "arch", packages_arch());
    fingerprint_add_string(w->f, "kernel", packages_kernel());
    for (size_t i = 0; packages_list[i]; i++)
        fingerprint_add_string(w->f, "package", packages_list[i]);
    int r = add_file(w, "mvm-init", inst->mvm_init);
    if (r == 0)
        r = add_file(w, "mvm-mkrootfs", inst->mkrootfs);
    if (r == 0)
        r = add_folder(w, "nix", inst->nix);
    if (r == 0)
        fingerprint_final(w->f, id);
    return r;
}

int stage0_wanted_id(struct home *h, char id[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    CLEAN_INSTALL struct install inst = {0};
    int r = install_find(&inst, err);
    if (r < 0)
        return r;
    struct fingerprint f;
    struct id_walk w = {.f = &f, .index = statindex_load(h->cache_fd, inst.nix), .err = err};
    if (!w.index)
        return mvm_error_errno(err, -ENOMEM, "builder");
    r = compute_id(&w, &inst, id);
    statindex_save(w.index);
    statindex_free(w.index);
    return r;
}

/* ---- Judging what is there ---- */

/* Is the folder a whole dev image of that id? Cheap checks: sizes and digests were recorded when it was promoted. */
static int check_image(int dirfd, const char *path, const char *id, struct devimage_flakes *ret, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    const char *have, *library, *tools;
    int r = json_load(dirfd, PROVENANCE, 1u << 20, &o, err);
    if (r == 0)
        r = json_get_string(o, "id", &have, err);
    if (r == 0)
        r = json_get_string(o, "library", &library, err);
    if (r == 0)
        r = json_get_string(o, "tools", &tools, err);
    if (r < 0)
        return r;
    snprintf(ret->library, sizeof(ret->library), "%s", library);
    snprintf(ret->tools, sizeof(ret->tools), "%s", tools);
    if (strcmp(have, id) != 0)
        return mvm_error_set(err, -ESTALE, "it was made by another version of mvmctl");
    r = image_validate(dirfd, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *rootfs = path_join(path, artifact_name(ARTIFACT_ROOTFS), NULL);
    if (!rootfs || ext4_has(rootfs, GUEST_INIT, err) != 1)
        return mvm_error_set(err, -EINVAL, "its root file system has no " GUEST_INIT);
    return 0;
}

static int open_image(struct stage0_image *img, struct home *h, int builds, const char *id, struct mvm_error *err)
{
    char name[17];
    snprintf(name, sizeof(name), "%.16s", id);
    CLEAN_FD int dir = openat(builds, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return mvm_error_set(err, -ENOENT, "there is none of this version");
    CLEAN_FREE char *path = path_join(h->state, BUILDS, name, NULL);
    int r = path ? check_image(dir, path, id, &img->flakes, err) : -ENOMEM;
    if (r < 0)
        return r;
    img->dirfd = TAKE_FD(dir);
    img->path = TAKE_PTR(path);
    memcpy(img->id, id, SHA256_HEX_SIZE);
    return 0;
}

/* ---- Making one ---- */

static int write_provenance(int dirfd, const char *packages, const char *id, const struct devimage_flakes *flakes,
                            struct mvm_error *err)
{
    CLEAN_FREE char *list = path_join(packages, "packages.txt", NULL);
    CLEAN_BUF struct buf text = BUF_INIT(1u << 20);
    int r = list ? path_read_file(AT_FDCWD, list, &text, err) : -ENOMEM;
    if (r < 0)
        return r;
    CLEAN_JSON json_object *o = json_object_new_object();
    json_object *names = json_object_new_array();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "source_kind", "distribution-packages");
    json_add_string(o, "suite", PACKAGES_SUITE);
    json_add_string(o, "id", id);
    json_add_string(o, "library", flakes->library);
    json_add_string(o, "tools", flakes->tools);
    char *at = text.len ? (char *)text.data : NULL;
    for (char *line = strsep(&at, "\n"); line; line = strsep(&at, "\n")) {
        size_t n = strlen(line);
        if (n > 4 && strcmp(line + n - 4, ".deb") == 0)
            json_object_array_add(names, json_object_new_string_len(line, (int)n - 4));
    }
    json_add(o, "packages", names);
    return json_save(dirfd, PROVENANCE, o, 0644, false, err);
}

static int sync_all(int dirfd)
{
    static const char *const names[] = {"vmlinux", "initrd", "rootfs.ext4", "cmdline.txt", PROVENANCE};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEAN_FD int fd = openat(dirfd, names[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
            return -errno;
    }
    return fsync(dirfd) < 0 ? -errno : 0;
}

/* Keeps the new image and the one before it. */
static void remove_old(int builds, const char *keep, const char *previous)
{
    int dup_fd = openat(builds, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (path_is_plain_name(e->d_name, 64) && strcmp(e->d_name, keep) != 0 && strcmp(e->d_name, previous) != 0)
            (void)!path_remove_tree(builds, e->d_name);
    closedir(d);
}

static int promote(struct home *h, int builds, const char *name, struct mvm_error *err)
{
    char target[64], previous[256] = "";
    (void)!path_remove_tree(builds, name); /* damaged, or this would not happen */
    if (renameat(builds, STAGE, builds, name) < 0)
        return mvm_error_errno(err, -errno, "cannot promote the dev image");
    fsync(builds);
    CLEAN_FD int dev = openat(h->state_fd, "dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n = dev >= 0 ? readlinkat(dev, CURRENT, previous, sizeof(previous) - 1) : -1;
    previous[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(previous, '/');
    remove_old(builds, name, slash ? slash + 1 : previous);
    snprintf(target, sizeof(target), "builds/%s", name);
    return path_replace_symlink(dev, target, CURRENT, err);
}

static int assemble(struct home *h, int builds, const char *id, struct progress *p, struct mvm_error *err)
{
    CLEAN_INSTALL struct install inst = {0};
    CLEAN_FREE char *packages = NULL;
    int r = install_find(&inst, err);
    if (r == 0)
        r = packages_ensure(h, p, &packages, err);
    if (r < 0)
        return r;
    progress_phase(p, "stage0-image");
    progress_detail(p, "kernel, initrd and root file system");
    struct devimage_flakes flakes;
    char name[17];
    snprintf(name, sizeof(name), "%.16s", id);
    CLEAN_FREE char *stage_path = path_join(h->state, BUILDS, STAGE, NULL);
    r = path_remove_tree(builds, STAGE);
    CLEAN_FD int stage = r == 0 ? path_open_dir(builds, STAGE, err) : r;
    if (stage < 0 || !stage_path)
        return mvm_error_errno(err, stage < 0 ? stage : -ENOMEM, "cannot make a staging folder");
    r = devimage_write(stage, stage_path, packages, &inst, &flakes, err);
    if (r == 0)
        r = write_provenance(stage, packages, id, &flakes, err);
    if (r == 0)
        r = image_validate(stage, err);
    if (r == 0)
        r = sync_all(stage);
    if (r == 0)
        r = promote(h, builds, name, err);
    if (r < 0) {
        (void)!path_remove_tree(builds, STAGE);
        return mvm_error_wrap(err, "cannot assemble the dev image");
    }
    return 0;
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for a dev image that another process assembles (%s)", holder);
}

static int ensure(struct stage0_image *img, struct home *h, struct progress *p, struct mvm_error *err)
{
    char id[SHA256_HEX_SIZE];
    int r = stage0_wanted_id(h, id, err);
    CLEAN_FD int builds = r < 0 ? r : path_open_dir(h->state_fd, BUILDS, err);
    if (builds < 0)
        return builds;
    struct mvm_error why = MVM_ERROR_INIT;
    if (open_image(img, h, builds, id, &why) == 0)
        return 0;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    const struct lock_wait wait = {.waiting = say_waiting, .data = p};
    r = lock_take(&lock, builds, ".lock", "assembling the dev image", &wait, err);
    if (r < 0)
        return r;
    if (open_image(img, h, builds, id, &why) == 0)
        return 0; /* somebody else was faster */
    progress_verbose(p, "dev image: %s", why.msg);
    r = assemble(h, builds, id, p, err);
    return r < 0 ? r : open_image(img, h, builds, id, err);
}

int stage0_ensure(struct stage0_image *img, struct home *h, struct progress *p, struct mvm_error *err)
{
    int r = ensure(img, h, p, err);
    if (r < 0) {
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}

void stage0_image_done(struct stage0_image *img)
{
    fd_closep(&img->dirfd);
    free(img->path);
    img->path = NULL;
}
