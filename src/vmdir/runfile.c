#include "vmdir/runfile.h"
#include "host/json.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA 2

/* Older ones lack the optional ones. */
static const struct json_field fields[] = {
#define TEXT(key, member)         JSON_TEXT(struct runfile, key, member)
#define LATER_TEXT(key, member)   JSON_OPTIONAL_TEXT(struct runfile, key, member)
#define NUMBER(key, member)       JSON_NUMBER(struct runfile, key, member)
#define LATER_NUMBER(key, member) JSON_OPTIONAL_NUMBER(struct runfile, key, member)
    TEXT("name", name),
    TEXT("role", role),
    TEXT("image", image),
    TEXT("backend", backend),
    TEXT("hostname", hostname),
    TEXT("image_path", image_path),
    TEXT("store_disk", store_disk),
    TEXT("snapshots", snapshots),
    LATER_TEXT("cold_reason", cold_reason),
    LATER_TEXT("state", state),
    LATER_TEXT("network", network),
    LATER_TEXT("network_limits", network_limits),
    LATER_TEXT("pcap", pcap),
    LATER_TEXT("member_of", member_of),
    LATER_TEXT("network_folder", network_folder),
    LATER_NUMBER("member", member),
    TEXT("accel", accel.name),
    TEXT("accel_reason", accel.reason),
    NUMBER("tsc_khz", accel.tsc_khz),
    NUMBER("memory_mib", memory_mib),
    NUMBER("vcpus", vcpus),
    NUMBER("timeout_ms", timeout_ms),
    NUMBER("idle_ms", idle_ms),
    LATER_NUMBER("counting", counting),
    LATER_NUMBER("ready", ready),
    LATER_NUMBER("settle_ms", settle_ms),
    NUMBER("started_at", started_at),
    NUMBER("start_mono", start_mono),
#undef TEXT
#undef LATER_TEXT
#undef NUMBER
#undef LATER_NUMBER
};

bool runfile_is_unlinked(const struct runfile *r)
{
    return !r->member_of[0] && strstr(r->network, "@none"); /* one layer that allows nothing is enough */
}

int runfile_save(const struct runfile *r, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", SCHEMA);
    json_add_bool(o, "transient", r->transient);
    json_add_bool(o, "verify", r->verify);
    json_add_bool(o, "store_check", r->store_check);
    json_add_bool(o, "confine", r->confine);
    json_put_fields(o, fields, ARRAY_SIZE(fields), r);
    return json_save_sealed(dirfd, VMDIR_CONFIG, o, 0600, false, err);
}

static bool has_flag(json_object *o, const char *key)
{
    json_object *t = NULL;
    return json_object_object_get_ex(o, key, &t) && json_object_get_boolean(t);
}

int runfile_load(struct runfile *r, int dirfd, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    int e = json_load_sealed(dirfd, VMDIR_CONFIG, 64 * 1024, &o, err);
    int64_t schema = 0;
    if (e < 0)
        return e;
    if (json_get_int(o, "schema_version", &schema, err) < 0 || schema != SCHEMA)
        return mvm_error_set(err, -EINVAL, VMDIR_CONFIG ": schema version %lld", (long long)schema);
    memset(r, 0, sizeof(*r));
    if (json_get_fields(o, fields, ARRAY_SIZE(fields), r, err) < 0) {
        mvm_error_wrap(err, VMDIR_CONFIG);
        return -EINVAL;
    }
    r->transient = has_flag(o, "transient");
    r->verify = has_flag(o, "verify");
    r->confine = has_flag(o, "confine");
    r->store_check = has_flag(o, "store_check");
    return 0;
}
