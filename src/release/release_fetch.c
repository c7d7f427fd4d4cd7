#include "release/release_fetch.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/lock.h"
#include "host/install_paths.h"
#include "host/json.h"
#include "host/os.h"
#include "release/download.h"
#include "release/release_versions.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOWNLOADS    "downloads"
#define DOWNLOADS_OF ".lock"
#define PARTIAL      ".part"
#define PARTIAL_DAYS 14 /* a half file that nobody went on with for so long is removed */
#define VERIFY_STAGE ".verify"
#define PREBUILT     "dev/prebuilt"
#define SEED_STAGE   ".fetch"
#define ANY_KIND     (-1)

/* A fetch that is going on: one at a time, so that no two write to the same half file. */
struct fetch {
    struct home *home;
    const struct config *cfg;
    const char *url;
    struct progress *p;
    int dirfd; /* MVM_CACHE_DIR/downloads */
    struct lock lock;
    struct buf manifest, signature;
    struct release release;
    const struct minisign_key *key;
};

static void fetch_done(struct fetch *f)
{
    buf_done(&f->manifest);
    buf_done(&f->signature);
    lock_done(&f->lock);
    fd_closep(&f->dirfd);
}

static void sweep_partials(int dirfd)
{
    int dup_fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
    uint64_t now = clock_wall() / NSEC_PER_SEC;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        size_t n = strlen(e->d_name), k = strlen(PARTIAL);
        if (n > k && strcmp(e->d_name + n - k, PARTIAL) == 0 && fstatat(dirfd, e->d_name, &st, 0) == 0 &&
            (uint64_t)st.st_mtime + PARTIAL_DAYS * 86400ull < now)
            unlinkat(dirfd, e->d_name, 0);
    }
    if (d)
        closedir(d);
}

static void say_waiting(void *data, const char *holder)
{
    progress_note(data, "waiting for another download to finish (%s)", holder);
}

static int fetch_open(struct fetch *f, struct mvm_error *err)
{
    const struct lock_wait wait = {.waiting = say_waiting, .data = f->p};
    f->dirfd = path_open_dir(f->home->cache_fd, DOWNLOADS, err);
    if (f->dirfd < 0)
        return f->dirfd;
    int r = lock_take(&f->lock, f->dirfd, DOWNLOADS_OF, "mvmctl downloads an image", &wait, err);
    if (r == 0)
        sweep_partials(f->dirfd);
    return r;
}

/* ---- The manifest ---- */

static int file_url(const struct fetch *f, const char *name, char **ret)
{
    return asprintf(ret, "%s/%s", f->url, name) < 0 ? -ENOMEM : 0;
}

static struct download_opts opts_for(const struct fetch *f, const char *name, const char *url)
{
    return (struct download_opts){
        .url = url, .name = name, .ca_file = f->cfg->ca_file, .stall_seconds = (uint32_t)f->cfg->stall_seconds};
}

static int fetch_text(struct fetch *f, const char *name, struct buf *out, struct mvm_error *err)
{
    CLEAN_FREE char *url = NULL;
    int r = file_url(f, name, &url);
    if (r < 0)
        return mvm_error_errno(err, r, "%s", name);
    struct download_opts o = opts_for(f, name, url);
    return download_text(&o, out, f->p, err);
}

static int check_release(const struct fetch *f, int kind, struct mvm_error *err)
{
    if (kind != ANY_KIND && (int)f->release.kind != kind)
        return mvm_error_set(err, -EINVAL, "it is a %s image where a %s image is wanted",
                             release_kind_name(f->release.kind), release_kind_name((enum release_kind)kind));
    if (kind != ANY_KIND && strcmp(f->release.arch, os_arch()) != 0)
        return mvm_error_set(err, -EINVAL, "it is an image for %s, and this machine is %s", f->release.arch, os_arch());
    return release_versions_check(f->home, &f->release, f->key, err);
}

/* Manifest and signature, and everything that can be told from them. */
static int fetch_manifest(struct fetch *f, int kind, struct mvm_error *err)
{
    int r = fetch_text(f, RELEASE_MANIFEST, &f->manifest, err);
    if (r == 0)
        r = fetch_text(f, RELEASE_SIGNATURE, &f->signature, err);
    if (r == 0)
        r = release_verify_manifest(f->cfg->public_keys, f->cfg->n_public_keys, &f->manifest, &f->signature,
                                    &f->release, &f->key, err);
    return r < 0 ? r : check_release(f, kind, err);
}

/* ---- The files ---- */

/* Moves a whole file into dest, which may be on another file system. */
static int place(const struct fetch *f, const char *partial, int fd, int dest, const char *name)
{
    if (renameat(f->dirfd, partial, dest, name) == 0)
        return 0;
    if (errno != EXDEV)
        return -errno;
    CLEAN_FD int out = openat(dest, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (out < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    int r = fd_copy_file(fd, out);
    if (r == 0 && fsync(out) < 0)
        r = -errno;
    unlinkat(f->dirfd, partial, 0);
    return r;
}

static int check_digest(int fd, const char *name, const struct artifact_info *want, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE];
    int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : sha256_fd(fd, digest);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read %s", name);
    if (strcmp(digest, want->sha256) != 0)
        return mvm_error_set(err, -EBADMSG, "%s is not the file that the manifest names: its digest differs", name);
    return 0;
}

static int fetch_file(struct fetch *f, enum artifact a, int dest, struct mvm_error *err)
{
    const struct artifact_info *want = &f->release.files.artifacts[a];
    const char *name = artifact_name(a);
    char partial[SHA256_HEX_SIZE + sizeof(PARTIAL)];
    CLEAN_FREE char *url = NULL;
    snprintf(partial, sizeof(partial), "%s" PARTIAL, want->sha256);
    CLEAN_FD int fd = openat(f->dirfd, partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r = fd < 0 ? -errno : file_url(f, name, &url);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot keep %s", name);
    struct download_opts o = opts_for(f, name, url);
    r = download_file(&o, fd, want->size, f->p, err);
    /* Half a file is kept to go on from; nothing, or one that is another than the manifest's, never. */
    bool worthless = r == -EMSGSIZE || r == -ENODATA || (r < 0 && lseek(fd, 0, SEEK_END) == 0);
    if (r == 0) {
        r = check_digest(fd, name, want, err);
        worthless = r < 0;
    }
    if (worthless)
        unlinkat(f->dirfd, partial, 0);
    if (r == 0 && (fsync(fd) < 0 || (r = place(f, partial, fd, dest, name)) < 0))
        r = mvm_error_errno(err, r < 0 ? r : -errno, "cannot keep %s", name);
    return r;
}

static int fetch_files(struct fetch *f, int dest, struct mvm_error *err)
{
    int r = 0;
    for (int a = 0; r == 0 && a < ARTIFACT_COUNT; a++)
        if (f->release.files.artifacts[a].present)
            r = fetch_file(f, (enum artifact)a, dest, err);
    mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
    if (r == 0)
        r = image_validate(dest, err);
    if (r == 0)
        r = path_write_file(dest, RELEASE_MANIFEST, f->manifest.data, f->manifest.len, 0644, true, err);
    if (r == 0)
        r = path_write_file(dest, RELEASE_SIGNATURE, f->signature.data, f->signature.len, 0644, true, err);
    return r;
}

/* ---- What is asked for ---- */

#define FETCH(home_, cfg_, url_, p_)                                                                                   \
    {                                                                                                                  \
        .home = (home_), .cfg = (cfg_), .url = (url_), .p = (p_), .dirfd = -1, .lock = LOCK_INIT,                      \
        .manifest = BUF_INIT(RELEASE_MAX_MANIFEST), .signature = BUF_INIT(RELEASE_MAX_SIGNATURE),                      \
    }

/* An empty folder in place of what an earlier fetch left; the lock is held. */
static int fresh_folder(int dirfd, const char *name, struct mvm_error *err)
{
    int r = path_remove_tree(dirfd, name);
    if (r == 0 && mkdirat(dirfd, name, 0700) < 0)
        r = -errno;
    if (r == 0)
        r = os_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
    return r < 0 ? mvm_error_errno(err, r, "cannot make folder %s", name) : r;
}

/* Wrong for good, or a connection that may be better the next time? */
static bool is_refused(int r)
{
    static const int codes[] = {-EKEYREJECTED, -ENOKEY, -EINVAL, -EBADMSG,        -EMSGSIZE,
                                -ENODATA,      -ESTALE, -ENOENT, -EPROTONOSUPPORT};
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (codes[i] == r)
            return true;
    return false;
}

static int failed(int r, const char *url, struct mvm_error *err)
{
    if (r == 0)
        return 0;
    mvm_error_wrap(err, "image from %.300s", url);
    mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
    mvm_error_hint(err, "%s",
                   is_refused(r) ? "nothing of it is used or kept; ask who publishes the image"
                                 : "try again: what came is kept and gone on from");
    return r;
}

static int verify_whole(struct fetch *f, struct mvm_error *err)
{
    int r = fetch_open(f, err);
    if (r == 0)
        r = fetch_manifest(f, ANY_KIND, err);
    if (r < 0)
        return r;
    CLEAN_FD int stage = fresh_folder(f->dirfd, VERIFY_STAGE, err);
    r = stage < 0 ? stage : fetch_files(f, stage, err);
    (void)!path_remove_tree(f->dirfd, VERIFY_STAGE);
    return r;
}

int release_verify_url(struct home *h, const struct config *cfg, const char *url, struct progress *p,
                       struct release *ret, const struct minisign_key **ret_key, struct mvm_error *err)
{
    CLEANUP(fetch_done) struct fetch f = FETCH(h, cfg, url, p);
    progress_phase(p, "downloading");
    int r = verify_whole(&f, err);
    progress_end(p);
    if (r == 0) {
        *ret = f.release;
        *ret_key = f.key;
    }
    return failed(r, url, err);
}

/* The very set that is published is installed already, and whole. */
static bool is_installed(const struct fetch *f, int prebuilt, const char *name)
{
    CLEAN_FD int dir = os_open_beneath(prebuilt, name, O_RDONLY | O_DIRECTORY, 0);
    CLEAN_BUF struct buf manifest = BUF_INIT(RELEASE_MAX_MANIFEST);
    return dir >= 0 && path_read_file(dir, RELEASE_MANIFEST, &manifest, NULL) == 0 && manifest.len == f->manifest.len &&
           memcmp(manifest.data, f->manifest.data, manifest.len) == 0 &&
           release_check_files(dir, &f->release, NULL) == 0;
}

/* The staged folder under its name; one of that name that was there goes away. */
static int promote(int prebuilt, const char *name, struct mvm_error *err)
{
    int r = os_rename_exchange(prebuilt, SEED_STAGE, prebuilt, name);
    if (r == -ENOENT)
        r = renameat(prebuilt, SEED_STAGE, prebuilt, name) < 0 ? -errno : 0;
    if (r < 0)
        return mvm_error_errno(err, r, "cannot install the image");
    fsync(prebuilt);
    (void)!path_remove_tree(prebuilt, SEED_STAGE);
    return 0;
}

static int install_seed(struct fetch *f, char **ret_path, struct mvm_error *err)
{
    char name[32];
    int r = fetch_open(f, err);
    if (r == 0)
        r = fetch_manifest(f, RELEASE_DEV, err);
    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "v%lld", (long long)f->release.version);
    CLEAN_FREE char *path = path_join(f->home->state, PREBUILT, name, NULL);
    if (!path)
        return mvm_error_errno(err, -ENOMEM, "image");
    CLEAN_FD int prebuilt = path_open_dir(f->home->state_fd, PREBUILT, err);
    if (prebuilt < 0)
        return prebuilt;
    if (!is_installed(f, prebuilt, name)) {
        CLEAN_FD int stage = fresh_folder(prebuilt, SEED_STAGE, err);
        r = stage < 0 ? stage : fetch_files(f, stage, err);
        if (r == 0)
            r = promote(prebuilt, name, err);
        if (r < 0)
            (void)!path_remove_tree(prebuilt, SEED_STAGE);
    }
    if (r == 0)
        r = release_versions_record(f->home, &f->release, f->key, err);
    if (r == 0)
        *ret_path = TAKE_PTR(path);
    return r;
}

void release_sweep(struct home *h)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int downloads = openat(h->cache_fd, DOWNLOADS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (downloads < 0 || lock_take(&lock, downloads, DOWNLOADS_OF, "removing unfinished images", NULL, NULL) < 0)
        return;
    (void)!path_remove_tree(downloads, VERIFY_STAGE);
    CLEAN_FD int prebuilt = os_open_beneath(h->state_fd, PREBUILT, O_RDONLY | O_DIRECTORY, 0);
    if (prebuilt >= 0)
        (void)!path_remove_tree(prebuilt, SEED_STAGE);
}

int release_fetch_seed(struct home *h, const struct config *cfg, struct progress *p, char **ret_path,
                       struct mvm_error *err)
{
    if (!cfg->dev_url)
        return mvm_error_set(err, -ENOENT, "no published dev image is configured");
    CLEANUP(fetch_done) struct fetch f = FETCH(h, cfg, cfg->dev_url, p);
    progress_phase(p, "downloading");
    int r = install_seed(&f, ret_path, err);
    progress_end(p);
    return failed(r, cfg->dev_url, err);
}

static int stage_builder(struct fetch *f, int stage_dirfd, struct mvm_error *err)
{
    int r = fetch_open(f, err);
    if (r == 0)
        r = fetch_manifest(f, RELEASE_BUILDER, err);
    if (r == 0)
        r = fetch_files(f, stage_dirfd, err);
    return r < 0 ? r : release_versions_record(f->home, &f->release, f->key, err);
}

int release_fetch_builder(struct home *h, const struct config *cfg, int stage_dirfd, struct progress *p,
                          struct mvm_error *err)
{
    CLEAN_INSTALL_PATHS struct install_paths inst = {0};
    int r = install_paths_find(&inst, err);
    if (r < 0)
        return r;
    if (inst.checkout) {
        mvm_error_set(err, -EPERM, "a source checkout builds its builder image and never downloads one");
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        return -EPERM;
    }
    if (!cfg->builder_url)
        return mvm_error_set(err, -ENOENT, "no published builder image is configured");
    CLEANUP(fetch_done) struct fetch f = FETCH(h, cfg, cfg->builder_url, p);
    progress_phase(p, "downloading");
    r = stage_builder(&f, stage_dirfd, err);
    progress_end(p);
    return failed(r, cfg->builder_url, err);
}
