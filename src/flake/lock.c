#include "flake/lock.h"
#include "flake/literals.h"
#include "host/json.h"

#include <errno.h>
#include <string.h>

/* The registry name by which a node was found: "mvm" or "mvm-tools" where the builder provides it, else NULL. */
static const char *provided_name(json_object *node)
{
    json_object *original = NULL;
    const char *type, *id;
    if (json_get_object(node, "original", &original, NULL) < 0 || json_get_string(original, "type", &type, NULL) < 0 ||
        json_get_string(original, "id", &id, NULL) < 0 || strcmp(type, "indirect") != 0)
        return NULL;
    return strcmp(id, "mvm") == 0 || strcmp(id, "mvm-tools") == 0 ? id : NULL;
}

/* The absolute path of a node that is a local folder; NULL for others. */
static const char *local_path(json_object *node)
{
    json_object *o = NULL;
    const char *type, *path;
    if (json_get_object(node, "original", &o, NULL) < 0 || json_get_string(o, "type", &type, NULL) < 0 ||
        json_get_string(o, "path", &path, NULL) < 0)
        return NULL;
    return strcmp(type, "path") == 0 && path[0] == '/' ? path : NULL;
}

/* The same of any node that is on this machine. The caller frees. */
static char *any_local_path(json_object *node)
{
    json_object *o = NULL;
    const char *path = local_path(node), *url;
    if (path)
        return strdup(path);
    if (json_get_object(node, "original", &o, NULL) < 0 || json_get_string(o, "url", &url, NULL) < 0)
        return NULL;
    return url[0] == '/' ? strdup(url) : flake_url_path(url);
}

/* A repository with changes, which Nix locks to nothing that could be had again. */
static bool is_dirty(json_object *node)
{
    json_object *locked = NULL;
    const char *rev;
    return json_get_object(node, "locked", &locked, NULL) == 0 && json_get_string(locked, "dirtyRev", &rev, NULL) == 0;
}

/* Takes the inputs that name a removed node out of the others. */
static void drop_references(json_object *nodes, json_object *gone)
{
    json_object_object_foreach(nodes, key, node)
    {
        json_object *inputs = NULL;
        (void)key;
        if (json_get_object(node, "inputs", &inputs, NULL) < 0)
            continue;
        struct json_object_iterator it = json_object_iter_begin(inputs), end = json_object_iter_end(inputs);
        CLEAN_JSON json_object *dead = json_object_new_array();
        for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
            json_object *target = json_object_iter_peek_value(&it);
            const char *name = json_object_is_type(target, json_type_string) ? json_object_get_string(target) : "";
            if (json_object_object_get_ex(gone, name, NULL))
                json_object_array_add(dead, json_object_new_string(json_object_iter_peek_name(&it)));
        }
        for (size_t i = 0; i < json_object_array_length(dead); i++)
            json_object_object_del(inputs, json_object_get_string(json_object_array_get_idx(dead, i)));
    }
}

/* Locks a node to what the builder has. False where its shape is not what a flake of that name has today. */
static bool provide(json_object *nodes, json_object *node, const struct registry *flakes)
{
    json_object *inputs = NULL, *tools_node = NULL, *locked;
    const char *tools;
    bool library = strcmp(provided_name(node), "mvm") == 0;
    bool has_inputs = json_get_object(node, "inputs", &inputs, NULL) == 0;
    if (library &&
        (!has_inputs || json_object_object_length(inputs) != 1 || json_get_string(inputs, "tools", &tools, NULL) < 0 ||
         json_get_object(nodes, tools, &tools_node, NULL) < 0 || !provided_name(tools_node)))
        return false;
    if (!library && has_inputs)
        return false;
    locked = json_object_new_object();
    const struct registry_flake *flake = library ? &flakes->library : &flakes->tools;
    json_add_string(locked, "narHash", flake->hash);
    json_add_string(locked, "path", flake->path);
    json_add_string(locked, "type", "path");
    json_add(node, "locked", locked);
    return true;
}

/* flakes NULL: the builder's nodes go. */
static int rewrite(const void *p, size_t n, const struct registry *flakes, struct buf *out, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *nodes = NULL;
    buf_clear(out);
    if (json_parse(p, n, &o, NULL) < 0 || json_get_object(o, "nodes", &nodes, NULL) < 0) {
        int r = buf_append(out, p, n);
        return r < 0 ? mvm_error_errno(err, r, "flake.lock") : 0;
    }
    CLEAN_JSON json_object *gone = json_object_new_object();
    json_object_object_foreach(nodes, key, node)
    {
        if (provided_name(node) ? !flakes || !provide(nodes, node, flakes) : local_path(node) || is_dirty(node))
            json_add_bool(gone, key, true);
    }
    json_object_object_foreach(gone, dead, unused)
    {
        (void)unused;
        json_object_object_del(nodes, dead);
    }
    drop_references(nodes, gone);
    const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    int r = buf_printf(out, "%s\n", text);
    return r < 0 ? mvm_error_errno(err, r, "flake.lock") : 0;
}

int flake_lock_strip(const void *p, size_t n, struct buf *out, struct mvm_error *err)
{
    return rewrite(p, n, NULL, out, err);
}

int flake_lock_stage(const void *p, size_t n, const struct registry *flakes, struct buf *out, struct mvm_error *err)
{
    return rewrite(p, n, flakes, out, err);
}

int flake_lock_paths(const void *p, size_t n, int (*found)(void *data, const char *path), void *data)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *nodes = NULL;
    int r = 0;
    if (json_parse(p, n, &o, NULL) < 0 || json_get_object(o, "nodes", &nodes, NULL) < 0)
        return 0;
    json_object_object_foreach(nodes, key, node)
    {
        (void)key;
        CLEAN_FREE char *path = provided_name(node) ? NULL : any_local_path(node);
        if (path && r == 0)
            r = found(data, path);
    }
    return r;
}

bool flake_lock_same(const struct buf *a, const struct buf *b)
{
    CLEAN_JSON json_object *x = NULL, *y = NULL;
    if (json_parse(a->data, a->len, &x, NULL) < 0 || json_parse(b->data, b->len, &y, NULL) < 0)
        return false;
    json_object_object_del(x, "version");
    json_object_object_del(y, "version");
    return json_object_equal(x, y);
}

bool flake_lock_is_dirty(const void *p, size_t n)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *nodes = NULL;
    bool dirty = false;
    if (json_parse(p, n, &o, NULL) < 0 || json_get_object(o, "nodes", &nodes, NULL) < 0)
        return false;
    json_object_object_foreach(nodes, key, node)
    {
        (void)key;
        dirty = dirty || is_dirty(node);
    }
    return dirty;
}

bool flake_lock_has_inputs(const void *p, size_t n)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *nodes = NULL;
    return json_parse(p, n, &o, NULL) == 0 && json_get_object(o, "nodes", &nodes, NULL) == 0 &&
           json_object_object_length(nodes) > 1;
}

int flake_lock_check(const void *p, size_t n, const char *folder, struct mvm_error *err)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *nodes = NULL;
    const char *root;
    int64_t version;
    int r = json_parse(p, n, &o, err);
    if (r == 0)
        r = json_get_int(o, "version", &version, err);
    if (r == 0)
        r = json_get_string(o, "root", &root, err);
    if (r == 0)
        r = json_get_object(o, "nodes", &nodes, err);
    if (r == 0)
        r = json_get_object(nodes, root, &nodes, err);
    if (r == 0)
        return 0;
    mvm_error_wrap(err, "%s/flake.lock is no lock file", folder);
    mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
    mvm_error_hint(
        err, "bring its last state back (git -C %s checkout flake.lock), or remove it to lock the inputs anew", folder);
    return -EINVAL;
}
