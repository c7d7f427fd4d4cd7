#include "image/kernel.h"
#include "base/buf.h"
#include "base/fd.h"
#include "image/unpack.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_KERNEL (512u << 20)
#define MIN_KERNEL (1u << 20)

/* Offsets in a bzImage's set-up header. */
#define SETUP_SECTS    0x1f1
#define HEADER_MAGIC   0x202 /* "HdrS" */
#define PROTOCOL       0x206
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define HEADER_END     0x250

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int read_whole(int fd, struct buf *out, struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read the kernel");
    if (st.st_size <= 0 || st.st_size > MAX_KERNEL)
        return mvm_error_set(err, -EINVAL, "a kernel of %lld bytes", (long long)st.st_size);
    int r = buf_reserve(out, (size_t)st.st_size);
    if (r == 0)
        r = fd_pread_all(fd, out->data, (size_t)st.st_size, 0);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read the kernel");
    out->len = (size_t)st.st_size;
    return 0;
}

static bool is_elf(const uint8_t *p, size_t n)
{
    return n >= 4 && memcmp(p, ELFMAG, SELFMAG) == 0;
}

/* Where the compressed kernel lies within a bzImage. */
static int find_payload(const struct buf *b, size_t *ret_at, size_t *ret_len, struct mvm_error *err)
{
    const uint8_t *p = b->data;
    if (b->len < HEADER_END || memcmp(p + HEADER_MAGIC, "HdrS", 4) != 0)
        return mvm_error_set(err, -EINVAL, "it is no Linux kernel: neither ELF nor bzImage");
    if ((p[PROTOCOL] | p[PROTOCOL + 1] << 8) < 0x208)
        return mvm_error_set(err, -EINVAL, "its boot protocol is older than 2.08");
    size_t setup = ((size_t)(p[SETUP_SECTS] ? p[SETUP_SECTS] : 4) + 1) * 512;
    size_t at = setup + get_u32(p + PAYLOAD_OFFSET), len = get_u32(p + PAYLOAD_LENGTH);
    if (at > b->len || len > b->len - at || len == 0)
        return mvm_error_set(err, -EINVAL, "its header points outside of the file");
    *ret_at = at;
    *ret_len = len;
    return 0;
}

int kernel_extract(int in_fd, int out_fd, struct mvm_error *err)
{
    CLEAN_BUF struct buf in = BUF_INIT(MAX_KERNEL);
    CLEAN_BUF struct buf out = BUF_INIT(MAX_KERNEL);
    int r = read_whole(in_fd, &in, err);
    if (r < 0)
        return r;
    const struct buf *elf = &in;
    if (!is_elf(in.data, in.len)) {
        size_t at = 0, len = 0;
        r = find_payload(&in, &at, &len, err);
        if (r == 0) {
            r = unpack(in.data + at, len, &out);
            if (r < 0)
                mvm_error_errno(err, r, "cannot decompress the kernel");
        }
        if (r < 0)
            return r;
        elf = &out;
    }
    if (!is_elf(elf->data, elf->len))
        return mvm_error_set(err, -EINVAL, "the kernel within it is no ELF file (a compression this build does not know?)");
    r = fd_write_all(out_fd, elf->data, elf->len);
    return r < 0 ? mvm_error_errno(err, r, "cannot write the kernel") : 0;
}

int kernel_check(int fd, struct mvm_error *err)
{
    uint8_t head[64];
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < MIN_KERNEL) {
        mvm_error_set(err, -EINVAL, "vmlinux is no kernel: smaller than 1 MiB");
        return 0;
    }
    if (fd_pread_all(fd, head, sizeof(head), 0) < 0) {
        mvm_error_set(err, -EINVAL, "vmlinux cannot be read");
        return 0;
    }
    unsigned machine = head[18] | (unsigned)head[19] << 8;
    bool x86 = is_elf(head, sizeof(head)) && head[EI_CLASS] == ELFCLASS64 && machine == EM_X86_64;
    bool arm = memcmp(head + 56, "ARM\x64", 4) == 0;
    if (x86 || arm)
        return 1;
    mvm_error_set(err, -EINVAL, "vmlinux is no kernel: neither an x86-64 ELF nor an aarch64 Image");
    return 0;
}

int kernel_release(int fd, char *out, size_t size, struct mvm_error *err)
{
    static const char banner[] = "Linux version ";
    CLEAN_BUF struct buf b = BUF_INIT(MAX_KERNEL);
    int r = read_whole(fd, &b, err);
    if (r < 0)
        return r;
    /* The banner followed by a digit: the format string of the same text has a '%' there. */
    const uint8_t *at = b.data, *end = b.data + b.len;
    while ((at = memmem(at, (size_t)(end - at), banner, sizeof(banner) - 1))) {
        at += sizeof(banner) - 1;
        size_t n = 0;
        while (at + n < end && at[n] > ' ' && at[n] < 0x7f && n < size)
            n++;
        if (n && n < size && at[0] >= '0' && at[0] <= '9') {
            memcpy(out, at, n);
            out[n] = '\0';
            return 0;
        }
    }
    return mvm_error_set(err, -EINVAL, "the kernel does not say its version");
}
