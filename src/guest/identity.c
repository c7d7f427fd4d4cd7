#include "guest/identity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

static int urandom = -1, machine_id = -1;

bool identity_prepare(void)
{
    urandom = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    machine_id = boot_prepare_file("/etc", "machine-id", 0444);
    return machine_id >= 0;
}

int identity_set_clock(uint64_t wall_ns)
{
    struct timespec ts = {(time_t)(wall_ns / NSEC_PER_SEC), (long)(wall_ns % NSEC_PER_SEC)};
    return wall_ns && clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

int identity_feed_random(const uint8_t *seed, size_t len)
{
    /* struct rand_pool_info ends in an array without a size. */
    uint32_t room[(sizeof(struct rand_pool_info) + 64) / sizeof(uint32_t)] = {0};
    struct rand_pool_info *pool = (struct rand_pool_info *)(void *)room;
    len = MIN_OF(len, (size_t)64);
    pool->entropy_count = (int)(8 * len);
    pool->buf_size = (int)len;
    if (urandom < 0 || !len)
        return -EINVAL;
    memcpy(pool->buf, seed, len);
    int r = ioctl(urandom, RNDADDENTROPY, pool) < 0 || ioctl(urandom, RNDRESEEDCRNG) < 0 ? -errno : 0;
    explicit_bzero(room, sizeof(room));
    return r;
}

int identity_set_machine_id(const char *id, bool again)
{
    char line[40];
    int n = snprintf(line, sizeof(line), "%s\n", id);
    if (again)
        machine_id = boot_prepare_file("/etc", "machine-id", 0444);
    CLEAN_FD int fd = TAKE_FD(machine_id); /* once: it stays when the host configures again */
    return *id && fd >= 0 ? fd_write_all(fd, line, (size_t)n) : 0;
}
