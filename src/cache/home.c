#include "cache/home.h"
#include "base/fd.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
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

/*
 * A folder is mvmctl's if it has a marker file, which is written when a folder is made, or is taken that is empty, has
 * only what users and tools put there for mvmctl, or is private and has nothing but what an mvmctl before the marker
 * made. Any other belongs to another purpose: it is neither used nor made private, because closing /tmp or a home
 * folder to others would harm whoever uses it.
 */
#define MARKER ".mvm"

struct survey {
    int fd;
    bool made;            /* it has something that mvmctl makes */
    bool foreign;         /* it has something that neither mvmctl makes nor a user puts there for it */
    char of_another[256]; /* an entry that belongs to another user, "" for none */
};

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names;
}

static int on_entry(void *data, const char *name)
{
    static const char *const of_the_user[] = {"config.toml", "kernels", "lost+found", NULL};
    static const char *const of_mvmctl[] = {"vms",    "dev",       "run",        "snapshots", "logs",   "builder-vm",
                                            "builds", "artifacts", "stat-index", "downloads", "stage0", NULL};
    struct survey *s = data;
    struct stat st;
    bool made = is_one_of(name, of_mvmctl);
    s->made |= made;
    s->foreign |= !made && !is_one_of(name, of_the_user);
    if (strcmp(name, "lost+found") == 0) /* a file system's own */
        return 0;
    if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (st.st_uid != geteuid())
        snprintf(s->of_another, sizeof(s->of_another), "%s", name);
    return 0;
}

static int refuse(const char *path, const char *why, const char *hint, struct mvm_error *err)
{
    mvm_error_set(err, -EPERM, "folder %s %s", path, why);
    mvm_error_hint(err, "%s", hint);
    return -EPERM;
}

static bool is_marked(int fd)
{
    struct stat st;
    return fstatat(fd, MARKER, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

/* Makes it mvmctl's, if it is not, and private; or says why not. */
static int claim(int fd, const char *path, struct mvm_error *err)
{
    struct survey s = {.fd = fd};
    struct stat st;
    char text[300];
    int r = fstat(fd, &st) < 0 ? -errno : path_each(fd, ".", on_entry, &s);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read folder %s", path);
    bool marked = is_marked(fd);
    if (!marked && (s.foreign || (s.made && (st.st_mode & 077))))
        return refuse(path, "holds what mvmctl did not make, and has no file " MARKER " that says it is mvmctl's",
                      "set MVM_HOME and MVM_CACHE_DIR to new folders; if an mvmctl before this one made it: make an "
                      "empty file " MARKER " in it",
                      err);
    if (st.st_mode & 022)
        return refuse(path, "can be written by other users and may hold what they put there",
                      "set MVM_HOME and MVM_CACHE_DIR to new folders; or, if nobody put anything there: chmod 700",
                      err);
    snprintf(text, sizeof(text), "holds '%.200s', which belongs to another user", s.of_another);
    if (s.of_another[0])
        return refuse(path, text, "remove it, or set MVM_HOME and MVM_CACHE_DIR to folders of your own", err);
    if ((st.st_mode & 077) && fchmod(fd, 0700) < 0)
        return mvm_error_errno(err, -errno, "cannot make folder %s private", path);
    static const char words[] = "This folder is mvmctl's.\n";
    r = marked ? 0 : path_write_file(fd, MARKER, words, sizeof(words) - 1, 0600, false, err);
    return r == -EROFS ? 0 : r; /* nothing else can be made there either */
}

static int open_root(const char *path, int *ret_fd, struct mvm_error *err)
{
    CLEAN_FD int fd = path_open_dir(AT_FDCWD, path, err);
    int r = fd < 0 ? fd : claim(fd, path, err);
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
