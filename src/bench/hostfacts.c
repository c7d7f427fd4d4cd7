#include "bench/hostfacts.h"
#include "host/os.h"
#include "vmm/vmm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

void hostfacts_load(struct hostfacts *f, const char *backend)
{
    const struct vmm_ops *vmm;
    struct utsname u;
    *f = (struct hostfacts){0};
    os_cpu_model(f->cpu, sizeof(f->cpu));
    f->cores = os_cores();
    if (uname(&u) == 0) {
        snprintf(f->kernel, sizeof(f->kernel), "%s", u.release);
        snprintf(f->machine, sizeof(f->machine), "%.31s", u.machine);
    }
    f->memory_mib = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
    if (vmm_find(backend, &vmm, NULL) == 0)
        (void)!vmm->version(f->backend, sizeof(f->backend), NULL);
    double load[1];
    if (getloadavg(load, 1) == 1)
        f->load = load[0];
}
