#include "flake/registry.h"
#include "host/json.h"
#include "image/ext4.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REGISTRY     "/etc/nix/registry.json"
#define MAX_REGISTRY (1u << 20)

static void take(struct registry *f, json_object *entry)
{
    json_object *from, *to;
    const char *id, *path, *hash;
    if (json_get_object(entry, "from", &from, NULL) < 0 || json_get_string(from, "id", &id, NULL) < 0 ||
        json_get_object(entry, "to", &to, NULL) < 0 || json_get_string(to, "path", &path, NULL) < 0 ||
        json_get_string(to, "narHash", &hash, NULL) < 0)
        return;
    struct registry_flake *flake = strcmp(id, "mvm") == 0         ? &f->library
                                   : strcmp(id, "mvm-tools") == 0 ? &f->tools
                                                                  : NULL;
    if (!flake)
        return;
    snprintf(flake->path, sizeof(flake->path), "%s", path);
    snprintf(flake->hash, sizeof(flake->hash), "%s", hash);
}

int registry_load(struct registry *f, const char *rootfs, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_REGISTRY);
    CLEAN_JSON json_object *o = NULL;
    json_object *flakes;
    *f = (struct registry){0};
    int r = ext4_read(rootfs, REGISTRY, &text, err);
    if (r == 0)
        r = json_parse(buf_cstr(&text), text.len, &o, err);
    if (r == 0)
        r = json_get_array(o, "flakes", &flakes, err);
    if (r < 0)
        return mvm_error_wrap(err, "the builder image's flake registry");
    for (size_t i = 0; i < json_object_array_length(flakes); i++)
        if (json_object_is_type(json_object_array_get_idx(flakes, i), json_type_object))
            take(f, json_object_array_get_idx(flakes, i));
    return f->library.hash[0] && f->tools.hash[0]
               ? 0
               : mvm_error_set(err, -EINVAL, "the builder image's flake registry lacks mvm or mvm-tools");
}
