#include "builder/devimage.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/nar.h"
#include "image/cpio.h"
#include "image/ext4.h"
#include "image/kernel.h"
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CMDLINE_BUILDER "mvm.root=vda mvm.init=/sbin/mvm-host-vm-init mvm.store=vdb\n"
#define CMDLINE_RUNTIME "mvm.root=vda mvm.init=/sbin/mvm-init\n"
#define LIBRARY         (&DEVIMAGE_LIBRARY[1])
#define TOOLS           "usr/share/mvm/tools"
#define SPARE           (64ull << 20)

/* What initrds load, beyond what these depend on. */
static const char *const modules[] = {"virtio_mmio", "virtio_blk", "virtio_net", "overlay", NULL};

/* ---- Kernel and initrd ---- */

/* The only vmlinuz-* in packages/boot; its release names the modules' folder. */
static int find_kernel(const char *packages, char **ret_kernel, char **ret_modules, struct mvm_error *err)
{
    CLEAN_FREE char *boot = path_join(packages, "boot", NULL);
    DIR *d = boot ? opendir(boot) : NULL;
    if (!d)
        return mvm_error_errno(err, -errno, "the packages have no kernel");
    int r = -ENOENT;
    for (struct dirent *e; r == -ENOENT && (e = readdir(d));) {
        if (strncmp(e->d_name, "vmlinuz-", 8) != 0)
            continue;
        *ret_kernel = path_join(boot, e->d_name, NULL);
        *ret_modules = path_join(packages, "usr/lib/modules", e->d_name + 8, NULL);
        r = *ret_kernel && *ret_modules ? 0 : -ENOMEM;
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

static int write_initrd(int dirfd, const char *modules_dir, const struct install *i, struct mvm_error *err)
{
    CLEANUP(fstree_done) struct fstree t;
    int r = fstree_init(&t);
    if (r == 0)
        r = fstree_add_file(&t, "init", 0755, i->mvm_init, err);
    static const char *const dirs[] = {"dev", "proc", "sys"};
    for (size_t k = 0; r == 0 && k < ARRAY_SIZE(dirs); k++)
        r = fstree_add_dir(&t, dirs[k], 0755, err);
    /* The kernel opens it for init before devtmpfs is mounted. */
    if (r == 0)
        r = fstree_add_char(&t, "dev/console", 0600, 5, 1, err);
    if (r == 0)
        r = kernel_add_modules(&t, modules_dir, modules, err);
    CLEAN_FD int out = openat(dirfd, artifact_name(ARTIFACT_INITRD), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (r == 0 && out < 0)
        r = mvm_error_errno(err, -errno, "cannot write the initrd");
    return r < 0 ? r : cpio_write(out, &t, err);
}

/* ---- The root file system ---- */

/* Of the packages, what a builder has no use for. */
static bool is_useless(const char *path, void *data)
{
    static const char *const prefixes[] = {
        "boot",
        "var",
        "etc/systemd",
        "etc/init.d",
        "packages.txt",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/info",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/share/lintian",
        "usr/share/bash-completion",
        "usr/share/fish",
        "usr/share/zsh",
        "usr/share/gitweb",
        "usr/share/systemd",
        "usr/share/initramfs-tools",
        "usr/lib/modules",
        "usr/lib/systemd",
        "usr/lib/udev",
        "usr/lib/initramfs-tools",
        "usr/lib/klibc",
        "usr/lib/kernel",
    };
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (strcmp(path, prefixes[i]) == 0)
            return true;
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    return strcmp(name, "perl") == 0 || strcmp(name, "perl-base") == 0 || strcmp(name, "gconv") == 0 ||
           strcmp(name, "perl5") == 0 || strncmp(name, "libperl.so", 10) == 0 || strcmp(name, "systemd") == 0;
}

/* Many certificates in one file, as the package's postinst would have made it. */
static int add_certificates(struct fstree *t, const char *packages, struct mvm_error *err)
{
    CLEAN_FREE char *dir = path_join(packages, "usr/share/ca-certificates/mozilla", NULL);
    CLEAN_BUF struct buf all = BUF_INIT(8u << 20);
    struct dirent **list;
    int n = dir ? scandir(dir, &list, NULL, alphasort) : -1;
    if (n < 0)
        return mvm_error_errno(err, -errno, "the packages have no certificates");
    int r = 0;
    for (int i = 0; i < n; i++) {
        CLEAN_FREE char *path = path_join(dir, list[i]->d_name, NULL);
        if (r == 0 && path && list[i]->d_name[0] != '.')
            r = path_read_file(AT_FDCWD, path, &all, err);
        free(list[i]);
    }
    free(list);
    return r < 0 ? r : fstree_add_memory(t, "etc/ssl/certs/ca-certificates.crt", 0644, all.data, all.len, err);
}

static int add_text(struct fstree *t, const char *path, const char *text, struct mvm_error *err)
{
    return fstree_add_memory(t, path, 0644, text, strlen(text), err);
}

static int add_etc(struct fstree *t, struct mvm_error *err)
{
    static const struct {
        const char *path, *text;
    } files[] = {
        {"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
        {"etc/group", "root:x:0:\ntty:x:5:\nnixbld:x:30000:\nnogroup:x:65534:\n"},
        {"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
        {"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
        {"etc/resolv.conf", ""},
        {"etc/hostname", "builder\n"},
        {"etc/nix/nix.conf",
         "experimental-features = nix-command flakes\n"
         "sandbox = true\n"
         "build-users-group =\n"
         "warn-dirty = false\n"
         "flake-registry =\n" /* the global one is fetched on each evaluation; add_registry() has the names people use
                               */
         "log-lines = 25\n"
         "connect-timeout = 5\n"
         "download-attempts = 3\n"
         "fsync-store-paths = true\n" /* a builder that is killed leaves no registered path without its content */},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++)
        r = add_text(t, files[i].path, files[i].text, err);
    static const char *const dirs[] = {"dev", "proc", "sys",     "run", "tmp", "root",
                                       "nix", "var",  "var/tmp", "mnt", "work"};
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++)
        r = fstree_add_dir(t, dirs[i], strcmp(dirs[i], "root") == 0 ? 0700 : 0755, err);
    static const char *const links[][2] = {{"bin", "usr/bin"},
                                           {"sbin", "usr/sbin"},
                                           {"lib", "usr/lib"},
                                           {"lib64", "usr/lib64"},
                                           {"usr/bin/sh", "busybox"}};
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(links); i++)
        r = fstree_add_symlink(t, links[i][0], links[i][1], err);
    return r;
}

/* The flake with what guests are made of: static tools, kernel, initrd. */
static int add_tools(struct fstree *t, const char *dir_path, const char *packages, const struct install *i,
                     struct mvm_error *err)
{
    CLEAN_FREE char *flake = path_join(i->nix, "tools/flake.nix", NULL);
    CLEAN_FREE char *busybox = path_join(packages, "usr/bin/busybox", NULL);
    CLEAN_FREE char *kernel = path_join(dir_path, artifact_name(ARTIFACT_VMLINUX), NULL);
    CLEAN_FREE char *initrd = path_join(dir_path, artifact_name(ARTIFACT_INITRD), NULL);
    if (!flake || !busybox || !kernel || !initrd)
        return mvm_error_errno(err, -ENOMEM, "tools");
    const struct {
        const char *path, *source;
        mode_t mode;
    } files[] = {
        {TOOLS "/flake.nix", flake, 0644},          {TOOLS "/bin/busybox", busybox, 0755},
        {TOOLS "/bin/mvm-init", i->mvm_init, 0755}, {TOOLS "/bin/mvm-mkrootfs", i->mkrootfs, 0755},
        {TOOLS "/kernel/vmlinux", kernel, 0644},    {TOOLS "/kernel/initrd", initrd, 0644},
    };
    int r = 0;
    for (size_t k = 0; r == 0 && k < ARRAY_SIZE(files); k++)
        r = fstree_add_file(t, files[k].path, files[k].mode, files[k].source, err);
    return r < 0 ? r : add_text(t, TOOLS "/kernel/cmdline.txt", CMDLINE_RUNTIME, err);
}

/* The library's text, without what only the checkout needs. */
static bool is_not_library(const char *path, void *data)
{
    const char *dot = strrchr(path, '.');
    return strcmp(path, "meson.build") == 0 || strcmp(path, "tools") == 0 || strcmp(path, "images") == 0 ||
           (dot && strcmp(dot, ".lock") == 0);
}

static int registry_entry(struct buf *b, const struct fstree *t, const char *id, const char *path,
                          char hash[static NAR_HASH_SIZE], struct mvm_error *err)
{
    int r = nar_hash(fstree_find(t, path), hash, err);
    if (r < 0)
        return r;
    /* With its hash known, Nix takes the store's copy instead of reading the folder on each evaluation. */
    return buf_printf(b,
                      "%s{\"from\":{\"type\":\"indirect\",\"id\":\"%s\"},"
                      "\"to\":{\"type\":\"path\",\"path\":\"/%s\",\"narHash\":\"%s\"},\"exact\":true}",
                      b->data[b->len - 1] == '[' ? "" : ",", id, path, hash);
}

/* What flakes commonly refer to by name and Nix's global registry would resolve. */
static const char common_entries[] =
    ",{\"from\":{\"type\":\"indirect\",\"id\":\"nixpkgs\"},"
    "\"to\":{\"type\":\"github\",\"owner\":\"NixOS\",\"repo\":\"nixpkgs\",\"ref\":\"nixpkgs-unstable\"}}"
    ",{\"from\":{\"type\":\"indirect\",\"id\":\"flake-utils\"},"
    "\"to\":{\"type\":\"github\",\"owner\":\"numtide\",\"repo\":\"flake-utils\"}}"
    ",{\"from\":{\"type\":\"indirect\",\"id\":\"flake-parts\"},"
    "\"to\":{\"type\":\"github\",\"owner\":\"hercules-ci\",\"repo\":\"flake-parts\"}}";

static int add_registry(struct fstree *t, struct devimage_flakes *ret, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = buf_str(&b, "{\"version\":2,\"flakes\":[");
    if (r == 0)
        r = registry_entry(&b, t, "mvm", LIBRARY, ret->library, err);
    if (r == 0)
        r = registry_entry(&b, t, "mvm-tools", TOOLS, ret->tools, err);
    if (r == 0)
        r = buf_printf(&b, "%s]}\n", common_entries);
    return r < 0 ? r : fstree_add_memory(t, "etc/nix/registry.json", 0644, b.data, b.len, err);
}

static int write_rootfs(int dirfd, const char *dir_path, const char *packages, const struct install *i,
                        struct devimage_flakes *flakes, struct mvm_error *err)
{
    CLEANUP(fstree_done) struct fstree t;
    int r = fstree_init(&t);
    if (r == 0)
        r = fstree_add_tree(&t, "", packages, is_useless, NULL, err);
    if (r == 0)
        r = add_etc(&t, err);
    if (r == 0)
        r = add_certificates(&t, packages, err);
    if (r == 0)
        r = fstree_add_file(&t, "usr/sbin/mvm-host-vm-init", 0755, i->mvm_init, err);
    if (r == 0)
        r = add_tools(&t, dir_path, packages, i, err);
    if (r == 0)
        r = fstree_add_tree(&t, LIBRARY, i->nix, is_not_library, NULL, err);
    if (r == 0)
        r = add_registry(&t, flakes, err);
    if (r < 0)
        return r;
    CLEAN_FD int out = openat(dirfd, artifact_name(ARTIFACT_ROOTFS), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0)
        return mvm_error_errno(err, -errno, "cannot write the root file system");
    static const struct ext4_opts opts = {
        .spare = SPARE,
        .uuid = {0x6d, 0x76, 0x6d, 0x2d, 0x64, 0x65, 0x76, 0x2d, 0x69, 0x6d, 0x61, 0x67, 0x65, 0x2d, 0x30, 0x31},
        .label = "mvm-builder",
        .time = 1,
    };
    return ext4_write(out, &t, &opts, err);
}

int devimage_write(int dirfd, const char *dir_path, const char *packages, const struct install *i,
                   struct devimage_flakes *ret, struct mvm_error *err)
{
    CLEAN_FREE char *kernel = NULL;
    CLEAN_FREE char *modules_dir = NULL;
    int r = find_kernel(packages, &kernel, &modules_dir, err);
    if (r == 0)
        r = write_kernel(dirfd, kernel, err);
    if (r == 0)
        r = write_initrd(dirfd, modules_dir, i, err);
    if (r == 0)
        r = write_rootfs(dirfd, dir_path, packages, i, ret, err);
    if (r == 0)
        r = path_write_file(dirfd, artifact_name(ARTIFACT_CMDLINE), CMDLINE_BUILDER, strlen(CMDLINE_BUILDER), 0644,
                            false, err);
    return r;
}
