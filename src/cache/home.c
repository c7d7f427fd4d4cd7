#include "cache/home.h"
#include "base/fd.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* $HOME, or what the password file says. The caller frees. */
static char *user_home(void)
{
    const char *env = getenv("HOME");
    if (env && env[0] == '/')
        return strdup(env);
    struct passwd *pw = getpwuid(getuid());
    return pw && pw->pw_dir[0] == '/' ? strdup(pw->pw_dir) : NULL;
}

/* The folder a variable names, else fallback below home. */
static char *choose(const char *variable, const char *fallback)
{
    const char *env = getenv(variable);
    if (env && *env) {
        if (env[0] == '/')
            return strdup(env);
        CLEAN_FREE char *cwd = getcwd(NULL, 0);
        return cwd ? path_join(cwd, env, NULL) : NULL;
    }
    CLEAN_FREE char *home = user_home();
    return home ? path_join(home, fallback, NULL) : NULL;
}

static char *choose_cache(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME");
    const char *env = getenv("MVM_CACHE_DIR");
    if ((!env || !*env) && xdg && xdg[0] == '/')
        return path_join(xdg, "mvm", NULL);
    return choose("MVM_CACHE_DIR", ".cache/mvm");
}

/* What mvmctl makes in its two folders. A folder with anything else in it is somebody's for another purpose. */
static const char *const state_names[] = {"config.toml", "dev", "vms", "snapshots", "run", NULL};
static const char *const cache_names[] = {"stage0", "builder-vm", "kernels",   "artifacts",  "snapshots",
                                          "builds", "logs",       "downloads", "stat-index", NULL};

static bool is_ours(const char *name, const char *const *ours)
{
    for (; *ours; ours++)
        if (strcmp(name, *ours) == 0)
            return true;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* How many entries there are, and whether all of them are mvmctl's. -errno where the folder cannot be read. */
static int survey(int fd, const char *const *ours, unsigned *ret_entries, bool *ret_all_ours)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return -errno;
    *ret_entries = 0;
    *ret_all_ours = true;
    for (struct dirent *e; (e = readdir(d));) {
        *ret_entries += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
        *ret_all_ours &= is_ours(e->d_name, ours);
    }
    closedir(d);
    return 0;
}

/* Only a folder that is mvmctl's is made private: closing /tmp or a home folder to others would harm whoever uses it,
 * and what others could write to may hold what they put there. */
static int make_private(int fd, const char *path, const char *const *ours, struct mvm_error *err)
{
    struct stat st;
    unsigned entries = 0;
    bool all_ours = false;
    int r = fstat(fd, &st) < 0 ? -errno : survey(fd, ours, &entries, &all_ours);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read folder %s", path);
    if ((st.st_mode & 077) == 0)
        return 0;
    if ((st.st_mode & S_ISVTX) || !all_ours || (entries && (st.st_mode & 022))) {
        mvm_error_set(err, -EPERM, "folder %s is open to other users and %s", path,
                      all_ours ? "may hold what they put there" : "holds what mvmctl did not make");
        mvm_error_hint(err, "set MVM_HOME and MVM_CACHE_DIR to new folders; or, if it is mvmctl's: chmod 700 %s", path);
        return -EPERM;
    }
    return fchmod(fd, 0700) < 0 ? mvm_error_errno(err, -errno, "cannot make folder %s private", path) : 0;
}

static int open_root(const char *path, const char *const *ours, int *ret_fd, struct mvm_error *err)
{
    CLEAN_FD int fd = path_open_dir(AT_FDCWD, path, err);
    int r = fd < 0 ? fd : make_private(fd, path, ours, err);
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

int home_open(struct home *h, struct mvm_error *err)
{
    h->state = choose("MVM_HOME", ".mvm");
    h->cache = choose_cache();
    int r = 0;
    if (!h->state || !h->cache)
        r = mvm_error_set(err, -ENOENT, "neither HOME nor the password file names a home folder");
    if (r == 0)
        r = open_root(h->state, state_names, &h->state_fd, err);
    if (r == 0)
        r = open_root(h->cache, cache_names, &h->cache_fd, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        mvm_error_hint(err, "set MVM_HOME and MVM_CACHE_DIR to folders that can be written");
        home_done(h);
    }
    return r;
}

void home_done(struct home *h)
{
    fd_closep(&h->state_fd);
    fd_closep(&h->cache_fd);
    free(h->state);
    free(h->cache);
    h->state = h->cache = NULL;
}
