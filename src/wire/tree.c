#include "wire/tree.h"

#include <string.h>
#include <sys/stat.h>

/* Four lanes, so that neither the host's pipeline nor an emulator's waits for one multiplication
 * after another. */
#define LANE_PRIME 0x9e3779b97f4a7c15ull

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v; /* both ends are little-endian machines */
}

static uint64_t rotate_left(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

uint64_t tree_checksum(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t lane[4] = {1, 2, 3, 4};
    size_t whole = n / 32;
    for (size_t i = 0; i < whole; i++, p += 32)
        for (int k = 0; k < 4; k++)
            lane[k] = rotate_left((lane[k] ^ load_u64(p + 8 * k)) * LANE_PRIME, 29);
    uint8_t tail[32] = {0};
    if (n % 32)
        memcpy(tail, p, n % 32);
    uint64_t sum = n;
    for (int k = 0; k < 4; k++) {
        lane[k] = rotate_left((lane[k] ^ load_u64(tail + 8 * k)) * LANE_PRIME, 29);
        sum = rotate_left((sum ^ lane[k]) * LANE_PRIME, 31);
    }
    return sum;
}

const char *tree_kind_name(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISREG(mode)  ? "a file"
           : S_ISLNK(mode)  ? "a symlink"
           : S_ISFIFO(mode) ? "a fifo"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}
