#include "guest/files.h"
#include "base/sha256.h"
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

static void keep(void *data, const uint8_t *key, int parent, const char *name)
{
    char path[PATH_SIZE];
    size_t folder;
    path_of(key, path, &folder);
    if (linkat(parent, name, AT_FDCWD, path, 0) == 0 || errno != ENOENT)
        return;
    path[folder] = '\0';
    mkdir(BUILD_FILES, 0700);
    mkdir(path, 0700);
    path[folder] = '/';
    (void)!linkat(parent, name, AT_FDCWD, path, 0);
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
