#include "release/release.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/name_table.h"
#include "base/os.h"
#include "base/path.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONTRACT     1             /* of an image with mvmctl: docs/architecture.md, "Guest contract" */
#define MAX_ARTIFACT (16ull << 30) /* bytes */

static const char *const kinds[] = {[RELEASE_DEV] = "dev", [RELEASE_BUILDER] = "builder"};
_Static_assert(ARRAY_SIZE(kinds) == RELEASE_KIND_COUNT, "every kind has a name");

const char *release_kind_name(enum release_kind kind)
{
    return kinds[kind];
}

int release_kind_parse(const char *name)
{
    size_t k = name_find(kinds, RELEASE_KIND_COUNT, name);
    return k < RELEASE_KIND_COUNT ? (int)k : -1;
}

/* ---- The manifest ---- */

static int parse_fields(struct release *r, json_object *o, struct mvm_error *err)
{
    const char *kind = NULL, *arch = NULL, *created = NULL;
    int64_t contract = 0;
    int e = json_get_int(o, "contract_version", &contract, err);
    if (e == 0 && contract != CONTRACT)
        e = mvm_error_set(err, -EINVAL, "it is made for another version of mvmctl (contract %lld, not %d)",
                          (long long)contract, CONTRACT);
    if (e == 0)
        e = json_get_string(o, "kind", &kind, err);
    if (e == 0)
        e = json_get_string(o, "arch", &arch, err);
    if (e == 0)
        e = json_get_string(o, "created", &created, err);
    if (e == 0)
        e = json_get_int(o, "version", &r->version, err);
    if (e < 0)
        return e;
    int k = release_kind_parse(kind);
    if (k < 0 || !path_is_plain_name(arch, sizeof(r->arch) - 1) || r->version < 1 ||
        strlen(created) >= sizeof(r->created))
        return mvm_error_set(err, -EINVAL, "kind, arch, version or created is out of range");
    r->kind = (enum release_kind)k;
    snprintf(r->arch, sizeof(r->arch), "%s", arch);
    snprintf(r->created, sizeof(r->created), "%s", created);
    return 0;
}

int release_parse(struct release *r, const void *text, size_t len, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    struct release parsed = {0};
    int e = json_parse(text, len, &o, err);
    if (e == 0)
        e = parse_fields(&parsed, o, err);
    if (e == 0)
        e = manifest_parse(&parsed.files, o, err);
    for (int a = 0; e == 0 && a < ARTIFACT_COUNT; a++)
        if (parsed.files.artifacts[a].size > MAX_ARTIFACT)
            e = mvm_error_set(err, -EINVAL, "%s is larger than an image may be", artifact_name((enum artifact)a));
    if (e < 0)
        return mvm_error_wrap(err, RELEASE_MANIFEST);
    *r = parsed;
    return 0;
}

static int save_manifest(const struct release *r, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = manifest_json(&r->files);
    json_add_int(o, "contract_version", CONTRACT);
    json_add_string(o, "kind", kinds[r->kind]);
    json_add_string(o, "arch", r->arch);
    json_add_int(o, "version", r->version);
    json_add_string(o, "created", r->created);
    return json_save(dirfd, RELEASE_MANIFEST, o, 0644, true, err);
}

/* ---- Files ---- */

static int open_file(int dirfd, const char *name, struct stat *st, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, st) < 0)
        return mvm_error_errno(err, errno == ENOENT ? -EBADMSG : -errno, "cannot open %s", name);
    if (!S_ISREG(st->st_mode))
        return mvm_error_set(err, -EBADMSG, "%s is not a regular file", name);
    return TAKE_FD(fd);
}

static int check_file(int dirfd, const char *name, const struct artifact_info *want, struct mvm_error *err)
{
    struct stat st;
    char digest[SHA256_HEX_SIZE];
    if (!want->present) {
        if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return mvm_error_set(err, -EBADMSG, "%s is there, but not in the manifest", name);
        return 0;
    }
    CLEAN_FD int fd = open_file(dirfd, name, &st, err);
    if (fd < 0)
        return fd;
    if ((uint64_t)st.st_size != want->size)
        return mvm_error_set(err, -EBADMSG, "%s has %lld bytes where the manifest says %llu", name,
                             (long long)st.st_size, (unsigned long long)want->size);
    int r = sha256_fd(fd, digest);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot read %s", name);
    if (strcmp(digest, want->sha256) != 0)
        return mvm_error_set(err, -EBADMSG, "%s is not the file that the manifest names: its digest differs", name);
    return 0;
}

int release_check_files(int dirfd, const struct release *r, struct mvm_error *err)
{
    int e = 0;
    for (int a = 0; e == 0 && a < ARTIFACT_COUNT; a++)
        e = check_file(dirfd, artifact_name((enum artifact)a), &r->files.artifacts[a], err);
    mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP); /* nothing was built that image_validate() could mean */
    return e < 0 ? e : image_validate(dirfd, err);
}

/* ---- Export ---- */

static int export_file(int from, int to, const char *name, struct artifact_info *ret, struct mvm_error *err)
{
    struct stat st;
    CLEAN_FD int in = open_file(from, name, &st, err);
    if (in < 0)
        return in;
    CLEAN_FD int out = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r = out < 0 ? -errno : fd_copy_file(in, out);
    if (r == 0 && (fchmod(out, 0644) < 0 || fsync(out) < 0 || lseek(out, 0, SEEK_SET) < 0 || fstat(out, &st) < 0))
        r = -errno;
    /* Of the copy: what is published is what the manifest says, whatever happens to the image meanwhile. */
    if (r == 0)
        r = sha256_fd(out, ret->sha256);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot copy %s", name);
    ret->present = true;
    ret->size = (uint64_t)st.st_size;
    return 0;
}

static int export_files(int from, int to, struct release *r, struct progress *p, struct mvm_error *err)
{
    int e = image_validate(from, err);
    for (int a = 0; e == 0 && a < ARTIFACT_COUNT; a++) {
        const char *name = artifact_name((enum artifact)a);
        if (faccessat(from, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        progress_detail(p, "%s", name);
        e = export_file(from, to, name, &r->files.artifacts[a], err);
    }
    if (e < 0)
        return e;
    time_t now = (time_t)(clock_wall() / NSEC_PER_SEC);
    struct tm tm;
    strftime(r->created, sizeof(r->created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    e = save_manifest(r, to, err);
    if (e == 0 && fchmod(to, 0755) < 0)
        e = mvm_error_errno(err, -errno, "cannot publish the folder");
    return e;
}

/* The folder that dest lies in, and its name there, which points into dest. */
static int open_parent(const char *dest, const char **ret_name, struct mvm_error *err)
{
    const char *slash = strrchr(dest, '/');
    CLEAN_FREE char *parent = slash ? strndup(dest, (size_t)(slash - dest) + 1) : strdup(".");
    *ret_name = slash ? slash + 1 : dest;
    if (!parent || !**ret_name || strcmp(*ret_name, ".") == 0 || strcmp(*ret_name, "..") == 0 ||
        strlen(*ret_name) > 200)
        return mvm_error_set(err, -EINVAL, "'%.200s' does not name a new folder", dest);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? mvm_error_errno(err, -errno, "cannot open folder %s", parent) : fd;
}

int release_export(int dirfd, const char *dest, struct release *r, struct progress *p, struct mvm_error *err)
{
    const char *name;
    char tmp[256];
    CLEAN_FD int parent = open_parent(dest, &name, err);
    if (parent < 0)
        return parent;
    if (faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return mvm_error_errno(err, -EEXIST, "%s", dest);
    snprintf(tmp, sizeof(tmp), ".%s.export-%d", name, getpid());
    progress_phase(p, "exporting");
    CLEAN_FD int to = mkdirat(parent, tmp, 0700) < 0 ? -1 : os_open_beneath(parent, tmp, O_RDONLY | O_DIRECTORY, 0);
    if (to < 0)
        return mvm_error_errno(err, -errno, "cannot make a folder beside %s", dest);
    int e = export_files(dirfd, to, r, p, err);
    int moved = e == 0 ? os_rename_new(parent, tmp, parent, name) : 0;
    if (moved < 0)
        e = mvm_error_errno(err, moved, "cannot make %s", dest);
    if (e < 0)
        (void)!path_remove_tree(parent, tmp);
    fsync(parent);
    progress_end(p);
    return e;
}

/* ---- Signatures ---- */

int release_sign(int dirfd, const struct minisign_secret *secret, struct release *ret, struct mvm_error *err)
{
    CLEAN_BUF struct buf manifest = BUF_INIT(RELEASE_MAX_MANIFEST);
    CLEAN_BUF struct buf signature = BUF_INIT(RELEASE_MAX_SIGNATURE);
    char comment[200];
    int r = path_read_file(dirfd, RELEASE_MANIFEST, &manifest, err);
    if (r == 0)
        r = release_parse(ret, buf_cstr(&manifest), manifest.len, err);
    if (r == 0)
        r = release_check_files(dirfd, ret, err);
    if (r < 0)
        return r;
    snprintf(comment, sizeof(comment), "timestamp:%llu\tfile:" RELEASE_MANIFEST "\thashed",
             (unsigned long long)(clock_wall() / NSEC_PER_SEC));
    r = minisign_sign(secret, manifest.data, manifest.len, comment, &signature, err);
    return r < 0 ? r : path_write_file(dirfd, RELEASE_SIGNATURE, signature.data, signature.len, 0644, true, err);
}

int release_verify_manifest(const struct minisign_key *keys, size_t n_keys, const struct buf *manifest,
                            const struct buf *signature, struct release *ret, const struct minisign_key **ret_key,
                            struct mvm_error *err)
{
    if (n_keys == 0) {
        mvm_error_set(err, -ENOKEY, "no public key is known that a published image could be signed with");
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        mvm_error_hint(err, "put the publisher's key into public_keys in config.toml's [images]");
        return -ENOKEY;
    }
    int r = minisign_verify(keys, n_keys, buf_cstr(manifest), manifest->len, buf_cstr(signature), signature->len,
                            ret_key, err);
    if (r < 0)
        return mvm_error_wrap(err, RELEASE_SIGNATURE);
    return release_parse(ret, buf_cstr(manifest), manifest->len, err);
}

int release_verify(int dirfd, const struct minisign_key *keys, size_t n_keys, struct release *ret,
                   const struct minisign_key **ret_key, struct mvm_error *err)
{
    CLEAN_BUF struct buf manifest = BUF_INIT(RELEASE_MAX_MANIFEST);
    CLEAN_BUF struct buf signature = BUF_INIT(RELEASE_MAX_SIGNATURE);
    int r = path_read_file(dirfd, RELEASE_MANIFEST, &manifest, err);
    if (r == 0)
        r = path_read_file(dirfd, RELEASE_SIGNATURE, &signature, err);
    if (r == 0)
        r = release_verify_manifest(keys, n_keys, &manifest, &signature, ret, ret_key, err);
    return r < 0 ? r : release_check_files(dirfd, ret, err);
}
