#include "machine/snapshot.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "image/manifest.h"
#include "machine/pinned_image.h"
#include "machine/snapshot_dir.h"
#include "vmdir/vmm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DAMAGED "the snapshot's description is damaged or of another version"

/* ---- Names ---- */

static int bad(struct mvm_error *err, const char *hint)
{
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "%s", hint);
    return -EINVAL;
}

int snapshot_check_tag(const char *tag, struct mvm_error *err)
{
    if (path_is_plain_name(tag, SNAPSHOT_MAX_TAG))
        return 0;
    mvm_error_set(err, -EINVAL, "tag '%.70s': not a plain name of at most %d bytes", tag, SNAPSHOT_MAX_TAG);
    return bad(err, "use letters, digits, '.', '_' and '-', beginning with a letter or digit");
}

int snapshot_parse(const char *word, char vm[static VMDIR_MAX_NAME + 1], char tag[static SNAPSHOT_MAX_TAG + 1],
                   struct mvm_error *err)
{
    const char *colon = strchr(word, ':');
    size_t n = colon ? (size_t)(colon - word) : strlen(word);
    if (n > VMDIR_MAX_NAME)
        return vmdir_check_name(word, err); /* which says so */
    memcpy(vm, word, n);
    vm[n] = '\0';
    tag[0] = '\0';
    int r = vmdir_check_name(vm, err);
    if (r == 0 && colon)
        r = snapshot_check_tag(colon + 1, err);
    if (r == 0 && colon)
        snprintf(tag, SNAPSHOT_MAX_TAG + 1, "%s", colon + 1);
    return r;
}

/* ---- Listing and removing ---- */

int snapshot_list(struct home *h, const char *vm, struct snapshot **ret, size_t *ret_n, struct mvm_error *err)
{
    struct snapshot_list l = {0};
    CLEAN_FD int root = snapshot_dir_open(h, err);
    int r = root < 0 ? root : snapshot_dir_list(root, vm, &l, err);
    if (r < 0) {
        free(l.v);
        return r;
    }
    *ret = l.v;
    *ret_n = l.n;
    return 0;
}

static int no_such(const char *vm, const char *tag, struct mvm_error *err)
{
    mvm_error_set(err, -ENOENT, "there is no snapshot %s%s%s", vm, *tag ? ":" : "", tag);
    mvm_error_hint(err, "mvmctl snapshot ls shows the ones there are");
    return -ENOENT;
}

int snapshot_remove(struct home *h, const char *vm, const char *tag, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int root = snapshot_dir_open(h, err);
    int r = root < 0 ? root : snapshot_dir_lock(&lock, root, err);
    if (r < 0)
        return r;
    CLEAN_FD int folder = os_open_beneath(root, vm, O_RDONLY | O_DIRECTORY, 0);
    r = folder < 0 ? folder : faccessat(folder, tag, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (mvm_error_is_absent(r))
        return no_such(vm, tag, err);
    if (r == 0)
        r = path_remove_tree(folder, tag);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot remove the snapshot %s:%s", vm, tag);
    unlinkat(root, vm, AT_REMOVEDIR); /* where it was the last */
    snapshot_dir_tidy(h, root);
    return 0;
}

int snapshot_sweep(struct home *h, struct mvm_error *err)
{
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    if (faccessat(h->state_fd, "snapshots", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && mvm_error_is_absent(-errno))
        return 0;
    CLEAN_FD int root = snapshot_dir_open(h, err);
    int r = root < 0 ? root : snapshot_dir_lock(&lock, root, err);
    if (r == 0)
        snapshot_dir_tidy(h, root);
    return r;
}

/* ---- Continuing ---- */

static int refuse(const struct snapshot *u, const char *why, struct mvm_error *err)
{
    mvm_error_set(err, -ESTALE, "snapshot %s:%s cannot be continued: %s", u->vm, u->tag, why);
    mvm_error_hint(err, "nothing was started, the snapshot is kept; another one, or up with the image, starts a vm");
    return -ESTALE;
}

/* The image's files are those that there were, and as they were. */
static int verify_image(int root, json_object *meta, const struct snapshot *u, struct statindex *index,
                        struct mvm_error *err)
{
    json_object *files;
    CLEAN_FD int image = pinned_image_open(root, u->image_key);
    if (image < 0)
        return mvm_error_errno(err, image, "the image that it needs cannot be opened");
    if (json_get_object(meta, SNAPSHOT_DIR_FILES, &files, NULL) < 0)
        return mvm_error_set(err, -ESTALE, DAMAGED);
    for (int a = 0; a < ARTIFACT_COUNT; a++) {
        CLEAN_FD int fd = -1;
        const char *name = artifact_name((enum artifact)a);
        bool listed = json_object_object_get_ex(files, name, NULL);
        int r = listed ? snapshot_meta_open_file(files, name, image, name, index, &fd, err) : 0;
        if (!listed && faccessat(image, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            r = mvm_error_set(err, -ESTALE, "the image that it needs has a %s that it had not", name);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Both: by the index, which may be NULL. */
static int verify_files(int root, int dir, json_object *meta, const struct snapshot *u, struct statindex *index,
                        struct mvm_error *err)
{
    CLEAN_FD int state = -1;
    int r = verify_image(root, meta, u, index, err);
    return r < 0 ? r : snapshot_meta_open_file(meta, SNAPSHOT_DIR_STATE, dir, SNAPSHOT_DIR_STATE, index, &state, err);
}

/* What runs it must be as it was, and so must its files. */
static int verify(struct home *h, int root, int dir, json_object *meta, const struct snapshot *u, bool read,
                  struct mvm_error *err)
{
    CLEAN_FREE struct runfile *run = calloc(1, sizeof(*run));
    struct snapshot_meta now;
    struct mvm_error why = MVM_ERROR_INIT;
    if (!run)
        return mvm_error_errno(err, -ENOMEM, "snapshot");
    int r = vmm_choose_accel_for(vmm_image_arch(u->image_path), h->state_fd, getenv("MVM_ACCEL"), &run->accel, err);
    if (r < 0)
        return r;
    run->memory_mib = u->memory_mib;
    run->vcpus = u->vcpus;
    snprintf(run->image_path, sizeof(run->image_path), "%s", u->image_path);
    if (snapshot_dir_present(u, run, &now, &why) < 0)
        return refuse(u, why.msg, err);
    const char *unfit = snapshot_meta_judge(meta, &now);
    if (unfit)
        return refuse(u, unfit, err);
    struct statindex *index = read ? NULL : snapshot_dir_index(h, u);
    r = verify_files(root, dir, meta, u, index, &why);
    if (index)
        statindex_save(index);
    statindex_free(index);
    return r < 0 ? refuse(u, why.msg, err) : 0;
}

int snapshot_read(struct home *h, const struct snapshot *u, struct mvm_error *err)
{
    CLEAN_JSON json_object *meta = NULL;
    struct snapshot now = *u;
    CLEAN_FD int root = snapshot_dir_open(h, err);
    if (root < 0)
        return root;
    CLEAN_FD int dir = snapshot_dir_open_one(root, u->vm, u->tag);
    int r = dir < 0 ? mvm_error_errno(err, dir, "cannot open the snapshot") : snapshot_dir_load(&now, dir, &meta, err);
    if (r == 0 && now.damaged)
        r = mvm_error_set(err, -ESTALE, DAMAGED);
    return r < 0 ? r : verify_files(root, dir, meta, &now, NULL, err);
}

static int newest(int root, struct snapshot *u, struct mvm_error *err)
{
    struct snapshot_list l = {0};
    int r = snapshot_dir_list(root, u->vm, &l, err);
    if (r == 0 && l.n == 0)
        r = no_such(u->vm, "", err);
    if (r == 0)
        snprintf(u->tag, sizeof(u->tag), "%s", l.v[l.n - 1].tag);
    free(l.v);
    return r;
}

int snapshot_find(struct home *h, const char *vm, const char *tag, bool read, struct snapshot *ret,
                  struct mvm_error *err)
{
    *ret = (struct snapshot){0};
    snprintf(ret->vm, sizeof(ret->vm), "%s", vm);
    snprintf(ret->tag, sizeof(ret->tag), "%s", tag);
    CLEAN_FD int root = snapshot_dir_open(h, err);
    int r = root < 0 ? root : *tag ? 0 : newest(root, ret, err);
    if (r < 0)
        return r;
    CLEAN_FD int dir = snapshot_dir_open_one(root, vm, ret->tag);
    if (mvm_error_is_absent(dir))
        return no_such(vm, ret->tag, err);
    if (dir < 0)
        return mvm_error_errno(err, dir, "cannot open snapshot %s:%s", vm, ret->tag);
    CLEAN_JSON json_object *meta = NULL;
    r = snapshot_dir_load(ret, dir, &meta, err);
    if (r < 0)
        return r;
    if (ret->damaged)
        return refuse(ret, DAMAGED, err);
    pinned_image_path(h->state, ret->image_key, ret->image_path, sizeof(ret->image_path));
    snprintf(ret->state_path, sizeof(ret->state_path), "%s/snapshots/%s/%s/" SNAPSHOT_DIR_STATE, h->state, vm,
             ret->tag);
    return verify(h, root, dir, meta, ret, read, err);
}

void snapshot_fill(const struct snapshot *u, struct machine_config *c)
{
    c->role = VM_ROLE_RUNTIME;
    c->image = u->image_path;
    c->image_digest = u->image;
    c->hypervisor = u->backend;
    c->memory_mib = u->memory_mib;
    c->vcpus = (unsigned)u->vcpus;
    c->state = u->state_path;
    c->network_limits = u->network_limits;
    if (c->network || c->member_of)
        return; /* it shall be another one now */
    c->network = u->network;
    c->member_of = u->member_of;
}
