#include "vmdir/boot_snapshot.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "host/os.h"
#include "image/manifest.h"
#include "vmdir/snapshot_meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA 2
#define STORE  "store"
#define IMAGE  "image"

#define HIDDEN_SIZE  128
#define FAILURES_MAX 3 /* VMs in a row */

/* ---- Names ---- */

/* An image without a digest is known by where its files are and that nobody has touched them since. */
static int key_of_files(const char *path, char out[static SHA256_HEX_SIZE])
{
    CLEAN_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    sha256_init(&sha);
    sha256_update(&sha, path, strlen(path) + 1);
    for (int a = 0; a < ARTIFACT_COUNT; a++) {
        struct stat st;
        if (fstatat(dir, artifact_name((enum artifact)a), &st, 0) < 0) {
            if (!mvm_error_is_absent(-errno))
                return -errno;
            continue;
        }
        const int64_t facts[] = {a,
                                 (int64_t)st.st_dev,
                                 (int64_t)st.st_ino,
                                 st.st_size,
                                 st.st_mtim.tv_sec,
                                 st.st_mtim.tv_nsec,
                                 st.st_ctim.tv_sec,
                                 st.st_ctim.tv_nsec};
        sha256_update(&sha, facts, sizeof(facts));
    }
    sha256_final(&sha, digest);
    sha256_hex(digest, out);
    return 0;
}

int boot_snapshot_key_of_files(const char *path, char key[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    int r = key_of_files(path, key);
    return r < 0 ? mvm_error_errno(err, r, "the image cannot be read") : 0;
}

static int name_it(struct boot_snapshot *s, const struct runfile *run, char image[static SHA256_HEX_SIZE],
                   struct mvm_error *err)
{
    s->run = run;
    snprintf(s->name, sizeof(s->name), "%llum-%lluc%s", (unsigned long long)run->memory_mib,
             (unsigned long long)run->vcpus, s->id.set);
    snprintf(image, SHA256_HEX_SIZE, "%s", run->image);
    return run->image[0] ? 0 : boot_snapshot_key_of_files(run->image_path, image, err);
}

/* A hidden name beside the snapshot's own: .NAME.SUFFIX. */
static void hidden(const struct boot_snapshot *s, const char *suffix, char out[static HIDDEN_SIZE])
{
    snprintf(out, HIDDEN_SIZE, ".%s.%s", s->name, suffix);
}

static uint64_t file_size(const char *path)
{
    struct stat st;
    return *path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static struct statindex *open_index(struct boot_snapshot *s, const char *image)
{
    char key[256];
    snprintf(key, sizeof(key), "snapshot %s/%s", image, s->name);
    CLEAN_FREE char *path = path_join(s->run->snapshots, "..", NULL);
    fd_closep(&s->cache_dir);
    s->cache_dir = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    return s->cache_dir >= 0 ? statindex_load(s->cache_dir, key) : NULL;
}

/* ---- meta.json ---- */

/* What is at hand, or what one in the making is made with. */
static struct snapshot_meta present(const struct boot_snapshot *s)
{
    return (struct snapshot_meta){
        .id = s->id, .tsc_khz = s->run->accel.tsc_khz, .store_size = s->store_size, .hello = s->hello};
}

static int save_meta(const struct boot_snapshot *s, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    const struct snapshot_meta m = present(s);
    json_add_int(o, "schema_version", SCHEMA);
    snapshot_meta_put(o, &m);
    snapshot_meta_put_file(o, BOOT_SNAPSHOT_MEMORY, &s->memory);
    snapshot_meta_put_file(o, BOOT_SNAPSHOT_STATE, &s->state);
    return json_save_sealed(s->dir, BOOT_SNAPSHOT_META, o, 0400, true, err);
}

/* Why it does not fit, NULL where it does. */
static const char *judge_meta(struct boot_snapshot *s, json_object *o)
{
    int64_t schema;
    if (json_get_int(o, "schema_version", &schema, NULL) < 0 || schema != SCHEMA)
        return "the snapshot's description is damaged or of another version";
    struct snapshot_meta now = present(s);
    const char *why = snapshot_meta_judge(o, &now);
    s->hello = now.hello;
    return why;
}

/* ---- Finding ---- */

int boot_snapshot_find(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                       struct mvm_error *err)
{
    char image[SHA256_HEX_SIZE];
    s->id = *id;
    s->store_size = file_size(run->store_disk);
    int r = name_it(s, run, image, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *path = path_join(run->snapshots, image, NULL);
    if (!path)
        return mvm_error_errno(err, -ENOMEM, "the snapshot cannot be read");
    s->image_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (s->image_dir >= 0)
        s->dir = openat(s->image_dir, s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (s->dir < 0)
        return mvm_error_is_absent(-errno) ? mvm_error_set(err, -ENOENT, "there was no snapshot of this image yet")
                                           : mvm_error_errno(err, -errno, "the snapshot cannot be read");
    CLEAN_JSON json_object *meta = NULL;
    r = json_load_sealed(s->dir, BOOT_SNAPSHOT_META, SNAPSHOT_META_MAX, &meta, NULL);
    if (r < 0 && !mvm_error_is_absent(r) && !mvm_error_is_damage(r))
        return mvm_error_errno(err, r, "the snapshot's description cannot be read");
    const char *why = r < 0 ? "the snapshot's description is damaged or of another version" : judge_meta(s, meta);
    if (why)
        return mvm_error_set(err, -ESTALE, "%s", why);
    struct statindex *index = run->verify ? NULL : open_index(s, image);
    r = snapshot_meta_open_file(meta, BOOT_SNAPSHOT_STATE, s->dir, BOOT_SNAPSHOT_STATE, index, &s->state_fd, err);
    if (r == 0)
        r = snapshot_meta_open_file(meta, BOOT_SNAPSHOT_MEMORY, s->dir, BOOT_SNAPSHOT_MEMORY, index, &s->memory_fd,
                                    err);
    if (index)
        statindex_save(index);
    statindex_free(index);
    return r;
}

/* ---- Making ---- */

/* True where the image that the folder of snapshots is named for is known to be gone or another: what cannot be read
 * now may be there. */
static bool image_is_gone(int root, const char *name)
{
    CLEAN_FD int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    CLEAN_BUF struct buf path = BUF_INIT(4096);
    int r = dir < 0 ? -errno : path_read_file(dir, IMAGE, &path, NULL);
    if (r < 0)
        return mvm_error_is_absent(r) || mvm_error_is_damage(r);
    const char *base = strrchr(buf_cstr(&path), '/');
    if (base && strcmp(base + 1, name) == 0)
        return access(buf_cstr(&path), F_OK) < 0 && mvm_error_is_absent(-errno);
    char key[SHA256_HEX_SIZE];
    r = key_of_files(buf_cstr(&path), key);
    return r < 0 ? mvm_error_is_absent(r) : strcmp(key, name) != 0;
}

struct sweep {
    int root;
    const char *except;
};

static int on_image(void *data, const char *name)
{
    const struct sweep *s = data;
    if (path_is_plain_name(name, 64) && strcmp(name, s->except) != 0 && image_is_gone(s->root, name))
        (void)!path_remove_tree(s->root, name);
    return 0;
}

/* The space is reserved, because a full disk would kill the backend in the middle of the guest's writing. */
static int make_files(struct boot_snapshot *s, struct mvm_error *err)
{
    off_t size = (off_t)(s->run->memory_mib << 20);
    s->memory_fd = openat(s->dir, BOOT_SNAPSHOT_MEMORY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    s->state_fd = openat(s->dir, BOOT_SNAPSHOT_STATE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->memory_fd < 0 || s->state_fd < 0)
        return mvm_error_errno(err, -errno, "cannot make the snapshot's files");
    int r = os_reserve(s->memory_fd, size);
    if (r < 0)
        return mvm_error_errno(err, r, "no room for the snapshot's memory");
    if (!s->run->store_disk[0])
        return 0;
    CLEAN_FD int store = openat(s->dir, STORE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store < 0 || ftruncate(store, (off_t)s->store_size) < 0)
        return mvm_error_errno(err, -errno, "cannot make the store's stand-in");
    return 0;
}

int boot_snapshot_begin(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                        struct mvm_error *err)
{
    char image[SHA256_HEX_SIZE], lock[HIDDEN_SIZE], stage[HIDDEN_SIZE];
    s->id = *id;
    s->store_size = file_size(run->store_disk); /* when it is sealed, the next builder may have made another disk */
    int r = name_it(s, run, image, err);
    if (r < 0)
        return r;
    CLEAN_FD int root = path_open_dir(AT_FDCWD, run->snapshots, err);
    if (root < 0)
        return root;
    struct sweep sweep = {.root = root, .except = image};
    (void)!path_each(root, ".", on_image, &sweep);
    s->image_dir = path_open_dir(root, image, err);
    if (s->image_dir < 0)
        return s->image_dir;
    hidden(s, "lock", lock);
    hidden(s, "new", stage);
    r = lock_take(&s->lock, s->image_dir, lock, "making a snapshot", NULL, err);
    if (r < 0)
        return r;
    r = path_write_file(s->image_dir, IMAGE, run->image_path, strlen(run->image_path), 0600, false, err);
    if (r == 0)
        r = path_remove_tree(s->image_dir, stage);
    if (r == 0)
        r = path_remove_tree(s->image_dir, s->name);
    if (r == 0)
        boot_snapshot_worked(s);
    s->staged = true;
    if (r == 0 && mkdirat(s->image_dir, stage, 0700) < 0)
        r = -errno;
    if (r == 0 && (s->dir = openat(s->image_dir, stage, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        r = -errno;
    s->store_path = run->store_disk[0] ? path_join(run->snapshots, image, stage, STORE, NULL) : NULL;
    if (r < 0)
        return mvm_error_errno(err, r, "cannot make the snapshot's folder");
    return make_files(s, err);
}

/* From now on nobody needs to write to it, and whoever inherits the descriptor cannot. */
static void reopen_for_reading(struct boot_snapshot *s, const char *name, int *fd)
{
    int again = openat(s->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (again < 0)
        return;
    close(*fd);
    *fd = again;
}

void boot_snapshot_saved(struct boot_snapshot *s, const struct msg_hello *hello)
{
    s->hello = *hello;
    lseek(s->state_fd, 0, SEEK_SET); /* it is shared with the backend that wrote it, and read from where it stands */
    off_t end = (off_t)(s->run->memory_mib << 20);
    for (off_t hole = 0; (hole = lseek(s->memory_fd, hole, SEEK_HOLE)) >= 0 && hole < end;) {
        off_t data = lseek(s->memory_fd, hole, SEEK_DATA);
        if (data < 0)
            data = end;
        if (os_punch(s->memory_fd, hole, data - hole) < 0)
            break; /* it only takes more room */
        hole = data;
    }
    unlinkat(s->dir, STORE, 0);
    fchmod(s->state_fd, 0400);
    reopen_for_reading(s, BOOT_SNAPSHOT_MEMORY, &s->memory_fd);
    reopen_for_reading(s, BOOT_SNAPSHOT_STATE, &s->state_fd);
}

int boot_snapshot_measure(struct boot_snapshot *s, struct mvm_error *err)
{
    int r = snapshot_meta_measure(NULL, BOOT_SNAPSHOT_MEMORY, s->memory_fd, &s->memory, err);
    return r < 0 ? r : snapshot_meta_measure(NULL, BOOT_SNAPSHOT_STATE, s->state_fd, &s->state, err);
}

/* What a program stores into a mapping after the sync changes the file's times, as the index wants it; before, it may
 * not. So the file is read for the index after that, and is then what was measured, or not kept. */
static int seal_file(struct statindex *index, const char *name, int fd, const struct snapshot_file *measured,
                     struct mvm_error *err)
{
    struct snapshot_file now;
    int r =
        fsync(fd) < 0 ? mvm_error_errno(err, -errno, "%s", name) : snapshot_meta_measure(index, name, fd, &now, err);
    if (r == 0 && (now.size != measured->size || strcmp(now.sha256, measured->sha256) != 0))
        r = mvm_error_set(err, -ESTALE, "its file '%s' was changed after the guest had gone on", name);
    return r;
}

int boot_snapshot_seal(struct boot_snapshot *s, struct mvm_error *err)
{
    char image[SHA256_HEX_SIZE], stage[HIDDEN_SIZE];
    int r = name_it(s, s->run, image, err);
    if (r < 0)
        return r;
    struct statindex *index = open_index(s, image);
    hidden(s, "new", stage);
    r = seal_file(index, BOOT_SNAPSHOT_MEMORY, s->memory_fd, &s->memory, err);
    if (r == 0)
        r = seal_file(index, BOOT_SNAPSHOT_STATE, s->state_fd, &s->state, err);
    if (r == 0)
        r = save_meta(s, err);
    if (r == 0 && (fsync(s->dir) < 0 || renameat(s->image_dir, stage, s->image_dir, s->name) < 0))
        r = mvm_error_errno(err, -errno, "cannot promote the snapshot");
    if (r == 0) {
        s->staged = false;
        fsync(s->image_dir);
        lock_done(&s->lock);
        if (index)
            statindex_save(index);
    }
    statindex_free(index);
    return r;
}

/* ---- The end ---- */

void boot_snapshot_remove(struct boot_snapshot *s)
{
    char name[HIDDEN_SIZE];
    struct stat by_name, by_fd;
    if (s->image_dir < 0)
        return;
    hidden(s, "lock", name);
    if (s->lock.fd < 0 && lock_take(&s->lock, s->image_dir, name, "removing a snapshot", NULL, NULL) < 0)
        return;
    if (s->staged)
        hidden(s, "new", name);
    else
        snprintf(name, sizeof(name), "%s", s->name);
    if (s->dir >= 0 && fstat(s->dir, &by_fd) == 0 && fstatat(s->image_dir, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
        by_name.st_ino == by_fd.st_ino)
        (void)!path_remove_tree(s->image_dir, name);
    if (!s->staged)
        boot_snapshot_worked(s);
}

bool boot_snapshot_failed(struct boot_snapshot *s, uint64_t started_at)
{
    char name[HIDDEN_SIZE];
    struct stat st;
    if (s->staged)
        return true;
    hidden(s, "failures", name);
    CLEAN_FD int fd = openat(s->image_dir, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return false;
    uint64_t noted_at = (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
    if (st.st_size && noted_at >= started_at)
        return false;
    if (st.st_size + 1 >= FAILURES_MAX)
        return true;
    (void)!fd_write_all(fd, ".", 1);
    return false;
}

void boot_snapshot_worked(struct boot_snapshot *s)
{
    char name[HIDDEN_SIZE];
    hidden(s, "failures", name);
    unlinkat(s->image_dir, name, 0);
}

void boot_snapshot_done(struct boot_snapshot *s)
{
    if (s->staged)
        boot_snapshot_remove(s);
    fd_closep(&s->cache_dir);
    fd_closep(&s->dir);
    fd_closep(&s->image_dir);
    fd_closep(&s->memory_fd);
    fd_closep(&s->state_fd);
    lock_done(&s->lock);
    free(s->store_path);
    *s = (struct boot_snapshot)BOOT_SNAPSHOT_INIT;
}
