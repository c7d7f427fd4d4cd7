#include "release/release_versions.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/lock.h"
#include "host/json.h"

#include <errno.h>
#include <stdio.h>

#define FOLDER   "dev"
#define LOG      "releases.json"
#define LOG_LOCK ".releases.lock"
#define MAX_LOG  (64 * 1024)
#define SCHEMA   2 /* 1 had no digest */

/* -ENOENT where there is no file. */
static int load_object(int dirfd, json_object **ret, struct mvm_error *err)
{
    int64_t schema;
    int r = json_load(dirfd, LOG, MAX_LOG, ret, err);
    if (r < 0)
        return r;
    if (json_get_int(*ret, "schema_version", &schema, err) < 0)
        return -EINVAL;
    if (schema == 1)
        return 0;
    if (schema != SCHEMA)
        return mvm_error_set(err, -EINVAL, LOG " is of schema version %lld", (long long)schema);
    json_object_put(TAKE_PTR(*ret));
    return json_load_sealed(dirfd, LOG, MAX_LOG, ret, err);
}

/* The whole object and the one of its versions in it, both new where there is no file. */
static int load(int dirfd, json_object **ret, json_object **ret_versions, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    int r = load_object(dirfd, &o, err);
    if (r == -ENOENT) {
        o = json_object_new_object();
        json_add(o, "versions", json_object_new_object());
        r = 0;
    }
    if (r == 0)
        r = json_get_object(o, "versions", ret_versions, err);
    if (r < 0) {
        mvm_error_wrap(err, "which published images were used cannot be told");
        mvm_error_hint(err, "look at dev/" LOG " in MVM_HOME; without that file an older image would be taken, too");
        return r;
    }
    *ret = TAKE_PTR(o);
    return 0;
}

static void key_name(const struct release *r, const struct minisign_key *key, char out[static 96])
{
    char id[17];
    minisign_key_id(key, id);
    snprintf(out, 96, "%s/%s/%s", release_kind_name(r->kind), r->arch, id);
}

/* 0 where none was used. */
static int highest(json_object *versions, const char *name, int64_t *ret, struct mvm_error *err)
{
    *ret = 0;
    return json_object_object_get_ex(versions, name, NULL) ? json_get_int(versions, name, ret, err) : 0;
}

static int check(json_object *versions, const struct release *rel, const char *name, struct mvm_error *err)
{
    int64_t used;
    int r = highest(versions, name, &used, err);
    if (r == 0 && rel->version < used)
        r = mvm_error_set(err, -ESTALE, "version %lld is older than version %lld, which was used already",
                          (long long)rel->version, (long long)used);
    return r;
}

int release_versions_check(struct home *h, const struct release *rel, const struct minisign_key *key,
                           struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *versions;
    char name[96];
    CLEAN_FD int dir = path_open_dir(h->state_fd, FOLDER, err);
    int r = dir < 0 ? dir : load(dir, &o, &versions, err);
    key_name(rel, key, name);
    return r < 0 ? r : check(versions, rel, name, err);
}

int release_versions_record(struct home *h, const struct release *rel, const struct minisign_key *key,
                            struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    const struct lock_wait wait = {0};
    json_object *versions;
    char name[96];
    CLEAN_FD int dir = path_open_dir(h->state_fd, FOLDER, err);
    int r = dir < 0 ? dir : lock_take(&lock, dir, LOG_LOCK, "mvmctl", &wait, err);
    if (r == 0)
        r = load(dir, &o, &versions, err);
    key_name(rel, key, name);
    /* Another process, with another cache folder, may have used a newer one meanwhile. */
    if (r == 0)
        r = check(versions, rel, name, err);
    if (r < 0)
        return r;
    json_add_int(versions, name, rel->version);
    json_add_int(o, "schema_version", SCHEMA);
    return json_save_sealed(dir, LOG, o, 0600, true, err);
}
