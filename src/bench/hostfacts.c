#include "bench/hostfacts.h"
#include "base/fd.h"
#include "vmm/vmm.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void load_cpu(struct hostfacts *f)
{
    static const char key[] = "model name\t: ";
    CLEAN_FD int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, key);
    if (at)
        snprintf(f->cpu, sizeof(f->cpu), "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
}

void hostfacts_load(struct hostfacts *f, const char *backend)
{
    const struct vmm_ops *vmm;
    struct utsname u;
    cpu_set_t set;
    *f = (struct hostfacts){0};
    load_cpu(f);
    if (uname(&u) == 0) {
        snprintf(f->kernel, sizeof(f->kernel), "%s", u.release);
        snprintf(f->machine, sizeof(f->machine), "%.31s", u.machine);
    }
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        f->cores = (unsigned)CPU_COUNT(&set);
    f->memory_mib = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
    if (vmm_find(backend, &vmm, NULL) == 0)
        (void)!vmm->version(f->backend, sizeof(f->backend), NULL);
    double load[1];
    if (getloadavg(load, 1) == 1)
        f->load = load[0];
}
