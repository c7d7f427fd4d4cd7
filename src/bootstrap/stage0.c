#include "bootstrap/stage0.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "bootstrap/devimage.h"
#include "bootstrap/packages.h"
#include "bootstrap/seed.h"
#include "cache/fingerprint.h"
#include "cache/lock.h"
#include "host/json.h"
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUILDS     "dev/builds"
#define CURRENT    "current"
#define STAGE      ".stage-0"
#define LOCK       ".lock"
#define PROVENANCE "provenance.json"
#define NAME_SIZE  17

static int read_packages(const char *packages, struct buf *text, struct mvm_error *err)
{
    CLEAN_FREE char *list = path_join(packages, "packages.txt", NULL);
    return list ? path_read_file(AT_FDCWD, list, text, err) : mvm_error_errno(err, -ENOMEM, "packages");
}

/* The image's name: what it was made from. */
static int make_name(const struct source *source, const char *packages, char name[static NAME_SIZE],
                     struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(PACKAGES_MAX_LIST);
    char id[SHA256_HEX_SIZE];
    struct fingerprint f;
    int r = read_packages(packages, &text, err);
    if (r < 0)
        return r;
    source_fingerprint(source, id);
    fingerprint_init(&f, "dev image 3");
    fingerprint_add_string(&f, "source", id);
    fingerprint_add(&f, "packages", text.data, text.len);
    fingerprint_final(&f, id);
    snprintf(name, NAME_SIZE, "%.16s", id);
    return 0;
}

static int write_provenance(int dirfd, const char *packages, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(PACKAGES_MAX_LIST);
    int r = read_packages(packages, &text, err);
    if (r < 0)
        return r;
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "source_kind", "distribution-packages");
    json_add_string(o, "suite", PACKAGES_SUITE);
    json_add(o, "packages", packages_to_json(buf_cstr(&text)));
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

static int make_current(struct home *h, int builds, const char *name, struct mvm_error *err)
{
    char target[64], previous[256] = "";
    CLEAN_FD int dev = openat(h->state_fd, "dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n = dev >= 0 ? readlinkat(dev, CURRENT, previous, sizeof(previous) - 1) : -1;
    previous[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(previous, '/');
    remove_old(builds, name, slash ? slash + 1 : previous);
    snprintf(target, sizeof(target), "builds/%s", name);
    return path_replace_symlink(dev, target, CURRENT, err);
}

static int promote(int builds, const char *name, struct mvm_error *err)
{
    (void)!path_remove_tree(builds, name); /* damaged, or this would not happen */
    if (renameat(builds, STAGE, builds, name) < 0)
        return mvm_error_errno(err, -errno, "cannot promote the dev image");
    fsync(builds);
    return 0;
}

static int write_image(struct home *h, int builds, const char *packages, const struct source *source,
                       struct mvm_error *err)
{
    CLEAN_FREE char *stage_path = path_join(h->state, BUILDS, STAGE, NULL);
    int r = path_remove_tree(builds, STAGE);
    CLEAN_FD int stage = r == 0 ? path_open_dir(builds, STAGE, err) : r;
    if (stage < 0 || !stage_path)
        return mvm_error_errno(err, stage < 0 ? stage : -ENOMEM, "cannot make a staging folder");
    r = devimage_write(stage, stage_path, packages, source, err);
    if (r == 0)
        r = write_provenance(stage, packages, err);
    if (r == 0)
        r = image_validate(stage, err);
    return r < 0 ? r : sync_all(stage);
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for a dev image that another process assembles (%s)", holder);
}

static int assemble(struct home *h, const struct source *source, struct progress *p, struct mvm_error *err)
{
    CLEAN_FREE char *packages = NULL;
    char name[NAME_SIZE];
    CLEAN_FD int builds = path_open_dir(h->state_fd, BUILDS, err);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    const struct lock_wait wait = {.waiting = say_waiting, .data = p};
    int r = builds < 0 ? builds : lock_take(&lock, builds, LOCK, "assembling the dev image", &wait, err);
    if (r == 0)
        r = packages_ensure(h, p, &packages, err);
    if (r == 0)
        r = make_name(source, packages, name, err);
    if (r < 0)
        return r;
    /* Somebody else may have been faster; or it is there, and only the link to it was lost. */
    CLEAN_SEED struct seed there = SEED_INIT;
    CLEAN_FREE char *folder = path_join(BUILDS, name, NULL);
    if (folder && seed_open(&there, h, folder, NULL) == 0)
        return make_current(h, builds, name, err);
    progress_phase(p, "stage0-image");
    progress_detail(p, "kernel, initrd and root file system");
    r = write_image(h, builds, packages, source, err);
    if (r == 0)
        r = promote(builds, name, err);
    if (r == 0)
        r = make_current(h, builds, name, err);
    if (r < 0)
        (void)!path_remove_tree(builds, STAGE);
    return r < 0 ? mvm_error_wrap(err, "cannot assemble the dev image") : 0;
}

void stage0_sweep(struct home *h)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int builds = os_open_beneath(h->state_fd, BUILDS, O_RDONLY | O_DIRECTORY, 0);
    if (builds >= 0 && lock_take(&lock, builds, LOCK, "removing an unfinished dev image", NULL, NULL) == 0)
        (void)!path_remove_tree(builds, STAGE);
}

int stage0_assemble(struct home *h, const struct source *source, struct progress *p, struct mvm_error *err)
{
    int r = assemble(h, source, p, err);
    if (r < 0) {
        err->phase = MVM_PHASE_BUILDER_BOOTSTRAP;
        mvm_error_hint(err, "mvmctl doctor checks what a build needs");
    }
    return r;
}
