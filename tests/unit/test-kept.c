/* Images that users' snapshots need, and reading all that is kept to boot from. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "machine/pinned_image.h"
#include "machine/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static char *top;
static int folder = -1, root = -1;
static struct runfile *run;

static void put(const char *name, const char *text)
{
    if (path_make_parents(folder, name, 0700) < 0)
        abort();
    CLEAN_FD int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static bool is_there(const char *name)
{
    return faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static ino_t inode(const char *name, mode_t *ret_mode)
{
    struct stat st = {0};
    (void)fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW);
    *ret_mode = st.st_mode & 0777;
    return st.st_ino;
}

static void test_keep_cached(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char key[SHA256_HEX_SIZE];
    mode_t mode;
    put("image/rootfs.ext4", "root");
    put("image/vmlinux", "kernel");
    put("image/other", "no part of it");
    put("snapshots/.images/.new/half", "of one that was killed");
    *run = (struct runfile){.name = "web", .image = DIGEST};
    snprintf(run->image_path, sizeof(run->image_path), "%s/image", top);
    ok(pinned_image_keep(root, run, key, &e) == 0 && strcmp(key, DIGEST) == 0,
       "an image of the cache is kept by its digest (%s)", e.msg);
    ok(is_there("snapshots/.images/" DIGEST "/rootfs.ext4") && is_there("snapshots/.images/" DIGEST "/vmlinux") &&
           !is_there("snapshots/.images/" DIGEST "/other") && !is_there("snapshots/.images/.new"),
       "its files are, nothing else of its folder, and nothing of one that was killed");
    ok(inode("image/rootfs.ext4", &mode) == inode("snapshots/.images/" DIGEST "/rootfs.ext4", &mode),
       "they take no room of their own");
    (void)!path_remove_tree(folder, "image");
    ok(pinned_image_keep(root, run, key, &e) == 0, "an image that is kept already is not needed again");
    CLEAN_FD int kept = pinned_image_open(root, key);
    ok(kept >= 0 && faccessat(kept, "rootfs.ext4", R_OK, 0) == 0, "it is opened by its key");
    ok(pinned_image_open(root, "../..") < 0 && pinned_image_open(root, "none") == -ENOENT, "and nothing by another");
    char path[200];
    pinned_image_path("/state", key, path, sizeof(path));
    ok(strcmp(path, "/state/snapshots/.images/" DIGEST) == 0, "its path is below the user's snapshots");
}

static void test_keep_folder(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char key[SHA256_HEX_SIZE], again[SHA256_HEX_SIZE], name[200];
    mode_t mode;
    put("folder/rootfs.ext4", "root");
    *run = (struct runfile){.name = "web"};
    snprintf(run->image_path, sizeof(run->image_path), "%s/folder", top);
    ok(pinned_image_keep(root, run, key, &e) == 0 && strlen(key) == 64, "an image in a folder has a key, too (%s)",
       e.msg);
    snprintf(name, sizeof(name), "snapshots/.images/%s/rootfs.ext4", key);
    ino_t kept = inode(name, &mode);
    ok(kept && mode == 0400 && kept != inode("folder/rootfs.ext4", &mode),
       "its files are copied: their owner may write to them");
    put("folder/rootfs.ext4", "another root");
    ok(pinned_image_keep(root, run, again, &e) == 0 && strcmp(key, again) != 0,
       "another content of the folder is another image");
    snprintf(run->state, sizeof(run->state), "/state");
    snprintf(run->image_path, sizeof(run->image_path), "%s/snapshots/.images/%s", top, key);
    ok(pinned_image_keep(root, run, again, &e) == 0 && strcmp(key, again) == 0,
       "a VM that continued from a snapshot runs a kept one");
}

static void test_keep_broken(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char key[SHA256_HEX_SIZE];
    put("broken/vmlinux", "kernel");
    *run = (struct runfile){.name = "web", .image = "bbbb"};
    snprintf(run->image_path, sizeof(run->image_path), "%s/broken", top);
    ok(pinned_image_keep(root, run, key, &e) < 0 && !is_there("snapshots/.images/bbbb") &&
           !is_there("snapshots/.images/.new"),
       "of an image without a root nothing is kept (%s)", e.msg);
    snprintf(run->image_path, sizeof(run->image_path), "%s/none", top);
    ok(pinned_image_keep(root, run, key, &e) == -ENOENT && strstr(e.msg, "is gone"), "an image that is gone says so");
    if (symlinkat("/etc/passwd", folder, "broken/rootfs.ext4") < 0)
        abort();
    snprintf(run->image_path, sizeof(run->image_path), "%s/broken", top);
    run->image[0] = '\0';
    ok(pinned_image_keep(root, run, key, &e) < 0 && !is_there("snapshots/.images/.new"),
       "a symlink in a folder is not followed");
}

static bool is_used(void *data, const char *key)
{
    ++*(unsigned *)data;
    return strcmp(key, DIGEST) == 0;
}

static void test_sweep(void)
{
    unsigned asked = 0;
    put("snapshots/.images/.new/half", "x");
    put("snapshots/.images/cccc/rootfs.ext4", "x");
    pinned_image_sweep(root, is_used, &asked);
    ok(is_there("snapshots/.images/" DIGEST "/rootfs.ext4") && !is_there("snapshots/.images/cccc") &&
           !is_there("snapshots/.images/.new") && asked >= 2,
       "what is not needed goes, and what was never finished");
    CLEAN_FD int none = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pinned_image_sweep(none, is_used, &asked);
    ok(is_there("snapshots/.images/" DIGEST), "where there are no images nothing is swept");
}

/* ---- All that there is ---- */

struct seen {
    unsigned n;
    enum verify_kind kind;
    char name[64];
    int code;
};

static void on_found(void *data, enum verify_kind kind, const char *name, int code, const char *why)
{
    struct seen *s = data;
    s->n++;
    s->kind = kind;
    s->code = code;
    snprintf(s->name, sizeof(s->name), "%s", name);
}

static void test_verify(void)
{
    struct home home = HOME_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    struct seen seen = {0};
    CLEAN_FREE char *state = path_join(top, "home", NULL);
    CLEAN_FREE char *cache = path_join(top, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (home_open(&home, NULL) < 0)
        abort();
    struct verify v = {.found = on_found, .data = &seen};
    ok(verify_all(&v, &home, &e) == 0 && seen.n == 0, "where nothing is kept nothing is read (%s)", e.msg);
    put("cache/artifacts/" DIGEST "/rootfs.ext4", "no image");
    put("cache/artifacts/not-a-digest/rootfs.ext4", "x");
    ok(verify_all(&v, &home, &e) == 0 && seen.n == 1 && seen.kind == VERIFY_IMAGE &&
           strcmp(seen.name, "aaaaaaaaaaaa") == 0 && seen.code < 0 && v.tally[VERIFY_IMAGE].good == 0 &&
           v.tally[VERIFY_IMAGE].damaged + v.tally[VERIFY_IMAGE].unreadable == 1,
       "an image without its manifest is found, named and counted (%d)", seen.code);
    ok(is_there("cache/artifacts/" DIGEST), "it stays where nobody asked for its removal");
    ok(strcmp(verify_kind_name(VERIFY_SNAPSHOT), "snapshot") == 0 &&
           strcmp(verify_kind_name(VERIFY_IMAGE), "image") == 0 && !*verify_kind_name(VERIFY_COUNT),
       "each kind has a name");
    home_done(&home);
}

int main(void)
{
    top = strdup(tap_folder());
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(folder, "snapshots", 0700) < 0 ||
        (root = openat(folder, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    run = calloc(1, sizeof(*run));
    test_keep_cached();
    test_keep_folder();
    test_keep_broken();
    test_sweep();
    test_verify();
    free(run);
    close(root);
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    free(top);
    return tap_end();
}
