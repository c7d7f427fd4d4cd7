#include "cache/home.h"
#include "base/fd.h"
#include "base/path.h"

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

static int open_root(const char *path, int *ret_fd, struct mvm_error *err)
{
    CLEAN_FD int fd = path_open_dir(AT_FDCWD, path, err);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot open folder %s", path);
    if (st.st_uid != geteuid()) {
        mvm_error_set(err, -EPERM, "folder %s belongs to somebody else", path);
        mvm_error_hint(err, "set MVM_HOME and MVM_CACHE_DIR to folders of your own");
        return -EPERM;
    }
    if ((st.st_mode & 077) && fchmod(fd, 0700) < 0)
        return mvm_error_errno(err, -errno, "cannot make folder %s private", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int home_open(struct home *h, struct mvm_error *err)
{
    h->state = choose("MVM_HOME", ".mvm");
    h->cache = choose_cache();
    int r = 0;
    if (!h->state || !h->cache)
        r = mvm_error_set(err, -ENOENT, "neither HOME nor the password file names a home folder");
    if (r == 0)
        r = open_root(h->state, &h->state_fd, err);
    if (r == 0)
        r = open_root(h->cache, &h->cache_fd, err);
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
