#include "cache/buildercache.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/statindex.h"
#include "host/os.h"
#include "image/ext4.h"
#include "image/kernel.h"
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER      "builder-vm"
#define FINGERPRINT ".mvm-source.sha256"
#define DIGESTS     ".mvm-artifacts.sha256"
#define PROVENANCE  ".mvm-provenance.json"
#define MANIFEST    "manifest.json"
#define LIVE_LOCK   ".live"
#define BUILD_LOCK  ".build"
#define STAGE       ".stage0-"
#define PREVIOUS    ".previous"
#define NAME_SIZE   80
#define MAX_SIDECAR (1u << 20)
#define MIN_ROOTFS  (4ll << 20)
#define CONTRACT    1 /* of manifest.json; image/mkrootfs.c writes it */

static const char *const reasons[] = {
    [CACHE_MISSING_ARTIFACT] = "missing_artifact",
    [CACHE_INVALID_STAGE0_ARTIFACTS] = "invalid_stage0_artifacts",
    [CACHE_MISSING_FINGERPRINT] = "missing_fingerprint",
    [CACHE_FINGERPRINT_MISMATCH] = "fingerprint_mismatch",
    [CACHE_MISSING_ARTIFACT_DIGEST_MANIFEST] = "missing_artifact_digest_manifest",
    [CACHE_ARTIFACT_DIGEST_MISMATCH] = "artifact_digest_mismatch",
    [CACHE_MISSING_PROVENANCE] = "missing_provenance",
    [CACHE_PROVENANCE_MISMATCH] = "provenance_mismatch",
    [CACHE_HIT] = "hit",
};
_Static_assert(ARRAY_SIZE(reasons) == CACHE_REASON_COUNT, "every reason has a name");

const char *cache_reason_name(enum cache_reason r)
{
    return (unsigned)r < CACHE_REASON_COUNT ? reasons[r] : "";
}

/* What an image may consist of; the first two are required. */
static const char *const artifacts[] = {"vmlinux", "rootfs.ext4", "initrd", "cmdline.txt", MANIFEST};

/* ".<arch>" and a suffix. */
static void hidden_name(char *out, size_t size, const char *suffix)
{
    snprintf(out, size, ".%.32s%.40s", os_arch(), suffix);
}

static int open_root(struct home *h, struct mvm_error *err)
{
    int fd = path_open_dir(h->cache_fd, FOLDER, err);
    if (fd < 0)
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
    return fd;
}

/* ---- Judging ---- */

/* A regular file below dirfd: a descriptor, -ENOENT, -EINVAL for what is there but no such file, -errno where neither
 * can be said. */
static int open_file(int dirfd, const char *name)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ELOOP ? -EINVAL : -errno;
    return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* A small file as text, its last newline cut off. */
static int read_sidecar(int dirfd, const char *name, struct buf *out)
{
    CLEAN_FD int fd = open_file(dirfd, name);
    if (fd < 0)
        return fd;
    ssize_t n;
    while ((n = buf_read(out, fd, 65536)) > 0)
        ;
    if (n < 0)
        return (int)n;
    if (out->len && out->data[out->len - 1] == '\n')
        out->data[--out->len] = '\0';
    return 0;
}

/* Each judge gives a verdict, or -errno where what it judges cannot be read now. Damage is a verdict. */
static int verdict(int r, enum cache_reason absent, enum cache_reason damaged)
{
    return mvm_error_is_absent(r) ? (int)absent : mvm_error_is_damage(r) ? (int)damaged : r;
}

static int judge_boot_files(int dirfd)
{
    const enum cache_reason absent = CACHE_MISSING_ARTIFACT, invalid = CACHE_INVALID_STAGE0_ARTIFACTS;
    CLEAN_FD int kernel = open_file(dirfd, artifacts[0]);
    CLEAN_FD int rootfs = open_file(dirfd, artifacts[1]);
    struct stat st;
    if (kernel == -ENOENT || rootfs == -ENOENT)
        return absent;
    if (kernel < 0 || rootfs < 0)
        return verdict(kernel < 0 ? kernel : rootfs, absent, invalid);
    int is_kernel = kernel_check(kernel, NULL), is_ext4 = ext4_check_magic(rootfs);
    if (is_kernel < 0 || is_ext4 < 0)
        return is_kernel < 0 ? is_kernel : is_ext4;
    return is_kernel && is_ext4 && fstat(rootfs, &st) == 0 && st.st_size >= MIN_ROOTFS ? CACHE_HIT : invalid;
}

static int judge_fingerprint(int dirfd, const char *want)
{
    CLEAN_BUF struct buf have = BUF_INIT(256);
    int r = read_sidecar(dirfd, FINGERPRINT, &have);
    if (r < 0)
        return verdict(r, CACHE_MISSING_FINGERPRINT, CACHE_MISSING_FINGERPRINT);
    return strcmp(buf_cstr(&have), want) == 0 ? CACHE_HIT : CACHE_FINGERPRINT_MISMATCH;
}

static int artifact_digest(int dirfd, const char *name, struct statindex *index, bool verify,
                           char out[static SHA256_HEX_SIZE])
{
    uint64_t read_at = clock_wall();
    CLEAN_FD int fd = open_file(dirfd, name);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd < 0 ? fd : -errno;
    if (!verify && index && statindex_get(index, name, &st, out))
        return 0;
    int r = sha256_fd(fd, out);
    if (r == 0 && index)
        statindex_put(index, name, &st, read_at, out);
    return r;
}

/* The digests of what is there, in sha256sum's format. */
static int list_digests(int dirfd, struct statindex *index, bool verify, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(artifacts); i++) {
        char digest[SHA256_HEX_SIZE];
        int r = artifact_digest(dirfd, artifacts[i], index, verify, digest);
        if (r == -ENOENT)
            continue;
        if (r == 0)
            r = buf_printf(out, "%s  %s\n", digest, artifacts[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* 1 for a file that has no place in a builder image: launching would use an image.json, for one. */
static int is_foreign(void *data, const char *name)
{
    static const char *const of_a_release[] = {MANIFEST, MANIFEST ".minisig"}; /* read by nobody once it is here */
    for (size_t i = 0; i < ARRAY_SIZE(artifacts); i++)
        if (strcmp(name, artifacts[i]) == 0)
            return 0;
    for (size_t i = 0; i < ARRAY_SIZE(of_a_release); i++)
        if (strcmp(name, of_a_release[i]) == 0)
            return 0;
    return strcmp(name, FINGERPRINT) != 0 && strcmp(name, DIGESTS) != 0 && strcmp(name, PROVENANCE) != 0;
}

static int judge_digests(struct home *h, int dirfd, bool verify)
{
    const enum cache_reason absent = CACHE_MISSING_ARTIFACT_DIGEST_MANIFEST;
    CLEAN_BUF struct buf have = BUF_INIT(4096);
    CLEAN_BUF struct buf recorded = BUF_INIT(4096);
    int r = read_sidecar(dirfd, DIGESTS, &recorded);
    if (r < 0)
        return verdict(r, absent, absent);
    struct statindex *index = statindex_load(h->cache_fd, FOLDER);
    r = list_digests(dirfd, index, verify, &have);
    if (index)
        statindex_save(index);
    statindex_free(index);
    if (r < 0)
        return verdict(r, CACHE_ARTIFACT_DIGEST_MISMATCH, CACHE_ARTIFACT_DIGEST_MISMATCH);
    int foreign = path_each(dirfd, ".", is_foreign, NULL);
    if (foreign)
        return foreign < 0 ? foreign : (int)CACHE_ARTIFACT_DIGEST_MISMATCH;
    if (have.len)
        have.data[--have.len] = '\0';
    return strcmp(buf_cstr(&have), buf_cstr(&recorded)) == 0 ? CACHE_HIT : CACHE_ARTIFACT_DIGEST_MISMATCH;
}

static bool names_match(int dirfd, json_object *names)
{
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(artifacts); i++) {
        if (faccessat(dirfd, artifacts[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        json_object *name = json_object_array_get_idx(names, n++);
        if (!name || strcmp(json_object_get_string(name), artifacts[i]) != 0)
            return false;
    }
    return n == json_object_array_length(names);
}

static bool provenance_fits(json_object *o, int dirfd, const struct buildercache_want *want)
{
    json_object *names;
    const char *kind, *fingerprint;
    int64_t schema;
    return json_get_int(o, "schema_version", &schema, NULL) == 0 && schema == 1 &&
           json_get_string(o, "source_kind", &kind, NULL) == 0 && strcmp(kind, want->kind) == 0 &&
           json_get_string(o, "source_fingerprint", &fingerprint, NULL) == 0 &&
           strcmp(fingerprint, want->fingerprint) == 0 && json_get_array(o, "artifacts", &names, NULL) == 0 &&
           names_match(dirfd, names);
}

static int judge_provenance(int dirfd, const struct buildercache_want *want)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_SIDECAR);
    CLEAN_JSON json_object *o = NULL;
    int r = read_sidecar(dirfd, PROVENANCE, &text);
    if (r == 0)
        r = json_parse(buf_cstr(&text), text.len, &o, NULL);
    if (r < 0)
        return verdict(r, CACHE_MISSING_PROVENANCE, CACHE_PROVENANCE_MISMATCH);
    return provenance_fits(o, dirfd, want) ? CACHE_HIT : CACHE_PROVENANCE_MISMATCH;
}

static int judge(struct home *h, int dirfd, const struct buildercache_want *want, bool verify)
{
    int r = judge_boot_files(dirfd);
    if (r == CACHE_HIT)
        r = judge_fingerprint(dirfd, want->fingerprint);
    if (r == CACHE_HIT)
        r = judge_digests(h, dirfd, verify);
    if (r == CACHE_HIT)
        r = judge_provenance(dirfd, want);
    return r;
}

/* A shared hold on the live image. Where nobody can write, nobody can replace it either: no lock is needed. */
static int hold_live(int root, int *ret_fd, struct mvm_error *err)
{
    char name[NAME_SIZE];
    hidden_name(name, sizeof(name), LIVE_LOCK);
    CLEAN_FD int fd = openat(root, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && (errno == EROFS || errno == EACCES))
        return 0;
    while (fd < 0 || flock(fd, LOCK_SH) < 0)
        if (fd < 0 || errno != EINTR)
            return mvm_error_errno(err, -errno, "the builder cache's lock");
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int buildercache_judge(struct home *h, const struct buildercache_want *want, bool verify, enum cache_reason *ret_reason,
                       struct buildercache_image *ret, struct mvm_error *err)
{
    CLEAN_BUILDERCACHE_IMAGE struct buildercache_image img = BUILDERCACHE_IMAGE_INIT;
    *ret_reason = CACHE_MISSING_ARTIFACT;
    CLEAN_FD int root = open_root(h, err);
    if (root < 0)
        return root;
    int r = hold_live(root, &img.live_lock, err);
    if (r < 0)
        return r;
    img.dirfd = openat(root, os_arch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (img.dirfd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? 0
                   : mvm_error_errno(err, -errno, "cannot open the builder cache");
    r = judge(h, img.dirfd, want, verify);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read the builder image in the cache");
    *ret_reason = (enum cache_reason)r;
    if (r != CACHE_HIT || !ret)
        return 0;
    img.path = path_join(h->cache, FOLDER, os_arch(), NULL);
    CLEAN_FD int digests = open_file(img.dirfd, DIGESTS);
    r = !img.path ? -ENOMEM : digests < 0 ? digests : sha256_fd(digests, img.digest);
    if (r < 0)
        return mvm_error_errno(err, r, "builder cache");
    *ret = img;
    img = (struct buildercache_image)BUILDERCACHE_IMAGE_INIT;
    return 0;
}

void buildercache_image_done(struct buildercache_image *img)
{
    fd_closep(&img->dirfd);
    fd_closep(&img->live_lock);
    free(img->path);
    img->path = NULL;
}

/* ---- Making and replacing ---- */

static void sweep_stages(int root)
{
    char prefix[NAME_SIZE];
    hidden_name(prefix, sizeof(prefix), STAGE);
    int dup_fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0)
            (void)!path_remove_tree(root, e->d_name);
    closedir(d);
}

int buildercache_stage_open(struct buildercache_stage *s, struct home *h, const struct lock_wait *wait,
                            struct mvm_error *err)
{
    char lock[NAME_SIZE], suffix[40];
    s->root_fd = open_root(h, err);
    hidden_name(lock, sizeof(lock), BUILD_LOCK);
    int r =
        s->root_fd < 0 ? s->root_fd : lock_take(&s->lock, s->root_fd, lock, "building the builder image", wait, err);
    if (r < 0)
        return r;
    sweep_stages(s->root_fd);
    snprintf(suffix, sizeof(suffix), STAGE "%d", getpid());
    hidden_name(s->name, sizeof(s->name), suffix);
    s->fd = path_open_dir(s->root_fd, s->name, err);
    return s->fd < 0 ? s->fd : 0;
}

void buildercache_stage_done(struct buildercache_stage *s)
{
    fd_closep(&s->fd);
    if (s->root_fd >= 0 && s->lock.fd >= 0 && s->name[0])
        (void)!path_remove_tree(s->root_fd, s->name);
    fd_closep(&s->root_fd);
    lock_done(&s->lock);
}

/* manifest.json speaks this contract and names exactly what is there, as it is there. */
static int check_manifest(int dirfd, const char *digests, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *all;
    int64_t contract = 0;
    int r = json_load(dirfd, MANIFEST, MAX_SIDECAR, &o, err);
    if (r == 0)
        r = json_get_int(o, "contract_version", &contract, err);
    if (r == 0)
        r = json_get_object(o, "artifacts", &all, err);
    if (r < 0)
        return mvm_error_wrap(err, MANIFEST);
    if (contract != CONTRACT)
        return mvm_error_set(err, -EINVAL, "the builder image speaks contract %lld, this mvmctl %d",
                             (long long)contract, CONTRACT);
    int n = 0;
    for (const char *line = digests; *line; line = strchr(line, '\n') + 1) {
        char name[NAME_SIZE];
        const char *digest = "";
        json_object *entry;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(line + SHA256_HEX_SIZE + 1, "\n"),
                 line + SHA256_HEX_SIZE + 1);
        if (strcmp(name, MANIFEST) == 0)
            continue;
        n++;
        if (json_get_object(all, name, &entry, err) < 0 || json_get_string(entry, "sha256", &digest, err) < 0)
            return mvm_error_wrap(err, MANIFEST);
        if (strncmp(line, digest, SHA256_HEX_SIZE - 1) != 0)
            return mvm_error_set(err, -EBADMSG, "%s did not arrive as the builder made it", name);
    }
    return json_object_object_length(all) == n ? 0
                                               : mvm_error_set(err, -EBADMSG, MANIFEST " names what did not arrive");
}

static int write_provenance(int dirfd, const struct buildercache_want *want, const char *seed, json_object *packages,
                            struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_object *names = json_object_new_array();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "source_kind", want->kind);
    json_add_string(o, "source_fingerprint", want->fingerprint);
    for (size_t i = 0; i < ARRAY_SIZE(artifacts); i++)
        if (faccessat(dirfd, artifacts[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            json_object_array_add(names, json_object_new_string(artifacts[i]));
    json_add(o, "artifacts", names);
    json_add_string(o, "seed", seed);
    json_add(o, "packages", packages);
    return json_save(dirfd, PROVENANCE, o, 0644, false, err);
}

static int seal(int dirfd)
{
    static const char *const sidecars[] = {FINGERPRINT, DIGESTS, PROVENANCE};
    for (size_t i = 0; i < ARRAY_SIZE(artifacts) + ARRAY_SIZE(sidecars); i++) {
        const char *name = i < ARRAY_SIZE(artifacts) ? artifacts[i] : sidecars[i - ARRAY_SIZE(artifacts)];
        CLEAN_FD int fd = open_file(dirfd, name);
        if (fd == -ENOENT)
            continue;
        if (fd < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
            return fd < 0 ? fd : -errno;
        (void)!fd_enable_verity(fd); /* where it can be had */
    }
    return fsync(dirfd) < 0 ? -errno : 0;
}

static int write_sidecars(int dirfd, const struct buildercache_want *want, const char *seed, json_object *packages,
                          struct mvm_error *err)
{
    CLEAN_BUF struct buf digests = BUF_INIT(4096);
    char fingerprint[SHA256_HEX_SIZE + 1];
    int r = list_digests(dirfd, NULL, true, &digests);
    if (r < 0)
        mvm_error_errno(err, r, "cannot read the new builder image");
    if (r == 0)
        r = check_manifest(dirfd, buf_cstr(&digests), err);
    if (r < 0) {
        json_object_put(packages);
        return r;
    }
    snprintf(fingerprint, sizeof(fingerprint), "%s\n", want->fingerprint);
    r = write_provenance(dirfd, want, seed, packages, err);
    if (r == 0)
        r = path_write_file(dirfd, DIGESTS, digests.data, digests.len, 0644, false, err);
    if (r == 0)
        r = path_write_file(dirfd, FINGERPRINT, fingerprint, strlen(fingerprint), 0644, false, err);
    if (r == 0 && (r = seal(dirfd)) < 0)
        mvm_error_errno(err, r, "cannot keep the new builder image");
    return r;
}

/* The exchange, and what becomes of the image that was there: it stays until the new one has booted, unless it never
 * booted itself. */
static int exchange(struct buildercache_stage *s, struct mvm_error *err)
{
    char previous[NAME_SIZE];
    hidden_name(previous, sizeof(previous), PREVIOUS);
    int r = os_rename_new(s->root_fd, s->name, s->root_fd, os_arch());
    if (r == 0)
        return 0;
    struct stat st;
    if (r == -EEXIST && fstatat(s->root_fd, os_arch(), &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
        (void)!unlinkat(s->root_fd, os_arch(), 0); /* no image at all, whatever it is */
        return renameat(s->root_fd, s->name, s->root_fd, os_arch()) < 0 ? mvm_error_errno(err, -errno, "cannot promote")
                                                                        : 0;
    }
    r = os_rename_exchange(s->root_fd, s->name, s->root_fd, os_arch());
    if (r < 0)
        return mvm_error_errno(err, r, "cannot promote the builder image");
    /* From here on the staging name has the old image. */
    if (os_rename_new(s->root_fd, s->name, s->root_fd, previous) < 0)
        (void)!path_remove_tree(s->root_fd, s->name);
    return 0;
}

int buildercache_promote(struct buildercache_stage *s, struct home *h, const struct buildercache_want *want,
                         const char *seed, json_object *packages, struct mvm_error *err)
{
    int r = judge_boot_files(s->fd);
    if (r != CACHE_HIT) {
        json_object_put(packages);
        return r < 0 ? mvm_error_errno(err, r, "cannot read the new builder image")
                     : mvm_error_set(err, -EINVAL,
                                     "what was built is no builder image: kernel or root file system is invalid");
    }
    r = write_sidecars(s->fd, want, seed, packages, err);
    if (r < 0)
        return r;
    char name[NAME_SIZE];
    hidden_name(name, sizeof(name), LIVE_LOCK);
    CLEAN_FD int live = openat(s->root_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (live < 0 || flock(live, LOCK_EX) < 0)
        if (live < 0 || errno != EINTR)
            return mvm_error_errno(err, -errno, "the builder cache's lock");
    r = exchange(s, err);
    if (r == 0)
        fsync(s->root_fd);
    return r;
}

void buildercache_booted(struct home *h)
{
    char previous[NAME_SIZE];
    hidden_name(previous, sizeof(previous), PREVIOUS);
    CLEAN_FD int root = open_root(h, NULL);
    if (root >= 0)
        (void)!path_remove_tree(root, previous);
}

/* ---- For `dev cache` ---- */

static uint64_t folder_bytes(int root, const char *name)
{
    CLEAN_FD int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    uint64_t sum = 0;
    struct stat st;
    for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(artifacts); i++)
        if (fstatat(dir, artifacts[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            sum += (uint64_t)st.st_blocks * 512;
    return sum;
}

int buildercache_leftovers(struct home *h, struct buildercache_leftovers *ret, struct mvm_error *err)
{
    char name[NAME_SIZE];
    *ret = (struct buildercache_leftovers){0};
    int root = open_root(h, err);
    if (root < 0)
        return root;
    DIR *d = fdopendir(root);
    if (!d) {
        close(root);
        return mvm_error_errno(err, -errno, "cannot list the builder cache");
    }
    hidden_name(name, sizeof(name), BUILD_LOCK);
    ret->building = lock_is_held(root, name) == 1;
    hidden_name(name, sizeof(name), STAGE);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, name, strlen(name)) == 0)
            ret->stages++;
    if (ret->building && ret->stages)
        ret->stages--;
    hidden_name(name, sizeof(name), PREVIOUS);
    ret->previous = faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    ret->previous_bytes = folder_bytes(root, name);
    closedir(d);
    return 0;
}

int buildercache_clean(struct home *h, bool everything, struct mvm_error *err)
{
    CLEAN_BUILDERCACHE_STAGE struct buildercache_stage s = BUILDERCACHE_STAGE_INIT;
    char name[NAME_SIZE];
    int r = buildercache_stage_open(&s, h, NULL, err);
    if (r < 0 || !everything)
        return r;
    hidden_name(name, sizeof(name), PREVIOUS);
    r = path_remove_tree(s.root_fd, name);
    if (r == 0)
        r = path_remove_tree(s.root_fd, os_arch());
    return r < 0 ? mvm_error_errno(err, r, "cannot remove the builder image") : 0;
}
