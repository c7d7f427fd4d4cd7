/*
 * Any bytes as the JSON files that decide what runs: manifest.json, image.json, a VM's run.json, a snapshot's
 * meta.json. The first byte says which. What is understood is written again and understood as the same.
 */
#include "folder.h"

#include "image/manifest.h"
#include "vmdir/runfile.h"
#include "vmdir/snapshot_meta.h"
#include "vmdir/vmdir.h"

#include <string.h>

static void try_manifest(json_object *o)
{
    struct manifest m, again;
    char digest[SHA256_HEX_SIZE], digest_again[SHA256_HEX_SIZE];
    struct mvm_error err = MVM_ERROR_INIT;
    if (manifest_parse(&m, o, &err) < 0) {
        MUST(err.msg[0]);
        return;
    }
    CLEAN_JSON json_object *written = manifest_json(&m);
    MUST(manifest_parse(&again, written, NULL) == 0);
    manifest_digest(&m, digest);
    manifest_digest(&again, digest_again);
    MUST(strcmp(digest, digest_again) == 0);
}

static void try_metadata(const uint8_t *p, size_t n)
{
    struct image_metadata m;
    folder_put("image.json", p, n);
    if (image_metadata_load(&m, AT_FDCWD, NULL) < 0)
        return;
    MUST(path_is_plain_name(m.name, sizeof(m.name) - 1) && path_is_plain_name(m.system, sizeof(m.system) - 1));
}

static void try_runfile(const uint8_t *p, size_t n)
{
    struct runfile f = {0}, again = {0};
    folder_put(VMDIR_CONFIG, p, n);
    if (runfile_load(&f, AT_FDCWD, NULL) < 0)
        return;
    MUST(runfile_save(&f, AT_FDCWD, NULL) == 0 && runfile_load(&again, AT_FDCWD, NULL) == 0);
    MUST(strcmp(f.name, again.name) == 0 && strcmp(f.image_path, again.image_path) == 0 &&
         f.memory_mib == again.memory_mib && f.counting == again.counting);
}

static void try_snapmeta(json_object *o)
{
    struct snapshot_meta now = {.id = {"backend", "machine", "cpu"}, .hello.protocol = MVM_PROTOCOL_VERSION};
    if (snapshot_meta_judge(o, &now))
        return;
    CLEAN_JSON json_object *written = json_object_new_object();
    snapshot_meta_put(written, &now);
    MUST(!snapshot_meta_judge(written, &now));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEAN_JSON json_object *o = NULL;
    struct input in = {data, size};
    folder_enter();
    unsigned which = input_u8(&in) % 4;
    if (which == 1)
        try_metadata(in.at, in.left);
    else if (which == 2)
        try_runfile(in.at, in.left);
    else if (json_parse(in.at, in.left, &o, NULL) == 0 && which == 0)
        try_manifest(o);
    else if (o)
        try_snapmeta(o);
    return 0;
}
