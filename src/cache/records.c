#include "cache/records.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/fingerprint.h"
#include "host/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOLDER     "builds"
#define REF_FOLDER "builds/refs"
#define SCHEMA     3
#define ARTIFACTS  "artifacts"
#define MAX_BYTES  (64 * 1024)

static void file_name(const char *key, char out[static SHA256_HEX_SIZE + 5])
{
    snprintf(out, SHA256_HEX_SIZE + 5, "%.64s.json", key);
}

/* What a reference's record is filed under. */
static void ref_key(const char *ref, const char *attr, char out[static SHA256_HEX_SIZE])
{
    struct fingerprint f;
    fingerprint_init(&f, "flake reference");
    fingerprint_add_string(&f, "ref", ref);
    fingerprint_add_string(&f, "attr", attr);
    fingerprint_final(&f, out);
}

static int get_text(json_object *o, const char *key, char *out, size_t size, struct mvm_error *err)
{
    const char *s;
    int r = json_get_string(o, key, &s, err);
    if (r == 0 && (size_t)snprintf(out, size, "%s", s) >= size)
        r = mvm_error_set(err, -EINVAL, "field '%s' is too long", key);
    return r;
}

static int load(int dirfd, const char *name, struct build_record *ret, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    int64_t schema = 0, built_at = 0;
    int r = json_load_sealed(dirfd, name, MAX_BYTES, &o, err);
    if (r < 0)
        return r;
    if (json_get_int(o, "schema_version", &schema, err) < 0 || schema != SCHEMA ||
        get_text(o, "fingerprint", ret->fingerprint, sizeof(ret->fingerprint), err) < 0 ||
        get_text(o, "image", ret->image, sizeof(ret->image), err) < 0 ||
        get_text(o, "store_path", ret->store_path, sizeof(ret->store_path), err) < 0 ||
        get_text(o, "ref", ret->ref, sizeof(ret->ref), err) < 0 ||
        get_text(o, "attr", ret->attr, sizeof(ret->attr), err) < 0 || json_get_int(o, "built_at", &built_at, err) < 0)
        return -EINVAL;
    ret->built_at = (uint64_t)built_at;
    return 0;
}

/* Loads, and drops what was read and is damaged: -ENOENT then. What could not be read stays: the next run may be able
 * to. */
static int load_or_drop(int dirfd, const char *name, struct build_record *ret, bool *ret_damaged, struct mvm_error *err)
{
    int r = load(dirfd, name, ret, err);
    if (!mvm_error_is_damage(r))
        return r;
    unlinkat(dirfd, name, 0);
    *ret_damaged = true;
    return -ENOENT;
}

int build_record_load(struct home *h, const char *fingerprint, struct build_record *ret, bool *ret_damaged,
                      struct mvm_error *err)
{
    *ret = (struct build_record){0};
    *ret_damaged = false;
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    if (dir < 0)
        return dir;
    char name[SHA256_HEX_SIZE + 5];
    file_name(fingerprint, name);
    int r = load_or_drop(dir, name, ret, ret_damaged, err);
    if (r == 0 && strcmp(ret->fingerprint, fingerprint) != 0) {
        unlinkat(dir, name, 0);
        *ret_damaged = true;
        r = -ENOENT;
    }
    return r;
}

static int save(int dirfd, const char *key, const struct build_record *r, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_add_string(o, "fingerprint", r->fingerprint);
    json_add_string(o, "image", r->image);
    json_add_string(o, "store_path", r->store_path);
    json_add_string(o, "ref", r->ref);
    json_add_string(o, "attr", r->attr);
    json_add_int(o, "built_at", (int64_t)r->built_at);
    char name[SHA256_HEX_SIZE + 5];
    file_name(key, name);
    return json_save_sealed(dirfd, name, o, 0600, false, err);
}

int build_record_save(struct home *h, const struct build_record *rec, struct mvm_error *err)
{
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    int r = dir < 0 ? dir : save(dir, rec->fingerprint, rec, err);
    return r < 0 ? r : build_record_point(h, rec, err);
}

int build_record_point(struct home *h, const struct build_record *rec, struct mvm_error *err)
{
    struct build_record last;
    bool damaged;
    if (build_record_last(h, rec->ref, rec->attr, &last, &damaged, NULL) == 0 && strcmp(last.image, rec->image) == 0 &&
        strcmp(last.fingerprint, rec->fingerprint) == 0)
        return 0;
    CLEAN_FD int refs = path_open_dir(h->cache_fd, REF_FOLDER, err);
    char key[SHA256_HEX_SIZE];
    ref_key(rec->ref, rec->attr, key);
    return refs < 0 ? refs : save(refs, key, rec, err);
}

void build_record_remove(struct home *h, const char *fingerprint)
{
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, NULL);
    char name[SHA256_HEX_SIZE + 5];
    file_name(fingerprint, name);
    if (dir >= 0)
        unlinkat(dir, name, 0);
}

int build_record_last(struct home *h, const char *ref, const char *attr, struct build_record *ret, bool *ret_damaged,
                      struct mvm_error *err)
{
    *ret = (struct build_record){0};
    *ret_damaged = false;
    CLEAN_FD int refs = path_open_dir(h->cache_fd, REF_FOLDER, err);
    if (refs < 0)
        return refs;
    char key[SHA256_HEX_SIZE], name[SHA256_HEX_SIZE + 5];
    ref_key(ref, attr, key);
    file_name(key, name);
    int r = load_or_drop(refs, name, ret, ret_damaged, err);
    if (r == 0 && (strcmp(ret->ref, ref) != 0 || strcmp(ret->attr, attr) != 0)) {
        unlinkat(refs, name, 0);
        *ret_damaged = true;
        r = -ENOENT;
    }
    return r;
}

struct output {
    char *path;
    uint64_t built_at;
};

static int newest_first(const void *a, const void *b)
{
    const struct output *x = a, *y = b;
    return (x->built_at < y->built_at) - (x->built_at > y->built_at);
}

/* Appends what the record in that file says, if its image is there. Damaged ones are whoever loads them's to drop; one
 * that cannot be read now may be needed. */
static int add_output(int dirfd, int images, const char *name, struct output **v, size_t *n)
{
    struct build_record rec = {0};
    int r = load(dirfd, name, &rec, NULL);
    if (r == 0 && !path_is_plain_name(rec.image, SHA256_HEX_SIZE - 1))
        return 0;
    if (r == 0 && faccessat(images, rec.image, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    if (r < 0)
        return mvm_error_is_absent(r) || mvm_error_is_damage(r) ? 0 : r;
    struct output *grown = reallocarray(*v, *n + 1, sizeof(**v));
    if (!grown)
        return -ENOMEM;
    *v = grown;
    grown[*n] = (struct output){.path = strdup(rec.store_path), .built_at = rec.built_at};
    return grown[*n].path ? (*n)++, 0 : -ENOMEM;
}

int build_record_store_paths(struct home *h, size_t max, struct msg_strings *ret, struct mvm_error *err)
{
    struct output *v = NULL;
    size_t n = 0;
    int r = 0;
    CLEAN_FD int images = path_open_dir(h->cache_fd, ARTIFACTS, err);
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    int copy = images < 0 || dir < 0 ? -1 : fcntl(dir, F_DUPFD_CLOEXEC, 0);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return mvm_error_errno(err, -EIO, "cannot read the build records");
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        if (e->d_name[0] != '.' && strstr(e->d_name, ".json"))
            r = add_output(dir, images, e->d_name, &v, &n);
    closedir(d);
    if (n)
        qsort(v, n, sizeof(*v), newest_first);
    size_t keep = MIN_OF(n, max);
    char **list = r == 0 ? calloc(keep + 1, sizeof(*list)) : NULL;
    for (size_t i = 0; i < n; i++) {
        if (list && i < keep)
            list[i] = TAKE_PTR(v[i].path);
        free(v[i].path);
    }
    free(v);
    if (!list)
        return mvm_error_errno(err, r < 0 ? r : -ENOMEM, "cannot read the build records");
    *ret = (struct msg_strings){.v = list, .n = keep};
    return 0;
}
