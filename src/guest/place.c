#include "guest/place.h"
#include "base/fd.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int place_begin(struct place *p, const char *work)
{
    *p = (struct place){.work = work};
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    return 0;
}

/* One entry of the folder that is covered, in the cover. */
static int copy_entry(int folder, const char *name, const char *cover)
{
    char from[64 + NAME_MAX], to[PATH_MAX + 1 + NAME_MAX], target[PATH_MAX];
    struct stat st;
    snprintf(from, sizeof(from), "/proc/self/fd/%d/%s", folder, name);
    snprintf(to, sizeof(to), "%s/%s", cover, name);
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(folder, name, target, sizeof(target) - 1);
        if (n < 0)
            return -errno;
        target[n] = '\0';
        return symlink(target, to) < 0 ? -errno : 0;
    }
    int r = S_ISDIR(st.st_mode) ? mkdir(to, 0755) : mknod(to, S_IFREG | 0644, 0);
    return r < 0 || mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

static int copy_entries(const char *folder, const char *cover)
{
    DIR *d = opendir(folder);
    int r = d ? 0 : -errno;
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = copy_entry(dirfd(d), e->d_name, cover);
    if (d)
        closedir(d);
    return r;
}

/* The cover becomes the folder; the root itself can only be exchanged. */
static int move_cover(const char *cover, const char *folder)
{
    if (strcmp(folder, "/") != 0)
        return mount(cover, folder, NULL, MS_MOVE, NULL) < 0 ? -errno : 0;
    if (chdir(cover) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

static int cover_folder(struct place *p, const char *folder)
{
    char cover[PATH_MAX];
    struct stat st;
    if (p->n_covers == ARRAY_SIZE(p->covers))
        return -E2BIG;
    snprintf(cover, sizeof(cover), "%s/cover", p->work);
    if (mkdir(cover, 0755) < 0 && errno != EEXIST)
        return -errno;
    /* Unbindable, or the root's entries would contain the cover again. */
    if (mount("cover", cover, "tmpfs", 0, "mode=755") < 0 || mount(NULL, cover, NULL, MS_UNBINDABLE, NULL) < 0)
        return -errno;
    int r = copy_entries(folder, cover);
    if (r == 0 && stat(cover, &st) < 0)
        r = -errno;
    if (r == 0)
        r = move_cover(cover, folder);
    if (r == 0)
        p->covers[p->n_covers++] = st.st_dev;
    return r;
}

static int is_covered(const struct place *p, const char *folder)
{
    struct stat st;
    if (stat(folder, &st) < 0)
        return -errno;
    for (size_t i = 0; i < p->n_covers; i++)
        if (p->covers[i] == st.st_dev)
            return 1;
    return 0;
}

/* Makes what lacks in folder, which is "/" or has no slash at its end. */
static int make_entry(struct place *p, const char *folder, const char *path, bool is_folder)
{
    int r = is_covered(p, folder);
    if (r == 0)
        r = cover_folder(p, folder);
    if (r < 0)
        return r;
    r = is_folder ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0);
    return r < 0 ? -errno : 0;
}

/* What is there may be hidden if it is empty, or another input, which has this one in it. */
static int check_hidden(const char *path, const struct stat *there, const struct stat *from)
{
    if ((there->st_mode & S_IFMT) != (from->st_mode & S_IFMT))
        return S_ISDIR(from->st_mode) ? -ENOTDIR : -EISDIR;
    if (there->st_dev == from->st_dev)
        return 0;
    if (!S_ISDIR(there->st_mode))
        return -EEXIST;
    DIR *d = opendir(path);
    unsigned n = 0;
    while (d && n < 3 && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 2 ? -ENOTEMPTY : 0;
}

static bool is_own(const char *path)
{
    static const char *const own[] = {"/nix", "/proc", "/sys", "/dev"};
    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        size_t n = strlen(own[i]);
        if (strncmp(path, own[i], n) == 0 && (path[n] == '/' || !path[n]))
            return true;
    }
    return false;
}

int place_put(struct place *p, const char *from, const char *to)
{
    char folder[PATH_MAX] = "/", part[PATH_MAX];
    struct stat source, st;
    if (to[0] != '/' || !path_is_safe_relative(to + 1) || strlen(to) >= sizeof(part))
        return -EINVAL;
    if (is_own(to))
        return -EPERM;
    if (stat(from, &source) < 0)
        return -errno;
    for (const char *slash = strchr(to + 1, '/');; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - to) : (int)strlen(to), to);
        bool there = lstat(part, &st) == 0;
        int r = there || errno == ENOENT ? 0 : -errno;
        if (r == 0 && !there)
            r = make_entry(p, folder, part, slash || S_ISDIR(source.st_mode));
        else if (r == 0 && slash && !S_ISDIR(st.st_mode))
            r = -ENOTDIR;
        else if (r == 0 && !slash)
            r = check_hidden(part, &st, &source);
        if (r < 0)
            return r;
        if (!slash)
            return mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
        strcpy(folder, part);
    }
}
