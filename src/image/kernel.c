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

/* Offsets in a bzImage's set-up header (kernel: Documentation/arch/x86/boot.rst). */
#define SETUP_SECTS    0x1f1
#define HEADER_MAGIC   0x202 /* "HdrS" */
#define PROTOCOL       0x206
#define KERNEL_VERSION 0x20e /* a pointer, from 0x200 on */
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define HEADER_END     0x250

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* kernel: Documentation/arch/arm64/booting.rst */
static bool is_arm64(const uint8_t *p, size_t n)
{
    return n >= 64 && memcmp(p + 56, "ARM\x64", 4) == 0;
}

static int read_whole(int fd, struct buf *out, struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read the kernel");
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_KERNEL)
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
    if (!is_elf(in.data, in.len) && !is_arm64(in.data, in.len)) {
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
    if (elf == &out && !is_elf(elf->data, elf->len))
        return mvm_error_set(err, -EINVAL,
                             "the kernel within it is no ELF file (a compression other than zstd, xz and gzip?)");
    r = fd_write_all(out_fd, elf->data, elf->len);
    return r < 0 ? mvm_error_errno(err, r, "cannot write the kernel") : 0;
}

/* What the kernel needs of an ELF file is there: a file that was cut off fails here, not in the
 * guest. */
static int check_elf(int fd, const Elf64_Ehdr *h, uint64_t size, struct mvm_error *err)
{
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
        return mvm_error_set(err, -EINVAL, "it is an ELF file, but not for x86-64");
    if (h->e_phnum == 0 || h->e_phentsize != sizeof(Elf64_Phdr))
        return mvm_error_set(err, -EINVAL, "it has no program headers");
    for (unsigned i = 0; i < h->e_phnum; i++) {
        Elf64_Phdr p;
        int r = h->e_phoff > size ? -ENODATA : fd_pread_all(fd, &p, sizeof(p), h->e_phoff + i * sizeof(p));
        if (r < 0 && r != -ENODATA)
            return mvm_error_errno(err, r, "cannot read it");
        if (r < 0 || p.p_offset > size || p.p_filesz > size - p.p_offset)
            return mvm_error_set(err, -EINVAL, "it ends early");
    }
    return 0;
}

union head {
    Elf64_Ehdr elf;
    uint8_t bytes[64];
};

const char *kernel_arch(int fd)
{
    union head head;
    if (fd_pread_all(fd, &head, sizeof(head), 0) < 0)
        return NULL;
    if (is_elf(head.bytes, sizeof(head)))
        return head.elf.e_machine == EM_X86_64 ? "x86_64" : NULL;
    return is_arm64(head.bytes, sizeof(head)) ? "aarch64" : NULL;
}

static int check_kernel(int fd, struct mvm_error *err)
{
    union head head;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read it");
    if (!S_ISREG(st.st_mode) || st.st_size < MIN_KERNEL)
        return mvm_error_set(err, -EINVAL, "smaller than 1 MiB");
    int r = fd_pread_all(fd, &head, sizeof(head), 0);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read it");
    if (is_elf(head.bytes, sizeof(head)))
        return check_elf(fd, &head.elf, (uint64_t)st.st_size, err);
    if (is_arm64(head.bytes, sizeof(head)))
        return 0;
    return mvm_error_set(err, -EINVAL, "neither an ELF file for x86-64 nor an aarch64 Image");
}

int kernel_check(int fd, struct mvm_error *err)
{
    int r = check_kernel(fd, err);
    if (r == 0)
        return 1;
    mvm_error_wrap(err, "not a kernel");
    return r == -EINVAL ? 0 : r;
}

/* Copies the word at `at` if it starts with a digit: the format string of the banner has a '%'
 * there. */
static bool copy_release(const uint8_t *at, const uint8_t *end, char *out, size_t size)
{
    size_t n = 0;
    while (at + n < end && at[n] > ' ' && at[n] < 0x7f && n < size)
        n++;
    if (n == 0 || n >= size || at[0] < '0' || at[0] > '9')
        return false;
    memcpy(out, at, n);
    out[n] = '\0';
    return true;
}

/* A bzImage is compressed, but its header points to the version. */
static bool header_release(const struct buf *b, char *out, size_t size)
{
    const uint8_t *p = b->data;
    if (b->len < HEADER_END || memcmp(p + HEADER_MAGIC, "HdrS", 4) != 0)
        return false;
    size_t at = 0x200 + (size_t)(p[KERNEL_VERSION] | p[KERNEL_VERSION + 1] << 8);
    return at > 0x200 && at < b->len && copy_release(p + at, p + b->len, out, size);
}

int kernel_release(int fd, char *out, size_t size, struct mvm_error *err)
{
    static const char banner[] = "Linux version ";
    CLEAN_BUF struct buf b = BUF_INIT(MAX_KERNEL);
    int r = read_whole(fd, &b, err);
    if (r < 0)
        return r;
    if (header_release(&b, out, size))
        return 0;
    const uint8_t *at = b.data, *end = b.data + b.len;
    while ((at = memmem(at, (size_t)(end - at), banner, sizeof(banner) - 1))) {
        at += sizeof(banner) - 1;
        if (copy_release(at, end, out, size))
            return 0;
    }
    return mvm_error_set(err, -EINVAL, "the kernel does not say its version");
}
