#include "bootstrap/seed.h"
#include "base/fd.h"
#include "base/path.h"
#include "bootstrap/packages.h"
#include "image/ext4.h"
#include "image/kernel.h"
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CURRENT    "dev/current"
#define PREBUILT   "dev/prebuilt"
#define BUILDS     "dev/builds"
#define HOST_INIT  "/sbin/mvm-host-vm-init"
#define MIN_ROOTFS (4ll << 20)

/* ---- One seed ---- */

static int open_plain(int dirfd, enum artifact a)
{
    CLEAN_FD int fd = openat(dirfd, artifact_name(a), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* What a check of the image found, 1 being good: 0, or -EINVAL with the word for what is wrong; -errno where the image
 * cannot be read now. */
static int judge(int found, const char *word, struct mvm_error *err)
{
    if (found == 1)
        return 0;
    if (found == 0 || mvm_error_is_absent(found) || mvm_error_is_damage(found))
        return mvm_error_set(err, -EINVAL, "%s", word);
    return mvm_error_set(err, found, "unreadable");
}

static int check(const struct seed *s, struct mvm_error *err)
{
    CLEAN_FD int kernel = open_plain(s->dirfd, ARTIFACT_VMLINUX);
    CLEAN_FD int rootfs = open_plain(s->dirfd, ARTIFACT_ROOTFS);
    CLEAN_FREE char *image = path_join(s->path, artifact_name(ARTIFACT_ROOTFS), NULL);
    struct stat st;
    if (!image)
        return mvm_error_errno(err, -ENOMEM, "seed");
    int r = judge(kernel < 0 ? kernel : kernel_check(kernel, NULL), "invalid_kernel", err);
    if (r == 0)
        r = judge(rootfs < 0                ? rootfs
                  : fstat(rootfs, &st) < 0  ? -errno
                  : st.st_size < MIN_ROOTFS ? 0
                                            : ext4_check_magic(rootfs),
                  "invalid_rootfs", err);
    if (r == 0)
        r = judge(ext4_has(image, HOST_INIT, NULL), "no_host_vm_init", err);
    if (r == 0)
        r = judge(ext4_has(image, PACKAGES_IN_IMAGE, NULL), "no_package_list", err);
    return r;
}

int seed_open(struct seed *s, struct home *h, const char *folder, struct mvm_error *err)
{
    *s = (struct seed)SEED_INIT;
    CLEAN_FREE char *path = path_join(h->state, folder, NULL);
    s->path = path ? realpath(path, NULL) : NULL;
    s->dirfd = s->path ? open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
    int r = s->dirfd >= 0                 ? check(s, err)
            : mvm_error_is_absent(-errno) ? mvm_error_set(err, -ENOENT, "absent")
                                          : mvm_error_set(err, -errno, "unreadable");
    if (r < 0)
        seed_done(s);
    return r;
}

void seed_done(struct seed *s)
{
    fd_closep(&s->dirfd);
    free(s->path);
    s->path = NULL;
}

json_object *seed_packages(const struct seed *s, struct mvm_error *err)
{
    CLEAN_FREE char *image = path_join(s->path, artifact_name(ARTIFACT_ROOTFS), NULL);
    CLEAN_BUF struct buf text = BUF_INIT(PACKAGES_MAX_LIST);
    int r = image ? ext4_read(image, PACKAGES_IN_IMAGE, &text, err) : mvm_error_errno(err, -ENOMEM, "seed");
    return r < 0 ? NULL : packages_to_json(buf_cstr(&text));
}

int seed_digest(const struct seed *s, char out[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    CLEAN_FD int rootfs = open_plain(s->dirfd, ARTIFACT_ROOTFS);
    int r = rootfs < 0 ? rootfs : sha256_fd(rootfs, out);
    return r < 0 ? mvm_error_errno(err, r, "cannot read the seed") : 0;
}

/* ---- What there is ---- */

static void add(struct seed_candidates *c, const char *folder, const char *label)
{
    if (c->n == SEED_MAX_CANDIDATES)
        return;
    snprintf(c->v[c->n].folder, sizeof(c->v[c->n].folder), "%s", folder);
    snprintf(c->v[c->n++].label, sizeof(c->v[0].label), "%s", label);
}

struct found {
    char name[256];
    struct timespec changed;
};

/* Versions compare as numbers where they are numbers: v0.10 is newer than v0.9. */
static int by_version(const void *a, const void *b)
{
    return strverscmp(((const struct found *)b)->name, ((const struct found *)a)->name);
}

static int by_time(const void *a, const void *b)
{
    const struct timespec *x = &((const struct found *)a)->changed, *y = &((const struct found *)b)->changed;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return x->tv_nsec < y->tv_nsec ? 1 : x->tv_nsec > y->tv_nsec ? -1 : by_version(a, b);
}

/* The folders in one of dev's folders, hidden ones left out. */
static size_t list_folder(struct home *h, const char *folder, struct found *out, size_t max)
{
    int fd = openat(h->state_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    size_t n = 0;
    struct stat st;
    if (!d)
        return 0;
    for (struct dirent *e; n < max && (e = readdir(d));) {
        if (!path_is_plain_name(e->d_name, 255) || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISDIR(st.st_mode))
            continue;
        snprintf(out[n].name, sizeof(out[n].name), "%s", e->d_name);
        out[n++].changed = st.st_mtim;
    }
    closedir(d);
    return n;
}

void seed_list(struct seed_candidates *c, struct home *h)
{
    struct found found[SEED_MAX_CANDIDATES];
    char folder[300], label[64];
    c->n = 0;
    add(c, CURRENT, "current");
    size_t n = list_folder(h, PREBUILT, found, ARRAY_SIZE(found));
    if (n)
        qsort(found, n, sizeof(*found), by_version);
    for (size_t i = 0; i < n; i++) {
        if (found[i].name[0] != 'v')
            continue;
        snprintf(folder, sizeof(folder), PREBUILT "/%.255s", found[i].name);
        snprintf(label, sizeof(label), "prebuilt %.40s", found[i].name);
        add(c, folder, label);
    }
    n = list_folder(h, BUILDS, found, ARRAY_SIZE(found));
    if (n)
        qsort(found, n, sizeof(*found), by_time);
    /* Their names are digests, which are not shown. */
    for (size_t i = 0; i < n; i++) {
        snprintf(folder, sizeof(folder), BUILDS "/%.255s", found[i].name);
        snprintf(label, sizeof(label), "build %zu", i + 1);
        add(c, folder, label);
    }
}
