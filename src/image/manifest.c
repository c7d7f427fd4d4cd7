#include "image/manifest.h"
#include "base/fd.h"
#include "base/name_table.h"
#include "base/path.h"
#include "host/json.h"
#include "image/ext4.h"
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST       "manifest.json"
#define SCHEMA         1
#define MAX_JSON       (256 * 1024)
#define MAX_CMDLINE    2048
#define MAX_VCPUS      1024
#define MAX_MEMORY_MIB (1 << 24)
#define MAX_BUDGET     1000000000
#define MAX_OFFERS     16

/* Measured with examples/hello, in steps of 8 MiB: with the distribution's kernel and its initrd the agent answers from
 * 80 MiB on, where 8 MiB are left; with 72 MiB no program starts any more. The slim kernel boots with the least
 * that a VMM takes. */
#define DISTRIBUTION_MIN_MIB 96
#define SLIM_MIN_MIB         64

/* The ext4 super block. */
#define SUPER_AT       1024
#define SUPER_SIZE     1024
#define INCOMPAT_64BIT 0x80

static const char *const names[] = {
    [ARTIFACT_VMLINUX] = "vmlinux",     [ARTIFACT_ROOTFS] = "rootfs.ext4",  [ARTIFACT_INITRD] = "initrd",
    [ARTIFACT_CMDLINE] = "cmdline.txt", [ARTIFACT_METADATA] = "image.json",
};
_Static_assert(ARRAY_SIZE(names) == ARTIFACT_COUNT, "every artifact has a name");

const char *artifact_name(enum artifact a)
{
    return names[a];
}

int artifact_parse(const char *name)
{
    size_t a = name_find(names, ARTIFACT_COUNT, name);
    return a < ARTIFACT_COUNT ? (int)a : -1;
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
    if (r < 0) {
        mvm_error_wrap(err, "%s", name);
        return -EINVAL;
    }
    if (size < 0 || strlen(sha) != SHA256_HEX_SIZE - 1 || strspn(sha, "0123456789abcdef") != SHA256_HEX_SIZE - 1)
        return mvm_error_set(err, -EINVAL, "size or digest of %s is none", name);
    info->present = true;
    info->size = (uint64_t)size;
    memcpy(info->sha256, sha, SHA256_HEX_SIZE);
    return 0;
}

int manifest_parse(struct manifest *m, json_object *o, struct mvm_error *err)
{
    json_object *artifacts = NULL;
    int64_t schema = 0;
    *m = (struct manifest){0};
    int r = json_get_int(o, "schema_version", &schema, err);
    if (r == 0 && schema != SCHEMA)
        r = mvm_error_set(err, -EINVAL, "schema version %lld is not known", (long long)schema);
    if (r == 0)
        r = json_get_object(o, "artifacts", &artifacts, err);
    if (r < 0)
        return r;
    json_object_object_foreach(artifacts, key, value)
    {
        int a = artifact_parse(key);
        (void)value;
        r = a < 0 ? mvm_error_set(err, -EINVAL, "unknown artifact '%s'", key)
                  : load_artifact(&m->artifacts[a], artifacts, key, err);
        if (r < 0)
            return r;
    }
    if (!m->artifacts[ARTIFACT_VMLINUX].present || !m->artifacts[ARTIFACT_ROOTFS].present)
        return mvm_error_set(err, -EINVAL, "vmlinux or rootfs.ext4 is missing");
    return 0;
}

int manifest_load(struct manifest *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    struct manifest loaded = {0};
    int r = json_load(dirfd, MANIFEST, MAX_JSON, &o, err);
    if (r < 0)
        return r;
    r = manifest_parse(&loaded, o, err);
    if (r < 0) {
        mvm_error_wrap(err, MANIFEST);
        return r;
    }
    *m = loaded;
    return 0;
}

json_object *manifest_json(const struct manifest *m)
{
    json_object *o = json_object_new_object(), *artifacts = json_object_new_object();
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
    return o;
}

int manifest_save(const struct manifest *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = manifest_json(m);
    return json_save(dirfd, MANIFEST, o, 0444, false, err);
}

struct listed {
    const struct manifest *m;
    bool with_others;
    struct mvm_error *err;
};

static int on_entry(void *data, const char *name)
{
    const struct listed *l = data;
    int a = artifact_parse(name);
    bool listed = a >= 0 ? l->m->artifacts[a].present : !l->with_others || strcmp(name, MANIFEST) == 0;
    return listed ? 0 : mvm_error_set(l->err, -EBADMSG, "'%.60s' is in the image, but not in its " MANIFEST, name);
}

int manifest_check_listed(const struct manifest *m, int dirfd, bool with_others, struct mvm_error *err)
{
    struct listed l = {.m = m, .with_others = with_others, .err = err};
    int r = path_each(dirfd, ".", on_entry, &l);
    return r < 0 && r != -EBADMSG ? mvm_error_errno(err, r, "cannot list the image's files") : r;
}

void manifest_digest(const struct manifest *m, char out[static SHA256_HEX_SIZE])
{
    struct sha256 s;
    sha256_init(&s);
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
}

/* 0 where it is absent or null. */
static int optional_number(json_object *o, const char *key, int64_t max, uint64_t *ret, struct mvm_error *err)
{
    json_object *v = NULL;
    int64_t n = 0;
    if (json_object_object_get_ex(o, key, &v) && v) {
        int r = json_get_int(o, key, &n, err);
        if (r < 0)
            return r;
    }
    if (n < 0 || n > max)
        return mvm_error_set(err, -EINVAL, "field '%s' is not from 0 to %lld", key, (long long)max);
    *ret = (uint64_t)n;
    return 0;
}

static int plain_string(json_object *o, const char *key, char *out, size_t size, struct mvm_error *err)
{
    const char *s = NULL;
    int r = json_get_string(o, key, &s, err);
    if (r < 0)
        return r;
    if (!path_is_plain_name(s, size - 1))
        return mvm_error_set(err, -EINVAL, "field '%s' is no plain name", key);
    snprintf(out, size, "%s", s);
    return 0;
}

/* What an image says that was made before it listed what its kernel offers: how that finds virtio-mmio devices, by
 * ACPI's tables or on its command line. Of one that does not say that either, the kernel is a distribution's. */
static int load_devices(json_object *o, unsigned *offers, struct mvm_error *err)
{
    char devices[8] = "acpi";
    int r = 0;
    if (json_object_object_get_ex(o, "devices", NULL))
        r = plain_string(o, "devices", devices, sizeof(devices), err);
    bool cmdline = strcmp(devices, "cmdline") == 0;
    if (r == 0 && !cmdline && strcmp(devices, "acpi") != 0)
        r = mvm_error_set(err, -EINVAL, "field 'devices' is neither acpi nor cmdline");
    *offers = KERNEL_OFFER(cmdline ? KERNEL_MMIO_CMDLINE : KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_CONSOLE);
    return r;
}

/* A word that is not known is what kernels of a later time offer. */
static int load_offers(json_object *o, unsigned *offers, struct mvm_error *err)
{
    json_object *list = NULL;
    int r = json_get_array(o, "kernel_offers", &list, err);
    if (r < 0)
        return r;
    size_t n = json_object_array_length(list);
    if (n == 0 || n > MAX_OFFERS)
        return mvm_error_set(err, -EINVAL, "field 'kernel_offers' is no list of 1 to %d words", MAX_OFFERS);
    *offers = 0;
    for (size_t i = 0; i < n; i++) {
        json_object *word = json_object_array_get_idx(list, i);
        if (!json_object_is_type(word, json_type_string))
            return mvm_error_set(err, -EINVAL, "field 'kernel_offers' is no list of words");
        int offer = kernel_offer_parse(json_object_get_string(word));
        if (offer >= 0)
            *offers |= KERNEL_OFFER(offer);
    }
    return 0;
}

static int load_kernel(struct image_metadata *m, json_object *o, struct mvm_error *err)
{
    int r = 0;
    if (json_object_object_get_ex(o, "kernel_kind", NULL))
        r = plain_string(o, "kernel_kind", m->kernel_kind, sizeof(m->kernel_kind), err);
    if (r < 0)
        return r;
    return json_object_object_get_ex(o, "kernel_offers", NULL) ? load_offers(o, &m->kernel_offers, err)
                                                               : load_devices(o, &m->kernel_offers, err);
}

/* Ports that services listen on: absent in what is not mkGuest's. */
static int load_ports(struct image_metadata *m, json_object *o, struct mvm_error *err)
{
    json_object *list = NULL;
    if (!json_object_object_get_ex(o, "ports", &list) || !list)
        return 0;
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) > IMAGE_PORTS)
        return mvm_error_set(err, -EINVAL, "field 'ports' is no list of at most %d ports", IMAGE_PORTS);
    m->n_ports = (unsigned)json_object_array_length(list);
    for (unsigned i = 0; i < m->n_ports; i++) {
        json_object *v = json_object_array_get_idx(list, i);
        int64_t port = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
        if (port < 1 || port > UINT16_MAX)
            return mvm_error_set(err, -EINVAL, "field 'ports' has what is no port");
        m->ports[i] = (uint16_t)port;
    }
    return 0;
}

int image_metadata_load(struct image_metadata *m, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    struct image_metadata loaded = {0};
    int r = json_load(dirfd, names[ARTIFACT_METADATA], MAX_JSON, &o, err);
    if (r < 0)
        return r;
    r = plain_string(o, "name", loaded.name, sizeof(loaded.name), err);
    if (r == 0)
        r = plain_string(o, "system", loaded.system, sizeof(loaded.system), err);
    if (r == 0)
        r = optional_number(o, "agent_protocol", UINT32_MAX, &loaded.agent_protocol, err);
    if (r == 0)
        r = optional_number(o, "memory_mib", MAX_MEMORY_MIB, &loaded.memory_mib, err);
    if (r == 0)
        r = optional_number(o, "min_memory_mib", MAX_MEMORY_MIB, &loaded.min_memory_mib, err);
    if (r == 0)
        r = optional_number(o, "vcpus", MAX_VCPUS, &loaded.vcpus, err);
    if (r == 0)
        r = load_kernel(&loaded, o, err);
    if (r == 0)
        r = load_ports(&loaded, o, err);
    if (r == 0)
        r = network_wish_load(o, loaded.network, err);
    if (r == 0)
        r = optional_number(o, "boot_budget_minstr", MAX_BUDGET, &loaded.boot_budget_minstr, err);
    if (r == 0)
        r = optional_number(o, "boot_budget_warm_ms", MAX_BUDGET, &loaded.boot_budget_warm_ms, err);
    if (r < 0) {
        mvm_error_wrap(err, "%s", names[ARTIFACT_METADATA]);
        return r;
    }
    *m = loaded;
    return 0;
}

int image_check_memory(int dirfd, uint64_t mib, struct mvm_error *err)
{
    struct image_metadata m;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = image_metadata_load(&m, dirfd, &why);
    if (r < 0 && err && r != -ENOENT)
        *err = why;
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    bool slim = strcmp(m.kernel_kind, "slim") == 0;
    uint64_t least = m.min_memory_mib ? m.min_memory_mib : slim ? SLIM_MIN_MIB : DISTRIBUTION_MIN_MIB;
    if (mib >= least)
        return 0;
    mvm_error_set(err, -EINVAL, "%llu MiB of memory are too little: %s %s needs %llu MiB to boot",
                  (unsigned long long)mib,
                  m.min_memory_mib ? "image"
                  : slim           ? "the slim kernel of"
                                   : "the kernel of",
                  m.name, (unsigned long long)least);
    mvm_error_hint(err, "give it --memory %lluM or more%s", (unsigned long long)least,
                   m.min_memory_mib || slim ? "" : "; with kernel = \"slim\" in mkGuest 64M are enough");
    return -EINVAL;
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The file is as long as its super block says (kernel: Documentation/filesystems/ext4/super.rst):
 * one that was cut off while it was copied fails here, not in the guest. */
static int check_rootfs(int fd, struct mvm_error *err)
{
    uint8_t sb[SUPER_SIZE];
    struct stat st;
    int r = ext4_check_magic(fd);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read rootfs.ext4");
    if (r == 0 || fd_pread_all(fd, sb, sizeof(sb), SUPER_AT) < 0)
        return mvm_error_set(err, -EINVAL, "rootfs.ext4 is no ext4 file system");
    uint32_t log_block = get_u32(sb + 0x18);
    uint64_t blocks = get_u32(sb + 0x4);
    if (get_u32(sb + 0x60) & INCOMPAT_64BIT)
        blocks |= (uint64_t)get_u32(sb + 0x150) << 32;
    if (log_block > 6 || blocks == 0 || blocks > UINT64_MAX >> (10 + log_block))
        return mvm_error_set(err, -EINVAL, "rootfs.ext4 has a damaged super block");
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot read rootfs.ext4");
    if ((uint64_t)st.st_size < blocks << (10 + log_block))
        return mvm_error_set(err, -EINVAL, "rootfs.ext4 has %lld bytes where its file system has %llu",
                             (long long)st.st_size, (unsigned long long)blocks << (10 + log_block));
    return 0;
}

static int check_cmdline(int dirfd, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_CMDLINE + 1);
    int r = path_read_file(dirfd, names[ARTIFACT_CMDLINE], &b, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    size_t n = b.len && b.data[b.len - 1] == '\n' ? b.len - 1 : b.len;
    for (size_t i = 0; i < n; i++)
        if (b.data[i] < 0x20 || b.data[i] > 0x7e)
            return mvm_error_set(err, -EINVAL, "cmdline.txt is not one line of printable text");
    return n <= MAX_CMDLINE ? 0 : mvm_error_set(err, -EINVAL, "cmdline.txt is longer than %u bytes", MAX_CMDLINE);
}

/* A regular file of the image: a descriptor or -errno. O_NONBLOCK: opening a fifo must not wait. */
static int open_artifact(int dirfd, enum artifact a, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, names[a], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT ? mvm_error_set(err, -ENOENT, "the image has no %s", names[a])
                               : mvm_error_errno(err, -errno, "cannot open %s", names[a]);
    if (!S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "%s is not a regular file", names[a]);
    return TAKE_FD(fd);
}

static bool has_artifact(int dirfd, enum artifact a)
{
    return faccessat(dirfd, names[a], F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int validate(int dirfd, struct mvm_error *err)
{
    CLEAN_FD int kernel = open_artifact(dirfd, ARTIFACT_VMLINUX, err);
    if (kernel < 0)
        return kernel;
    int r = kernel_check(kernel, err);
    if (r != 1) {
        mvm_error_wrap(err, "%s", names[ARTIFACT_VMLINUX]);
        return r < 0 ? r : -EINVAL;
    }
    CLEAN_FD int rootfs = open_artifact(dirfd, ARTIFACT_ROOTFS, err);
    r = rootfs < 0 ? rootfs : check_rootfs(rootfs, err);
    if (r == 0 && has_artifact(dirfd, ARTIFACT_INITRD)) {
        CLEAN_FD int initrd = open_artifact(dirfd, ARTIFACT_INITRD, err);
        r = MIN_OF(initrd, 0);
    }
    if (r == 0)
        r = check_cmdline(dirfd, err);
    struct image_metadata m;
    if (r == 0 && has_artifact(dirfd, ARTIFACT_METADATA))
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
