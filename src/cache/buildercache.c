#include "cache/buildercache.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/buildercache_files.h"
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

#define MIN_ROOTFS (4ll << 20)

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

/* ---- Judging ---- */

/* Each judge gives a verdict, or -errno where what it judges cannot be read now. Damage is a verdict. */
static int verdict(int r, enum cache_reason absent, enum cache_reason damaged)
{
    return mvm_error_is_absent(r) ? (int)absent : mvm_error_is_damage(r) ? (int)damaged : r;
}

int buildercache_judge_boot_files(int dirfd)
{
    const enum cache_reason absent = CACHE_MISSING_ARTIFACT, invalid = CACHE_INVALID_STAGE0_ARTIFACTS;
    CLEAN_FD int kernel = buildercache_open_file(dirfd, buildercache_artifacts[0]);
    CLEAN_FD int rootfs = buildercache_open_file(dirfd, buildercache_artifacts[1]);
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
    int r = buildercache_read_sidecar(dirfd, FINGERPRINT, &have);
    if (r < 0)
        return verdict(r, CACHE_MISSING_FINGERPRINT, CACHE_MISSING_FINGERPRINT);
    return strcmp(buf_cstr(&have), want) == 0 ? CACHE_HIT : CACHE_FINGERPRINT_MISMATCH;
}

/* 1 for a file that has no place in a builder image: launching would use an image.json, for one. */
static int is_foreign(void *data, const char *name)
{
    static const char *const of_a_release[] = {MANIFEST, MANIFEST ".minisig"}; /* read by nobody once it is here */
    for (size_t i = 0; i < BUILDERCACHE_ARTIFACTS; i++)
        if (strcmp(name, buildercache_artifacts[i]) == 0)
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
    int r = buildercache_read_sidecar(dirfd, DIGESTS, &recorded);
    if (r < 0)
        return verdict(r, absent, absent);
    struct statindex *index = statindex_load(h->cache_fd, FOLDER);
    r = buildercache_list_digests(dirfd, index, verify, &have);
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
    for (size_t i = 0; i < BUILDERCACHE_ARTIFACTS; i++) {
        if (faccessat(dirfd, buildercache_artifacts[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        json_object *name = json_object_array_get_idx(names, n++);
        if (!name || strcmp(json_object_get_string(name), buildercache_artifacts[i]) != 0)
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
    int r = buildercache_read_sidecar(dirfd, PROVENANCE, &text);
    if (r == 0)
        r = json_parse(buf_cstr(&text), text.len, &o, NULL);
    if (r < 0)
        return verdict(r, CACHE_MISSING_PROVENANCE, CACHE_PROVENANCE_MISMATCH);
    return provenance_fits(o, dirfd, want) ? CACHE_HIT : CACHE_PROVENANCE_MISMATCH;
}

static int judge(struct home *h, int dirfd, const struct buildercache_want *want, bool verify)
{
    int r = buildercache_judge_boot_files(dirfd);
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
    buildercache_hidden_name(name, sizeof(name), LIVE_LOCK);
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
    CLEAN_FD int root = buildercache_open_root(h, err);
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
    CLEAN_FD int digests = buildercache_open_file(img.dirfd, DIGESTS);
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
