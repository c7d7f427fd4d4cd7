#include "builder/local_kernels.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void add(struct local_kernels *k, int dir, const char *sha256)
{
    struct local_kernel f = {.fd = openat(dir, artifact_name(ARTIFACT_VMLINUX), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    struct stat st;
    if (f.fd < 0 || fstat(f.fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fd_closep(&f.fd);
        return;
    }
    f.size = (uint64_t)st.st_size;
    snprintf(f.sha256, sizeof(f.sha256), "%s", sha256);
    k->v[k->n++] = f;
}

void local_kernels_load(struct local_kernels *k, struct home *h, const char *image)
{
    struct manifest m;
    CLEAN_BUF struct buf text = BUF_INIT(SHA256_HEX_SIZE + 1);
    CLEAN_FD int dir = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int slim = openat(h->cache_fd, "kernels/slim", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && manifest_load(&m, dir, NULL) == 0 && m.artifacts[ARTIFACT_VMLINUX].present)
        add(k, dir, m.artifacts[ARTIFACT_VMLINUX].sha256);
    if (slim >= 0 && path_read_file(slim, "vmlinux.sha256", &text, NULL) == 0 && text.len == SHA256_HEX_SIZE)
        add(k, slim, buf_cstr(&text));
}

struct msg_strings local_kernels_digests(struct local_kernels *k, char *v[static LOCAL_KERNELS_MAX])
{
    for (size_t i = 0; i < k->n; i++)
        v[i] = k->v[i].sha256;
    return (struct msg_strings){.v = v, .n = k->n};
}

int local_kernels_take(const struct local_kernels *k, const uint8_t *key, int parent, const char *name,
                       const struct local_kernel **ret)
{
    char digest[SHA256_HEX_SIZE], copied[SHA256_HEX_SIZE];
    size_t i = 0;
    sha256_hex(key, digest);
    while (i < k->n && strcmp(k->v[i].sha256, digest) != 0)
        i++;
    if (i == k->n || key[SHA256_SIZE])
        return -ENOENT;
    CLEAN_FD int out = openat(parent, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r = out < 0 ? -errno : fd_copy_file(k->v[i].fd, out);
    if (r == 0)
        r = lseek(out, 0, SEEK_SET) < 0 ? -errno : sha256_fd(out, copied);
    if (r < 0)
        return r;
    *ret = &k->v[i];
    return strcmp(copied, digest) == 0 ? 0 : -EBADMSG;
}

void local_kernels_done(struct local_kernels *k)
{
    for (size_t i = 0; i < k->n; i++)
        fd_closep(&k->v[i].fd);
    k->n = 0;
}
