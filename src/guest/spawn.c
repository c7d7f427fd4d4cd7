#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
#define MAX_ENV      (2 * MSG_MAX_ARGS + 8)

/* NAME=value into the list, replacing one of the same name. */
static void put_env(const char **env, size_t *n, const char *entry)
{
    size_t len = strcspn(entry, "=");
    for (size_t i = 0; i < *n; i++) {
        if (strncmp(env[i], entry, len) == 0 && env[i][len] == '=') {
            env[i] = entry;
            return;
        }
    }
    if (*n < MAX_ENV - 1)
        env[(*n)++] = entry;
}

static const char *get_env(const char **env, const char *name)
{
    size_t len = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* In the child: never returns where exec works. */
static int child(const struct spawn *s, const char **env)
{
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (setsid() < 0)
        return -errno;
    if (s->terminal && ioctl(s->in, TIOCSCTTY, 0) < 0)
        return -errno;
    if (dup2(s->in, 0) < 0 || dup2(s->out, 1) < 0 || dup2(s->err, 2) < 0)
        return -errno;
    int r = user_become(s->user);
    if (r < 0)
        return r;
    if (chdir(s->cwd ? s->cwd : s->user->home) < 0) {
        if (s->cwd)
            return -errno;
        if (chdir("/") < 0)
            return -errno;
    }
    /* execvpe looks PATH up in this process's own environment. */
    const char *path = get_env(env, "PATH");
    if (path && setenv("PATH", path, 1) < 0)
        return -errno;
    execvpe(s->argv[0], s->argv, (char *const *)(uintptr_t)env);
    return -errno;
}

pid_t spawn_start(const struct spawn *s)
{
    const char *env[MAX_ENV] = {0};
    char home[300], user[64];
    size_t n = 0;
    strcpy(home, "HOME=");
    strncat(home, s->user->home, sizeof(home) - 6);
    strcpy(user, "USER=");
    strncat(user, s->user->name, sizeof(user) - 6);
    put_env(env, &n, "PATH=" DEFAULT_PATH);
    put_env(env, &n, home);
    put_env(env, &n, user);
    if (s->terminal)
        put_env(env, &n, "TERM=linux");
    for (size_t k = 0; k < ARRAY_SIZE(s->env); k++)
        for (size_t i = 0; s->env[k] && i < s->env[k]->n; i++)
            put_env(env, &n, s->env[k]->v[i]);
    /* vfork: the child shares this memory until exec, so its error comes back in a variable and nothing is copied. */
    volatile int error = 0;
    pid_t pid = vfork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        error = child(s, env);
        _exit(127);
    }
    return error ? error : pid;
}
