/* Making a builder image, and replacing the live one: the part of buildercache.h that writes. */
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/buildercache_files.h"
#include "host/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILD_LOCK ".build"
#define STAGE      ".stage0-"
#define PREVIOUS   ".previous"
#define CONTRACT   1 /* of manifest.json; image/mkrootfs.c writes it */

static void sweep_stages(int root)
{
    char prefix[NAME_SIZE];
    buildercache_hidden_name(prefix, sizeof(prefix), STAGE);
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
    s->root_fd = buildercache_open_root(h, err);
    buildercache_hidden_name(lock, sizeof(lock), BUILD_LOCK);
    int r =
        s->root_fd < 0 ? s->root_fd : lock_take(&s->lock, s->root_fd, lock, "building the builder image", wait, err);
    if (r < 0)
        return r;
    sweep_stages(s->root_fd);
    snprintf(suffix, sizeof(suffix), STAGE "%d", getpid());
    buildercache_hidden_name(s->name, sizeof(s->name), suffix);
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

/* What the manifest says of an artifact. A published image's has its digest too; a builder does not hash what it has
 * just made, which takes seconds under software emulation: it is added here. */
static int check_artifact(int dirfd, const char *name, const char *digest, json_object *entry, struct mvm_error *err)
{
    struct stat st;
    int64_t size = 0;
    const char *want = "";
    int r = json_get_int(entry, "size", &size, err);
    if (r == 0 && json_object_object_get_ex(entry, "sha256", NULL))
        r = json_get_string(entry, "sha256", &want, err);
    if (r < 0)
        return mvm_error_wrap(err, MANIFEST);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return mvm_error_errno(err, -errno, "%s", name);
    char have[SHA256_HEX_SIZE];
    snprintf(have, sizeof(have), "%s", digest);
    if (!want[0]) {
        want = have;
        json_add_string(entry, "sha256", have);
    }
    if (st.st_size != size || strcmp(have, want) != 0)
        return mvm_error_set(err, -EBADMSG, "%s did not arrive as the builder made it", name);
    return 0;
}

/* Its line is the last: buildercache_artifacts. */
static int list_manifest(int dirfd, struct buf *digests, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE];
    CLEAN_FD int fd = buildercache_open_file(dirfd, MANIFEST);
    int r = fd < 0 ? fd : sha256_fd(fd, digest);
    if (r == 0) {
        digests->len -= strlen(digest) + strlen("  " MANIFEST "\n");
        r = buf_printf(digests, "%s  " MANIFEST "\n", digest);
    }
    return r < 0 ? mvm_error_errno(err, r, MANIFEST) : 0;
}

/* manifest.json speaks this contract and names exactly what is there, as it is there. It has all digests then. */
static int complete_manifest(int dirfd, struct buf *digests, struct mvm_error *err)
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
    for (const char *line = buf_cstr(digests); *line; line = strchr(line, '\n') + 1) {
        char name[NAME_SIZE];
        json_object *entry;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(line + SHA256_HEX_SIZE + 1, "\n"),
                 line + SHA256_HEX_SIZE + 1);
        if (strcmp(name, MANIFEST) == 0)
            continue;
        n++;
        if (json_get_object(all, name, &entry, err) < 0)
            return mvm_error_wrap(err, MANIFEST);
        r = check_artifact(dirfd, name, line, entry, err);
        if (r < 0)
            return r;
    }
    if (json_object_object_length(all) != n)
        return mvm_error_set(err, -EBADMSG, MANIFEST " names what did not arrive");
    r = json_save(dirfd, MANIFEST, o, 0644, false, err);
    return r < 0 ? r : list_manifest(dirfd, digests, err);
}

static int write_provenance(int dirfd, const struct buildercache_want *want, const char *seed, json_object *packages,
                            struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_object *names = json_object_new_array();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "source_kind", want->kind);
    json_add_string(o, "source_fingerprint", want->fingerprint);
    for (size_t i = 0; i < BUILDERCACHE_ARTIFACTS; i++)
        if (faccessat(dirfd, buildercache_artifacts[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            json_object_array_add(names, json_object_new_string(buildercache_artifacts[i]));
    json_add(o, "artifacts", names);
    json_add_string(o, "seed", seed);
    json_add(o, "packages", packages);
    return json_save(dirfd, PROVENANCE, o, 0644, false, err);
}

static int seal(int dirfd)
{
    static const char *const sidecars[] = {FINGERPRINT, DIGESTS, PROVENANCE};
    for (size_t i = 0; i < BUILDERCACHE_ARTIFACTS + ARRAY_SIZE(sidecars); i++) {
        const char *name =
            i < BUILDERCACHE_ARTIFACTS ? buildercache_artifacts[i] : sidecars[i - BUILDERCACHE_ARTIFACTS];
        CLEAN_FD int fd = buildercache_open_file(dirfd, name);
        if (fd == -ENOENT)
            continue;
        if (fd < 0 || fchmod(fd, 0444) < 0 || fsync(fd) < 0)
            return fd < 0 ? fd : -errno;
        (void)!os_enable_verity(fd); /* where it can be had */
    }
    return fsync(dirfd) < 0 ? -errno : 0;
}

static int write_sidecars(int dirfd, const struct buildercache_want *want, const char *seed, json_object *packages,
                          struct mvm_error *err)
{
    CLEAN_BUF struct buf digests = BUF_INIT(4096);
    char fingerprint[SHA256_HEX_SIZE + 1];
    int r = buildercache_list_digests(dirfd, NULL, true, &digests);
    if (r < 0)
        mvm_error_errno(err, r, "cannot read the new builder image");
    if (r == 0)
        r = complete_manifest(dirfd, &digests, err);
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
    buildercache_hidden_name(previous, sizeof(previous), PREVIOUS);
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
    int r = buildercache_judge_boot_files(s->fd);
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
    buildercache_hidden_name(name, sizeof(name), LIVE_LOCK);
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
    buildercache_hidden_name(previous, sizeof(previous), PREVIOUS);
    CLEAN_FD int root = buildercache_open_root(h, NULL);
    if (root >= 0)
        (void)!path_remove_tree(root, previous);
}

/* ---- For `dev cache` ---- */

static uint64_t folder_bytes(int root, const char *name)
{
    CLEAN_FD int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    uint64_t sum = 0;
    struct stat st;
    for (size_t i = 0; dir >= 0 && i < BUILDERCACHE_ARTIFACTS; i++)
        if (fstatat(dir, buildercache_artifacts[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            sum += (uint64_t)st.st_blocks * 512;
    return sum;
}

int buildercache_leftovers(struct home *h, struct buildercache_leftovers *ret, struct mvm_error *err)
{
    char name[NAME_SIZE];
    *ret = (struct buildercache_leftovers){0};
    int root = buildercache_open_root(h, err);
    if (root < 0)
        return root;
    DIR *d = fdopendir(root);
    if (!d) {
        close(root);
        return mvm_error_errno(err, -errno, "cannot list the builder cache");
    }
    buildercache_hidden_name(name, sizeof(name), BUILD_LOCK);
    ret->building = lock_is_held(root, name) == 1;
    buildercache_hidden_name(name, sizeof(name), STAGE);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, name, strlen(name)) == 0)
            ret->stages++;
    if (ret->building && ret->stages)
        ret->stages--;
    buildercache_hidden_name(name, sizeof(name), PREVIOUS);
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
    buildercache_hidden_name(name, sizeof(name), PREVIOUS);
    r = path_remove_tree(s.root_fd, name);
    if (r == 0)
        r = path_remove_tree(s.root_fd, os_arch());
    return r < 0 ? mvm_error_errno(err, r, "cannot remove the builder image") : 0;
}
