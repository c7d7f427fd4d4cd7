/* macOS has neither namespaces nor Landlock nor seccomp; what its App Sandbox would do for a command line's children is
 * documented for no program without a bundle. So nothing is confined, and that is said. */
#include "base/process.h"
#include "jail/cgroup.h"
#include "jail/jail.h"

#include <errno.h>
#include <stdio.h>

static const char why[] = "macOS has no namespaces, Landlock or seccomp";

int jail_start(const struct jail_spec *s, struct process *ret, struct jail_report *report, struct mvm_error *err)
{
    int keep[64];
    size_t n = 0;
    *report = (struct jail_report){0};
    snprintf(report->missing, sizeof(report->missing), "%s", why);
    if (s->required)
        return mvm_error_set(err, -ENOSYS, "%s", why);
    for (size_t i = 0; i < s->n_fds && n < ARRAY_SIZE(keep); i++)
        if (s->fds[i].fd >= 0)
            keep[n++] = s->fds[i].fd;
    const struct process_opts o = {
        .argv = s->argv,
        .envp = s->envp,
        .stdin_fd = -1,
        .stdout_fd = s->log_fd,
        .stderr_fd = s->log_fd,
        .keep_fds = keep,
        .n_keep_fds = n,
        .die_with_parent = true,
    };
    return process_start(&o, ret, err);
}

int jail_enter(const struct jail_path *paths, size_t n, struct jail_report *report, struct mvm_error *err)
{
    *report = (struct jail_report){0};
    snprintf(report->missing, sizeof(report->missing), "%s", why);
    return 0;
}

void jail_report_format(const struct jail_report *r, char ret[static JAIL_REPORT_MAX])
{
    snprintf(ret, JAIL_REPORT_MAX, "none: %s", r->missing);
}

char *jail_own_file(const char *name)
{
    return NULL;
}

int cgroup_make(struct cgroup *g, const char *vm, const struct cgroup_bounds *b, struct mvm_error *err)
{
    return mvm_error_set(err, -ENOTSUP, "macOS has no cgroups");
}

void cgroup_remove(struct cgroup *g)
{
}

void cgroup_bounds_format(const struct cgroup_bounds *b, char *out, size_t size)
{
    out[0] = '\0';
}
