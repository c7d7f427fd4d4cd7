#include "base/fd.h"
#include "jail/jail.h"

#include <errno.h>
#include <sys/prctl.h>

int jail_enter(const struct jail_path *paths, size_t n, struct jail_report *report, struct mvm_error *err)
{
    *report = (struct jail_report){0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return mvm_error_errno(err, -errno, "no new privileges");
    int abi = 0, r = 0;
    CLEAN_FD int rules = landlock_open(true, &abi);
    for (size_t i = 0; rules >= 0 && r == 0 && i < n; i++)
        r = paths[i].path     ? landlock_path(rules, abi, paths[i].path, paths[i].access)
            : paths[i].fd < 0 ? 0
                              : landlock_fd(rules, abi, paths[i].fd, paths[i].access);
    if (rules >= 0 && r == 0)
        r = landlock_enforce(rules);
    if (r < 0)
        return mvm_error_errno(err, r, "Landlock");
    report->landlock = abi;
    r = filter_enforce(FILTER_SUPERVISOR);
    report->seccomp = r == 0;
    return r < 0 ? mvm_error_errno(err, r, "seccomp") : 0;
}
