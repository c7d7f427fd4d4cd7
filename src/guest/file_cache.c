#include "guest/file_cache.h"
#include "base/fd.h"
#include "base/sha256_hex.h"
#include "guest/folders.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEEN  65536 /* a larger tree's other files come again next time */
#define MANY      64
#define PATH_SIZE (sizeof(BUILD_FILES) + 1 + 2 * TREE_KEY_SIZE + 4)

/* FOLDER/REST, then an x where it may be executed. */
static void path_of(const uint8_t *key, char out[static PATH_SIZE], size_t *ret_folder)
{
    char hex[SHA256_HEX_SIZE];
    sha256_hex(key, hex);
    *ret_folder = sizeof(BUILD_FILES "/") - 1 + 2;
    snprintf(out, PATH_SIZE, BUILD_FILES "/%.2s/%s%s", hex, hex + 2, key[TREE_KEY_SIZE - 1] ? "x" : "");
}

bool file_cache_has(const uint8_t *key)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(key, path, &folder);
    static const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    struct stat st;
    if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    /* To write takes four times as long as to look. */
    return st.st_atime > time(NULL) - FILE_CACHE_MIN_AGE_S / 2 ||
           utimensat(AT_FDCWD, path, now, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A file has as many links as a file system allows: further ones are links to a copy. */
static int renew(const char *path, int parent, const char *name)
{
    static const struct timespec first[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = 1}};
    struct stat st;
    CLEAN_FD int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0 || fstat(from, &st) < 0)
        return -errno;
    CLEAN_FD int to = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
    int r = to < 0 ? -errno : fd_copy_file(from, to);
    if (r == 0 && (fchown(to, st.st_uid, st.st_gid) < 0 || futimens(to, first) < 0))
        r = -errno;
    if (r == 0 && (unlink(path) < 0 || linkat(parent, name, AT_FDCWD, path, 0) < 0) && errno != EEXIST)
        r = -errno;
    return r;
}

static int take(void *data, const uint8_t *key, int parent, const char *name)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(key, path, &folder);
    if (linkat(AT_FDCWD, path, parent, name, 0) == 0)
        return 0;
    return errno == EMLINK ? renew(path, parent, name) : -errno;
}

/* What came new in this process's tree. */
static struct seen {
    uint8_t key[TREE_KEY_SIZE];
    char *path;
} * seen;
static size_t n_seen;

/* Without memory, or beyond the limit, a file is not kept. */
static void keep(void *data, const uint8_t *key, const char *path)
{
    if (n_seen == MAX_SEEN || (!seen && !(seen = calloc(MAX_SEEN, sizeof(*seen)))))
        return;
    memcpy(seen[n_seen].key, key, TREE_KEY_SIZE);
    seen[n_seen].path = strdup(path);
    n_seen += seen[n_seen].path != NULL;
}

static void keep_one(int tree, const struct seen *s, size_t skip)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(s->key, path, &folder);
    if (linkat(tree, s->path + skip, AT_FDCWD, path, 0) == 0 || errno != ENOENT)
        return;
    path[folder] = '\0';
    mkdir(BUILD_FILES, 0700);
    mkdir(path, 0700);
    path[folder] = '/';
    (void)!linkat(tree, s->path + skip, AT_FDCWD, path, 0);
}

/* source: the folder that BUILD_SOURCE was, which may be in the store by now; -1: none. */
static void keep_all(int tree, int source)
{
    static const char top[] = BUILD_SOURCE "/";
    for (size_t i = 0; i < n_seen; i++) {
        bool in_source = source >= 0 && strncmp(seen[i].path, top, sizeof(top) - 1) == 0;
        keep_one(in_source ? source : tree, &seen[i], in_source ? sizeof(top) - 1 : 0);
    }
}

void file_cache_keep(int tree, int procs_fd, int sock)
{
    CLEAN_FD int source = openat(tree, BUILD_SOURCE, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    pid_t pid = n_seen > MANY ? fork() : -1;
    if (pid < 0) /* they are few, or there is no process to be had */
        keep_all(tree, source);
    if (pid != 0)
        return;
    close(sock);
    if (write(procs_fd, "0", 1) == 1)
        keep_all(tree, source);
    _exit(0);
}

const struct tree_keeper file_cache_keeper = {.take = take, .keep = keep};

static time_t oldest; /* that stays */

static int sweep_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (type == FTW_F && st->st_atime < oldest)
        unlink(path);
    return 0;
}

void file_cache_sweep(long max_age_s)
{
    oldest = time(NULL) - max_age_s;
    nftw(BUILD_FILES, sweep_one, 8, FTW_PHYS);
}
