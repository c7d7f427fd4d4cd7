#include "bootstrap/devimage.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/cpio.h"
#include "image/kernel.h"
#include "image/manifest.h"
#include "image/spec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Working folders beside the image's files while it is made. */
#define SOURCE  "source"
#define MODULES "modules"

/* What initrds load, beyond what these depend on. */
static const char *const modules[] = {"virtio_mmio", "virtio_blk", "virtio_net", "overlay", NULL};

/* ---- Kernel and modules ---- */

struct packaged_kernel {
    char *image, *config, *modules; /* paths: vmlinuz-RELEASE, config-RELEASE, the modules' folder */
};

static void packaged_kernel_done(struct packaged_kernel *k)
{
    free(k->image);
    free(k->config);
    free(k->modules);
}

/* The only vmlinuz-* in packages/boot; its release names the others. */
static int find_kernel(const char *packages, struct packaged_kernel *k, struct mvm_error *err)
{
    CLEAN_FREE char *boot = path_join(packages, "boot", NULL);
    DIR *d = boot ? opendir(boot) : NULL;
    if (!d)
        return mvm_error_errno(err, -errno, "the packages have no kernel");
    int r = -ENOENT;
    for (struct dirent *e; r == -ENOENT && (e = readdir(d));) {
        if (strncmp(e->d_name, "vmlinuz-", 8) != 0)
            continue;
        k->image = path_join(boot, e->d_name, NULL);
        k->modules = path_join(packages, "usr/lib/modules", e->d_name + 8, NULL);
        r = asprintf(&k->config, "%s/config-%s", boot, e->d_name + 8) >= 0 && k->image && k->modules ? 0 : -ENOMEM;
    }
    closedir(d);
    return r < 0 ? mvm_error_errno(err, r, "the packages have no kernel") : 0;
}

static int write_kernel(int dirfd, const char *kernel, struct mvm_error *err)
{
    CLEAN_FD int in = open(kernel, O_RDONLY | O_CLOEXEC);
    CLEAN_FD int out = openat(dirfd, artifact_name(ARTIFACT_VMLINUX), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (in < 0 || out < 0)
        return mvm_error_errno(err, -errno, "cannot copy the kernel");
    return kernel_extract(in, out, err);
}

/* The modules of initrds, uncompressed, as files: descriptions take them from a folder. */
static int write_modules(int dirfd, const char *modules_dir, struct mvm_error *err)
{
    CLEAN_FSTREE struct fstree t = {0};
    int r = fstree_init(&t);
    if (r == 0)
        r = fstree_add_dir(&t, MODULES, 0755, err);
    if (r == 0)
        r = kernel_add_modules(&t, modules_dir, modules, err);
    CLEAN_FD int dir = r == 0 ? path_open_dir(dirfd, MODULES, err) : r;
    if (dir < 0)
        return dir;
    const struct fsnode *all = fstree_find(&t, MODULES);
    for (size_t i = 0; r == 0 && i < all->n_children; i++)
        r = path_write_file(dir, all->children[i]->name, all->children[i]->memory, all->children[i]->size, 0644, false,
                            err);
    return r;
}

/* ---- The descriptions ---- */

struct place {
    const char *name;
    char *path;
};

#define N_PLACES 10

static void places_done(struct place (*p)[N_PLACES])
{
    for (size_t i = 0; i < ARRAY_SIZE(*p); i++)
        free((*p)[i].path);
}

static int make(int dirfd, const char *description, const struct place *places, size_t n, enum artifact artifact,
                struct mvm_error *err)
{
    CLEAN_SPEC struct spec s = {0};
    CLEAN_BUF struct buf text = BUF_INIT(SPEC_MAX);
    int r = spec_init(&s, NULL);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = spec_set(&s, places[i].name, places[i].path);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start");
    r = path_read_file(dirfd, description, &text, err);
    if (r == 0)
        r = spec_parse(&s, text.data, text.len, err);
    if (r < 0)
        return mvm_error_wrap(err, "%s", description);
    CLEAN_FD int fd = openat(dirfd, artifact_name(artifact), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot write %s", artifact_name(artifact));
    return artifact == ARTIFACT_INITRD ? cpio_write(fd, &s.tree, err) : ext4_write(fd, &s.tree, &s.opts, err);
}

#define DESCRIPTION(name) SOURCE "/" SOURCE_IMAGE "/" name

static int write_images(int dirfd, const char *dir_path, const char *packages, const char *config,
                        struct mvm_error *err)
{
    CLEANUP(places_done)
    struct place places[N_PLACES] = {
        {"packages", path_join(packages, "usr", NULL)},
        {"list", path_join(packages, "packages.txt", NULL)},
        {"nix", path_join(dir_path, SOURCE, NULL)},
        {"image", path_join(dir_path, SOURCE "/" SOURCE_IMAGE, NULL)},
        {"programs", path_join(dir_path, SOURCE "/" SOURCE_PROGRAMS, NULL)},
        {"modules", path_join(dir_path, MODULES, NULL)},
        {"kernel", path_join(dir_path, artifact_name(ARTIFACT_VMLINUX), NULL)},
        {"initrd", path_join(dir_path, artifact_name(ARTIFACT_INITRD), NULL)},
        {"slim", path_join(dir_path, SOURCE "/" SOURCE_SLIM, NULL)},
        {"config", strdup(config)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (!places[i].path)
            return mvm_error_errno(err, -ENOMEM, "image");
    CLEAN_FD int slim = path_open_dir(dirfd, SOURCE "/" SOURCE_SLIM, err); /* made where it is absent */
    int r = slim < 0 ? slim : 0;
    if (r == 0)
        r = make(dirfd, DESCRIPTION("initrd.spec"), places, ARRAY_SIZE(places), ARTIFACT_INITRD, err);
    if (r == 0)
        r = make(dirfd, DESCRIPTION("rootfs.spec"), places, ARRAY_SIZE(places), ARTIFACT_ROOTFS, err);
    if (r == 0 && renameat(dirfd, DESCRIPTION("cmdline.txt"), dirfd, artifact_name(ARTIFACT_CMDLINE)) < 0)
        r = mvm_error_errno(err, -errno, "cannot write %s", artifact_name(ARTIFACT_CMDLINE));
    return r;
}

int devimage_write(int dirfd, const char *dir_path, const char *packages, const struct source *source,
                   struct mvm_error *err)
{
    CLEANUP(packaged_kernel_done) struct packaged_kernel kernel = {0};
    CLEAN_FD int copy = path_open_dir(dirfd, SOURCE, err);
    int r = copy < 0 ? copy : source_copy(source, copy, err);
    if (r == 0)
        r = find_kernel(packages, &kernel, err);
    if (r == 0)
        r = write_kernel(dirfd, kernel.image, err);
    if (r == 0)
        r = write_modules(dirfd, kernel.modules, err);
    if (r == 0)
        r = write_images(dirfd, dir_path, packages, kernel.config, err);
    if (r == 0)
        r = path_remove_tree(dirfd, SOURCE);
    if (r == 0)
        r = path_remove_tree(dirfd, MODULES);
    return r;
}
