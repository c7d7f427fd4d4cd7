#include "guest/spawn.h"
#include "guest/conf.h"
#include "guest/interpreter.h"
#include "guest/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
#define OWN_ENV      4 /* PATH, HOME, USER, TERM */

/* NAME=value into the list, which has room, replacing one of the same name. */
static void put_env(const char **env, size_t *n, const char *entry)
{
    size_t len = strcspn(entry, "=");
    for (size_t i = 0; i < *n; i++) {
        if (strncmp(env[i], entry, len) == 0 && env[i][len] == '=') {
            env[i] = entry;
            return;
        }
    }
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
static int child(const struct spawn *s, const char **env, volatile enum spawn_step *step)
{
    *step = SPAWN_SETUP;
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
    oom_spare_no_more();
    int r = user_become(s->user);
    if (r < 0)
        return r;
    if (chdir(s->cwd ? s->cwd : s->user->home) < 0) {
        *step = SPAWN_CWD;
        if (s->cwd)
            return -errno;
        if (chdir("/") < 0)
            return -errno;
    }
    /* execvpe looks PATH up in this process's own environment. */
    const char *path = get_env(env, "PATH");
    if (path && setenv("PATH", path, 1) < 0)
        return -errno;
    *step = SPAWN_EXEC;
    execvpe(s->argv[0], s->argv, (char *const *)(uintptr_t)env);
    return -errno;
}

/* The program's environment: ours, then what the lists say. NULL: no memory. The caller frees the array. */
static const char **make_env(const struct spawn *s, const char *home, const char *user)
{
    size_t n = 0, most = OWN_ENV;
    for (size_t k = 0; k < ARRAY_SIZE(s->env); k++)
        most += s->env[k] ? s->env[k]->n : 0;
    const char **env = calloc(most + 1, sizeof(*env));
    if (!env)
        return NULL;
    put_env(env, &n, "PATH=" DEFAULT_PATH);
    put_env(env, &n, home);
    put_env(env, &n, user);
    if (s->terminal)
        put_env(env, &n, "TERM=linux");
    for (size_t k = 0; k < ARRAY_SIZE(s->env); k++)
        for (size_t i = 0; s->env[k] && i < s->env[k]->n; i++)
            put_env(env, &n, s->env[k]->v[i]);
    return env;
}

pid_t spawn_start(const struct spawn *s)
{
    char home[300], user[64];
    strcpy(home, "HOME=");
    strncat(home, s->user->home, sizeof(home) - 6);
    strcpy(user, "USER=");
    strncat(user, s->user->name, sizeof(user) - 6);
    CLEAN_FREE const char **env = make_env(s, home, user);
    if (!env)
        return -ENOMEM;
    /* vfork: the child shares this memory until exec, so its error comes back in a variable and nothing is copied. */
    volatile int error = 0;
    volatile enum spawn_step step = SPAWN_SETUP;
    pid_t pid = vfork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        error = child(s, env, &step);
        _exit(127);
    }
    if (error && s->failure) {
        s->failure->step = step;
        s->failure->interpreter[0] = '\0';
        if (step == SPAWN_EXEC && error == -ENOENT)
            interpreter_missing(s->argv[0], get_env(env, "PATH"), s->cwd ? s->cwd : s->user->home,
                                s->failure->interpreter, sizeof(s->failure->interpreter));
    }
    return error ? error : pid;
}

int spawn_describe(const struct spawn *s, int error, char *why, size_t size)
{
    const char *program = s->argv[0], *interpreter = s->failure->interpreter;
    bool absent = s->failure->step == SPAWN_EXEC && (error == -ENOENT || error == -ENOTDIR) && !interpreter[0];
    if (s->failure->step == SPAWN_CWD)
        snprintf(why, size, "the working folder %.200s: %s", s->cwd ? s->cwd : "/", strerror(-error));
    else if (interpreter[0])
        snprintf(why, size, "%.150s: its interpreter %.200s is not in the guest", program, interpreter);
    else if (absent)
        snprintf(why, size, "%.150s: no such program in the guest", program);
    else
        snprintf(why, size, "%.150s: %s", program, strerror(-error));
    return absent ? 127 : 126;
}
