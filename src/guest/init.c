/*
 * This is pid 1 of a mvm guest. It exists in three roles, told apart by the name it is executed by:
 *
 *   /init                    in the initrd: finds the root file system and switches to it
 *   /sbin/mvm-init           in a runtime VM: mounts, agent, services
 *   /sbin/mvm-host-vm-init   in a builder VM: the same with the store's disk and build jobs
 */
#include "base/clock.h"
#include "guest/agent.h"
#include "guest/boot.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

static uint64_t boottime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t boot_ns = boottime();
    if (getpid() != 1) {
        fprintf(stderr, "mvm-init: runs as the first process of a mvm guest only\n");
        return 2;
    }
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    struct mvm_error err = MVM_ERROR_INIT;
    bool initrd = strcmp(name, "init") == 0;
    if ((initrd ? boot_initrd(&err) : boot_layer(&err)) < 0) {
        boot_log("cannot start the system: %s", err.msg);
        reboot(RB_AUTOBOOT); /* the VMM ends (-no-reboot) and the host sees it */
        return 1;
    }
    agent_run(strcmp(name, "mvm-host-vm-init") == 0, boot_ns);
}
