#include "guest/files.h"
#include "base/sha256.h"
#include "guest/guest.h"

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

bool files_has(const uint8_t *key)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(key, path, &folder);
    /* Its age is that of its last use. */
    return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static int take(void *data, const uint8_t *key, int parent, const char *name)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(key, path, &folder);
    return linkat(AT_FDCWD, path, parent, name, 0) < 0 ? -errno : 0;
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

static void keep_one(int tree, const struct seen *s)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(s->key, path, &folder);
    if (linkat(tree, s->path, AT_FDCWD, path, 0) == 0 || errno != ENOENT)
        return;
    path[folder] = '\0';
    mkdir(BUILD_FILES, 0700);
    mkdir(path, 0700);
    path[folder] = '/';
    (void)!linkat(tree, s->path, AT_FDCWD, path, 0);
}

static void keep_all(int tree)
{
    for (size_t i = 0; i < n_seen; i++)
        keep_one(tree, &seen[i]);
}

void files_keep(int tree, int procs_fd, int sock)
{
    pid_t pid = n_seen > MANY ? fork() : -1;
    if (pid < 0) /* they are few, or there is no process to be had */
        keep_all(tree);
    if (pid != 0)
        return;
    close(sock);
    if (write(procs_fd, "0", 1) == 1)
        keep_all(tree);
    _exit(0);
}

const struct tree_keeper files_keeper = {.take = take, .keep = keep};

static time_t oldest; /* that stays */

static int sweep_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (type == FTW_F && st->st_mtime < oldest)
        unlink(path);
    return 0;
}

void files_sweep(long max_age_s)
{
    oldest = time(NULL) - max_age_s;
    nftw(BUILD_FILES, sweep_one, 8, FTW_PHYS);
}
