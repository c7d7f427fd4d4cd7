#include "builder/known.h"
#include "base/fd.h"
#include "image/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void known_load(struct known_files *k, const char *image)
{
    struct manifest m;
    struct stat st;
    const struct artifact_info *kernel = &m.artifacts[ARTIFACT_VMLINUX];
    CLEAN_FD int dir = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || manifest_load(&m, dir, NULL) < 0 || !kernel->present)
        return;
    struct known_file f = {.size = kernel->size};
    memcpy(f.sha256, kernel->sha256, sizeof(f.sha256));
    f.fd = openat(dir, artifact_name(ARTIFACT_VMLINUX), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f.fd >= 0 && fstat(f.fd, &st) == 0 && (uint64_t)st.st_size == f.size)
        k->v[k->n++] = f;
    else
        fd_closep(&f.fd);
}

struct msg_strings known_digests(struct known_files *k, char *v[static KNOWN_MAX])
{
    for (size_t i = 0; i < k->n; i++)
        v[i] = k->v[i].sha256;
    return (struct msg_strings){.v = v, .n = k->n};
}

int known_take(const struct known_files *k, const uint8_t *key, int parent, const char *name,
               const struct known_file **ret)
{
    char digest[SHA256_HEX_SIZE];
    size_t i = 0;
    sha256_hex(key, digest);
    while (i < k->n && strcmp(k->v[i].sha256, digest) != 0)
        i++;
    if (i == k->n || key[SHA256_SIZE])
        return -ENOENT;
    CLEAN_FD int out = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r = out < 0 ? -errno : fd_copy_file(k->v[i].fd, out);
    if (r == 0)
        *ret = &k->v[i];
    return r;
}

void known_done(struct known_files *k)
{
    for (size_t i = 0; i < k->n; i++)
        fd_closep(&k->v[i].fd);
    k->n = 0;
}
