#include "image/manifest.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "image/ext4.h"
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST      "manifest.json"
#define SCHEMA        1
#define MAX_JSON      (256 * 1024)
#define MIN_ROOTFS    (256u * 1024)
#define MAX_CMDLINE   2048

static const char *const names[] = {
    [ARTIFACT_VMLINUX] = "vmlinux",
    [ARTIFACT_ROOTFS] = "rootfs.ext4",
    [ARTIFACT_INITRD] = "initrd",
    [ARTIFACT_CMDLINE] = "cmdline.txt",
    [ARTIFACT_METADATA] = "image.json",
};
_Static_assert(ARRAY_SIZE(names) == ARTIFACT_COUNT, "every artifact has a name");

const char *artifact_name(enum artifact a)
{
    return names[a];
}

int artifact_parse(const char *name)
{
    for (int a = 0; a < ARTIFACT_COUNT; a++)
        if (strcmp(names[a], name) == 0)
            return a;
    return -1;
}

static int load_artifact(struct artifact_info *info, json_object *artifacts, const char *name, struct mvm_error *err)
{
    json_object *o;
    const char *sha;
    int64_t size;
    if (!json_object_object_get_ex(artifacts, name, &o))
        return 0;
    int r = json_get_int(o, "size", &size, err);
    if (r == 0)
        r = json_get_string(o, "sha256", &sha, err);
    if (r < 0)
        return r;
    if (size < 0 || strlen(sha) != SHA256_HEX_SIZE - 1 || strspn(sha, "0123456789abcdef") != SHA256_HEX_SIZE - 1)
        return mvm_error_set(err, -EINVAL, "size or digest of %s is none", name);
    info->present = true;
    info->size = (uint64_t)size;
    memcpy(info->sha256, sha, SHA256_HEX_SIZE);
    return 0;
}

int manifest_load(struct manifest *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *artifacts = NULL;
    int64_t schema = 0;
    *m = (struct manifest){0};
    int r = json_load(dirfd, MANIFEST, MAX_JSON, &o, err);
    if (r == 0)
        r = json_get_int(o, "schema_version", &schema, err);
    if (r == 0 && schema != SCHEMA)
        r = mvm_error_set(err, -EINVAL, "schema version %lld", (long long)schema);
    if (r == 0)
        r = json_get_object(o, "artifacts", &artifacts, err);
    for (int a = 0; r == 0 && a < ARTIFACT_COUNT; a++)
        r = load_artifact(&m->artifacts[a], artifacts, names[a], err);
    return r < 0 ? mvm_error_wrap(err, MANIFEST) : 0;
}

int manifest_save(const struct manifest *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_object *artifacts = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_add(o, "artifacts", artifacts);
    for (int a = 0; a < ARTIFACT_COUNT; a++) {
        if (!m->artifacts[a].present)
            continue;
        json_object *info = json_object_new_object();
        json_add_int(info, "size", (int64_t)m->artifacts[a].size);
        json_add_string(info, "sha256", m->artifacts[a].sha256);
        json_add(artifacts, names[a], info);
    }
    return json_save(dirfd, MANIFEST, o, 0444, false, err);
}

int manifest_digest(const struct manifest *m, char out[static SHA256_HEX_SIZE])
{
    CLEAN_SHA256 struct sha256 s = {0};
    int r = sha256_init(&s);
    if (r < 0)
        return r;
    for (int a = 0; a < ARTIFACT_COUNT; a++) {
        char line[160];
        if (!m->artifacts[a].present)
            continue;
        int n = snprintf(line, sizeof(line), "%s %llu %s\n", names[a], (unsigned long long)m->artifacts[a].size,
                         m->artifacts[a].sha256);
        sha256_update(&s, line, (size_t)n);
    }
    uint8_t digest[SHA256_SIZE];
    sha256_final(&s, digest);
    sha256_hex(digest, out);
    return 0;
}

static uint64_t optional_number(json_object *o, const char *key)
{
    int64_t n = 0;
    return json_get_int(o, key, &n, NULL) == 0 && n > 0 ? (uint64_t)n : 0;
}

int image_metadata_load(struct image_metadata *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    const char *name, *system;
    *m = (struct image_metadata){0};
    int r = json_load(dirfd, names[ARTIFACT_METADATA], MAX_JSON, &o, err);
    if (r == 0)
        r = json_get_string(o, "name", &name, err);
    if (r == 0)
        r = json_get_string(o, "system", &system, err);
    if (r == 0 && (!path_is_plain_name(name, sizeof(m->name) - 1) || !path_is_plain_name(system, sizeof(m->system) - 1)))
        r = mvm_error_set(err, -EINVAL, "name or system is none");
    if (r < 0)
        return mvm_error_wrap(err, "image.json");
    snprintf(m->name, sizeof(m->name), "%s", name);
    snprintf(m->system, sizeof(m->system), "%s", system);
    m->agent_protocol = optional_number(o, "agent_protocol");
    m->memory_mib = optional_number(o, "memory_mib");
    m->vcpus = optional_number(o, "vcpus");
    return 0;
}

static int check_rootfs(int fd, struct mvm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < MIN_ROOTFS)
        return mvm_error_set(err, -EINVAL, "rootfs.ext4 is smaller than %u KiB", MIN_ROOTFS / 1024);
    int r = ext4_check_magic(fd);
    return r == 1 ? 0 : mvm_error_set(err, -EINVAL, "rootfs.ext4 is no ext4 file system");
}

static int check_cmdline(int dirfd, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_CMDLINE);
    int r = path_read_file(dirfd, names[ARTIFACT_CMDLINE], &b, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    size_t n = b.len && b.data[b.len - 1] == '\n' ? b.len - 1 : b.len;
    for (size_t i = 0; i < n; i++)
        if (b.data[i] < 0x20 || b.data[i] > 0x7e)
            return mvm_error_set(err, -EINVAL, "cmdline.txt is not one line of printable text");
    return 0;
}

static int validate(int dirfd, struct mvm_error *err)
{
    CLEAN_FD int kernel = openat(dirfd, names[ARTIFACT_VMLINUX], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CLEAN_FD int rootfs = openat(dirfd, names[ARTIFACT_ROOTFS], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (kernel < 0 || rootfs < 0)
        return mvm_error_set(err, -ENOENT, "the image has no %s", names[kernel < 0 ? ARTIFACT_VMLINUX : ARTIFACT_ROOTFS]);
    if (kernel_check(kernel, err) != 1)
        return -EINVAL;
    int r = check_rootfs(rootfs, err);
    if (r == 0)
        r = check_cmdline(dirfd, err);
    struct image_metadata m;
    if (r == 0 && faccessat(dirfd, names[ARTIFACT_METADATA], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        r = image_metadata_load(&m, dirfd, err);
    return r;
}

int image_validate(int dirfd, struct mvm_error *err)
{
    int r = validate(dirfd, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_ARTIFACT_EXTRACTION);
        mvm_error_hint(err, "an image has vmlinux, rootfs.ext4 and optionally initrd, cmdline.txt, image.json");
    }
    return r;
}
