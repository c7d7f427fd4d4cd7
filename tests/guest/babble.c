/*
 * Runs in a guest, as root: takes the agent's end of the channel out of pid 1 and says on it what no agent says. The
 * host cuts the guest off.
 *
 * Linux: pidfd_getfd(2).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The number of pid 1's descriptor of the virtio-serial port, or -1. */
static int find_channel(void)
{
    DIR *d = opendir("/proc/1/fd");
    int found = -1;
    for (struct dirent *e; d && found < 0 && (e = readdir(d));) {
        char path[300], target[300] = "";
        snprintf(path, sizeof(path), "/proc/1/fd/%s", e->d_name);
        if (readlink(path, target, sizeof(target) - 1) > 0 && strncmp(target, "/dev/vport", 10) == 0)
            found = atoi(e->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

int main(void)
{
    unsigned char frame[4096];
    int init = (int)syscall(SYS_pidfd_open, 1, 0);
    int channel = (int)syscall(SYS_pidfd_getfd, init, find_channel(), 0);
    memset(frame, 0xff, sizeof(frame));
    if (channel < 0 || write(channel, frame, sizeof(frame)) < 0) {
        perror("babble");
        return 1;
    }
    pause();
}
