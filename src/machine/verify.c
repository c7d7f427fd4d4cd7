#include "machine/verify.h"
#include "cache/artifacts.h"
#include "host/interrupt.h"
#include "machine/snapshot.h"
#include "vmdir/boot_snapshot.h"

#include <errno.h>
#include <stdio.h>

static const char *const names[] = {
    [VERIFY_IMAGE] = "image",
    [VERIFY_BOOT_SNAPSHOT] = "boot snapshot",
    [VERIFY_SNAPSHOT] = "snapshot",
};
_Static_assert(ARRAY_SIZE(names) == VERIFY_COUNT, "every kind has a name");

const char *verify_kind_name(enum verify_kind k)
{
    return (unsigned)k < VERIFY_COUNT ? names[k] : "";
}

struct walk {
    struct verify *v;
    struct home *h;
};

static void note(struct verify *v, enum verify_kind kind, const char *name, int code, const char *why)
{
    struct verify_tally *t = &v->tally[kind];
    unsigned *count = code == 0 ? &t->good : code == -EBADMSG ? &t->damaged : &t->unreadable;
    ++*count;
    if (v->found)
        v->found(v->data, kind, name, code, why);
}

static int on_image(void *data, const char *digest)
{
    const struct walk *w = data;
    struct mvm_error why = MVM_ERROR_INIT;
    char name[16];
    int r = artifact_image_read(w->h, digest, w->v->remove, &why);
    snprintf(name, sizeof(name), "%.12s", digest);
    if (r != -ENOENT) /* it went meanwhile */
        note(w->v, VERIFY_IMAGE, name, r, why.msg);
    return interrupt_pending() ? -EINTR : 0;
}

static void on_boot_snapshot(void *data, const char *name, int r, const char *why)
{
    note(data, VERIFY_BOOT_SNAPSHOT, name, r == -ESTALE ? -EBADMSG : r, why);
}

static int read_users(const struct walk *w, struct mvm_error *err)
{
    struct snapshot *list = NULL;
    size_t n = 0;
    int r = snapshot_list(w->h, NULL, &list, &n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        char name[sizeof(list->vm) + sizeof(list->tag)];
        struct mvm_error why = MVM_ERROR_INIT;
        int found = snapshot_read(w->h, &list[i], &why);
        snprintf(name, sizeof(name), "%s:%s", list[i].vm, list[i].tag);
        if (found != -ENOENT)
            note(w->v, VERIFY_SNAPSHOT, name, found == -ESTALE ? -EBADMSG : found, why.msg);
        r = interrupt_pending() ? -EINTR : 0;
    }
    free(list);
    return r;
}

int verify_all(struct verify *v, struct home *h, struct mvm_error *err)
{
    struct walk w = {.v = v, .h = h};
    int r = artifact_each(h, on_image, &w, err);
    if (r == 0 && (r = boot_snapshot_read_all(h->cache_fd, v->remove, on_boot_snapshot, v)) < 0)
        mvm_error_errno(err, r, "cannot read the snapshots");
    return r < 0 ? r : read_users(&w, err);
}
