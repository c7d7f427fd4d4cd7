#include "vmdir/snapshot_meta.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK   (64u * 1024)
#define NETWORK "frames" /* where a card's frames go: an earlier mvmctl's VMM had a network of its own in its state */
#define KHZ_PPM 200      /* two measurements of one clock differ by less */

/* ---- Files ---- */

/* Digest of the blocks that are not zero and where they are: holes cost nothing, and filling or digging them changes
 * nothing. Looking for data moves the offset: it is put back to the beginning, where a VMM reads from. */
static int digest_sparse(int fd, char out[static SHA256_HEX_SIZE])
{
    static const uint8_t zeros[BLOCK];
    CLEAN_FREE uint8_t *block = malloc(BLOCK);
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    if (!block)
        return -ENOMEM;
    sha256_init(&sha);
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
        at -= at % BLOCK;
        ssize_t n = pread(fd, block, BLOCK, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        if (memcmp(block, zeros, (size_t)n) != 0) {
            uint64_t offset = (uint64_t)at;
            sha256_update(&sha, &offset, sizeof(offset));
            sha256_update(&sha, block, (size_t)n);
        }
        at += n;
    }
    if (errno != ENXIO || lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    sha256_final(&sha, digest);
    sha256_hex(digest, out);
    return 0;
}

/* The file's digest from the index, or by reading. */
static int digest_of(struct statindex *index, const char *name, int fd, const struct stat *st,
                     char out[static SHA256_HEX_SIZE])
{
    uint64_t read_at = clock_wall();
    if (index && statindex_get(index, name, st, out))
        return 0;
    int r = digest_sparse(fd, out);
    if (r == 0 && index)
        statindex_put(index, name, st, read_at, out);
    return r;
}

int snapshot_meta_measure(struct statindex *index, const char *name, int fd, struct snapshot_file *ret,
                          struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "%s", name);
    ret->size = (uint64_t)st.st_size;
    int r = digest_of(index, name, fd, &st, ret->sha256);
    return r < 0 ? mvm_error_errno(err, r, "%s", name) : 0;
}

void snapshot_meta_put_file(json_object *o, const char *name, const struct snapshot_file *f)
{
    json_object *file = json_object_new_object();
    json_add_int(file, "size", (int64_t)f->size);
    json_add_string(file, "sha256", f->sha256);
    json_add(o, name, file);
}

int snapshot_meta_open_file(json_object *o, const char *what, int dirfd, const char *name, struct statindex *index,
                            int *ret_fd, struct mvm_error *err)
{
    json_object *want;
    int64_t size;
    const char *sha256;
    struct stat st;
    char digest[SHA256_HEX_SIZE];
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    if (r < 0 && !mvm_error_is_absent(r))
        return mvm_error_errno(err, r, "the snapshot's file '%s' cannot be read", what);
    if (r < 0 || !S_ISREG(st.st_mode))
        return mvm_error_set(err, -ESTALE, "the snapshot's file '%s' is missing", what);
    if (json_get_object(o, what, &want, NULL) < 0 || json_get_int(want, "size", &size, NULL) < 0 ||
        json_get_string(want, "sha256", &sha256, NULL) < 0 || st.st_size != size)
        return mvm_error_set(err, -ESTALE, "the snapshot's file '%s' has another size than recorded", what);
    r = digest_of(index, what, fd, &st, digest);
    if (r < 0)
        return mvm_error_errno(err, r, "the snapshot's file '%s' cannot be read", what);
    if (strcmp(digest, sha256) != 0)
        return mvm_error_set(err, -ESTALE, "the snapshot's file '%s' has another content than recorded", what);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* ---- What it fits ---- */

void snapshot_meta_put(json_object *o, const struct snapshot_meta *m)
{
    json_object *hello = json_object_new_object();
    json_add_string(o, "backend", m->id.backend);
    json_add_string(o, "machine", m->id.machine);
    json_add_string(o, "cpu", m->id.cpu);
    json_add_string(o, "network", NETWORK);
    json_add_int(o, "tsc_khz", (int64_t)m->tsc_khz);
    json_add_int(o, "store_size", (int64_t)m->store_size);
    json_add_int(hello, "protocol", (int64_t)m->hello.protocol);
    json_add_string(hello, "role", m->hello.role);
    json_add_string(hello, "kernel", m->hello.kernel);
    json_add_int(hello, "boot_ns", (int64_t)m->hello.boot_ns);
    json_add_int(hello, "ready_ns", (int64_t)m->hello.ready_ns);
    json_add(o, "hello", hello);
}

static bool same_text(json_object *o, const char *key, const char *want)
{
    const char *text;
    return json_get_string(o, key, &text, NULL) == 0 && strcmp(text, want) == 0;
}

static bool same_clock(json_object *o, uint64_t khz)
{
    int64_t was;
    if (json_get_int(o, "tsc_khz", &was, NULL) < 0 || was < 0)
        return false;
    uint64_t a = (uint64_t)was, difference = a > khz ? a - khz : khz - a;
    return difference <= khz / 1000000 * KHZ_PPM;
}

static int load_hello(struct msg_hello *m, json_object *o)
{
    json_object *h;
    const char *role, *kernel;
    int64_t protocol, boot, ready;
    if (json_get_object(o, "hello", &h, NULL) < 0 || json_get_int(h, "protocol", &protocol, NULL) < 0 ||
        json_get_string(h, "role", &role, NULL) < 0 || json_get_string(h, "kernel", &kernel, NULL) < 0 ||
        json_get_int(h, "boot_ns", &boot, NULL) < 0 || json_get_int(h, "ready_ns", &ready, NULL) < 0)
        return -EINVAL;
    *m = (struct msg_hello){.protocol = (uint64_t)protocol, .boot_ns = (uint64_t)boot, .ready_ns = (uint64_t)ready};
    snprintf(m->role, sizeof(m->role), "%s", role);
    snprintf(m->kernel, sizeof(m->kernel), "%s", kernel);
    return 0;
}

const char *snapshot_meta_judge(json_object *o, struct snapshot_meta *now)
{
    int64_t store;
    if (load_hello(&now->hello, o) < 0 || json_get_int(o, "store_size", &store, NULL) < 0)
        return "the snapshot's description is damaged or of another version";
    if (!same_text(o, "backend", now->id.backend))
        return "the snapshot was made by another version of the backend";
    if (!same_text(o, "network", NETWORK))
        return "the snapshot is from before VMs had a network process: the VMM's own network is in its state";
    if (!same_text(o, "machine", now->id.machine))
        return "the snapshot is of a machine with other devices or another command line";
    if (!same_text(o, "cpu", now->id.cpu))
        return "the snapshot was made on another processor";
    if (!same_clock(o, now->tsc_khz))
        return "the snapshot was made with another clock rate";
    if ((uint64_t)store != now->store_size)
        return "the snapshot was made with another size of the store's disk";
    if (now->hello.protocol != MVM_PROTOCOL_VERSION)
        return "the snapshot's agent speaks another protocol";
    return NULL;
}
