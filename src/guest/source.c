#include "guest/source.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "guest/folders.h"
#include "guest/nix_store.h"
#include "wire/msg_build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOOL      "/usr/libexec/mvm/mvm-nixdb"
#define DB        "/nix/var/nix/db/db.sqlite"
#define ROOTS     "/nix/var/nix/gcroots/mvm-jobs"
#define CACHE_DIR BUILD_HOME "/.cache/nix"
#define CACHE     CACHE_DIR "/fetcher-cache-v3.sqlite"
#define WAIT_MS   (10 * 60 * 1000)

static const char *const env[] = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" BUILD_HOME, "USER=root", "LANG=C.UTF-8",
                                  NULL};

/* Files came as the store has them; folders and symlinks are made so here. */
static int settle(int parent, const char *name)
{
    static const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1}};
    CLEAN_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int list_fd = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = list_fd < 0 ? NULL : fdopendir(list_fd);
    int r = d ? 0 : -errno;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (e->d_type == DT_DIR)
            r = settle(fd, e->d_name);
        else if (e->d_type == DT_LNK && utimensat(fd, e->d_name, times, AT_SYMLINK_NOFOLLOW) < 0)
            r = -errno;
    }
    if (d)
        closedir(d);
    if (r == 0 && (fchown(fd, SOURCE_OWNER, SOURCE_OWNER) < 0 || fchmod(fd, 0555) < 0 || futimens(fd, times) < 0))
        r = -errno;
    return r;
}

static int run(const char *const *argv, struct mvm_error *err)
{
    const struct process_opts o = {.argv = argv, .envp = env, .cwd = "/", .stdin_fd = -1, .die_with_parent = true};
    CLEAN_BUF struct buf out = BUF_INIT(1024);
    CLEAN_BUF struct buf said = BUF_INIT(600);
    int code = process_capture(&o, &out, &said, clock_deadline(WAIT_MS), err);
    if (code == 3)
        return -ENOTSUP;
    return code > 0 ? mvm_error_set(err, -EIO, "%s", said.len ? buf_cstr(&said) : argv[0]) : code;
}

static void root_path(unsigned id, char out[static 80])
{
    snprintf(out, 80, ROOTS "/%u", id);
}

static int hold(unsigned id, const char *path)
{
    char root[80];
    root_path(id, root);
    mkdir(ROOTS, 0755);
    unlink(root);
    return symlink(path, root) < 0 ? -errno : 0;
}

int source_to_store(const char *tree, unsigned id, const struct msg_build *m, char ret[static 128],
                    struct mvm_error *err)
{
    char size[24];
    const char *const init[] = {"nix-store", "--init", NULL};
    const char *const add[] = {TOOL, tree, ret, m->nar_hex, size, CACHE, NULL};
    snprintf(size, sizeof(size), "%llu", (unsigned long long)m->nar_size);
    if (snprintf(ret, 128, "/nix/store/%s", m->store_name) >= 128 || !nix_store_is_path(ret))
        return mvm_error_set(err, -EPROTO, "%.100s is no name in the store", m->store_name);
    int r = access(DB, F_OK) < 0 ? run(init, err) : 0;
    if (r == 0)
        r = settle(AT_FDCWD, tree);
    mkdir(BUILD_HOME "/.cache", 0755);
    mkdir(CACHE_DIR, 0755);
    if (r == 0)
        r = hold(id, ret);
    if (r == 0)
        r = run(add, err);
    if (r < 0 && r != -ENOTSUP && !mvm_error_code(err))
        mvm_error_errno(err, r, "%s", ret);
    mvm_error_wrap(r < 0 ? err : NULL, "the flake cannot be put into the store");
    return r;
}

void source_release(unsigned id)
{
    char root[80];
    root_path(id, root);
    unlink(root);
}

void source_release_all(void)
{
    (void)!path_remove_tree(AT_FDCWD, ROOTS);
}
