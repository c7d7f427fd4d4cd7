#include "guest/oom.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void set_score(const char *score)
{
    CLEAN_FD int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!fd_write_all(fd, score, strlen(score));
}

void oom_spare_this(void)
{
    set_score("-1000");
}

void oom_spare_no_more(void)
{
    set_score("0");
}

/* Linux, mm/oom_kill.c, __oom_kill_process(): "Out of memory: Killed process 12 (name) total-vm:...", and for a cgroup
 * "Memory cgroup out of memory: Killed process ...". */
bool oom_names(const char *record, pid_t pid)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "ut of memory: Killed process %d (", (int)pid);
    return strstr(record, wanted);
}

bool oom_killed(pid_t pid)
{
    char record[8192]; /* one each read (Linux, Documentation/ABI/testing/dev-kmsg) */
    CLEAN_FD int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    for (bool more = fd >= 0; more;) {
        ssize_t n = read(fd, record, sizeof(record) - 1);
        more = n > 0 || (n < 0 && (errno == EPIPE || errno == EINTR)); /* EPIPE: records were overwritten meanwhile */
        record[n > 0 ? n : 0] = '\0';
        if (oom_names(record, pid))
            return true;
    }
    return false;
}
