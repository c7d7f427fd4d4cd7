#include "cache/records.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "cache/fingerprint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOLDER     "builds"
#define REF_FOLDER "builds/refs"
#define SCHEMA     1
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
    int r = json_load(dirfd, name, MAX_BYTES, &o, err);
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

/* Loads and drops what is damaged: -ENOENT then. */
static int load_or_drop(int dirfd, const char *name, struct build_record *ret, bool *ret_damaged, struct mvm_error *err)
{
    int r = load(dirfd, name, ret, err);
    if (r == 0 || r == -ENOENT)
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
    return json_save(dirfd, name, o, 0600, false, err);
}

int build_record_save(struct home *h, const struct build_record *rec, struct mvm_error *err)
{
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, err);
    CLEAN_FD int refs = path_open_dir(h->cache_fd, REF_FOLDER, err);
    if (dir < 0 || refs < 0)
        return -EIO;
    char key[SHA256_HEX_SIZE];
    int r = save(dir, rec->fingerprint, rec, err);
    ref_key(rec->ref, rec->attr, key);
    if (r == 0)
        r = save(refs, key, rec, err);
    return r;
}

void build_record_remove(struct home *h, const char *fingerprint)
{
    CLEAN_FD int dir = path_open_dir(h->cache_fd, FOLDER, NULL);
    char name[SHA256_HEX_SIZE + 5];
    file_name(fingerprint, name);
    if (dir >= 0)
        unlinkat(dir, name, 0);
}

int build_record_last(struct home *h, const char *ref, const char *attr, struct build_record *ret,
                      struct mvm_error *err)
{
    *ret = (struct build_record){0};
    CLEAN_FD int refs = path_open_dir(h->cache_fd, REF_FOLDER, err);
    if (refs < 0)
        return refs;
    char key[SHA256_HEX_SIZE], name[SHA256_HEX_SIZE + 5];
    ref_key(ref, attr, key);
    file_name(key, name);
    bool damaged = false;
    int r = load_or_drop(refs, name, ret, &damaged, err);
    if (r == 0 && (strcmp(ret->ref, ref) != 0 || strcmp(ret->attr, attr) != 0))
        r = -ENOENT;
    return r;
}
