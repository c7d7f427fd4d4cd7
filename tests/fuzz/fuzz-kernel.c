/* Any bytes as a kernel, with holes behind them up to the least size of one, and as compressed data: refused with a
 * reason, or what comes out is an ELF file. */
#include "folder.h"

#include "image/kernel.h"
#include "image/unpack.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define PADDED     (1u << 20)
#define MAX_PACKED (1u << 20)

static void try_extract(int fd)
{
    struct mvm_error err = MVM_ERROR_INIT;
    char magic[SELFMAG];
    CLEAN_FD int out = open("elf", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(out >= 0);
    if (kernel_extract(fd, out, &err) < 0)
        MUST(err.msg[0]);
    else
        MUST(fd_pread_all(out, magic, sizeof(magic), 0) == 0 && memcmp(magic, ELFMAG, SELFMAG) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEAN_BUF struct buf out = BUF_INIT(MAX_PACKED);
    struct mvm_error err = MVM_ERROR_INIT;
    char release[32];
    folder_enter();
    folder_put("kernel", data, size);
    CLEAN_FD int fd = open("kernel", O_RDWR | O_CLOEXEC);
    MUST(fd >= 0);
    int r = unpack(data, size, &out);
    MUST((r <= 1) && out.len <= MAX_PACKED);
    try_extract(fd);
    if (kernel_release(fd, release, sizeof(release), &err) == 0)
        MUST(strnlen(release, sizeof(release)) < sizeof(release) && release[0] >= '0' && release[0] <= '9');
    MUST(ftruncate(fd, PADDED) == 0);
    r = kernel_check(fd, &err);
    MUST(r == 1 || err.msg[0]);
    return 0;
}
