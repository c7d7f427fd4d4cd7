/* The part of store_disk.h that asks the builder: what is needed, what may go, and how much that is. */
#include "base/clock.h"
#include "base/fd.h"
#include "builder/store_disk.h"
#include "cache/records.h"
#include "host/interrupt.h"
#include "wire/frame.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LIVE 512 /* what fits into a message with room to spare */
#define WAIT_MS  (25 * 60 * 1000)

static uint64_t high(const struct store_disk *s)
{
    return s->cap / 4 * 3;
}

bool store_disk_is_full(const struct store_disk *s)
{
    struct stat st;
    return fstatat(s->dirfd, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (uint64_t)st.st_blocks * 512 > high(s);
}

/* One request, one answer. */
static int ask(struct client *c, const struct msg_store *m, struct msg_store_reply *ret, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    uint64_t deadline = clock_deadline(WAIT_MS);
    uint32_t stream;
    int r = msg_store_encode(&b, m);
    r = r < 0 ? mvm_error_errno(err, r, "request") : client_open(c, &b, &stream, err);
    if (r < 0)
        return r;
    client_close(c, stream);
    for (;;) {
        struct client_event e;
        r = client_poll(c, NULL, 0, deadline, err);
        if (r < 0)
            break;
        while (client_next(c, &e)) {
            if (e.stream != stream)
                continue;
            if (e.kind != CLIENT_RECORD)
                return mvm_error_set(err, -EPIPE, "the builder gave no answer");
            /* A seed of another version of mvm may not know the request. */
            bool known = e.channel == CHAN_MSG && e.len && e.data[0] == MSG_STORE_REPLY;
            r = known ? msg_store_reply_decode(ret, e.data, e.len) : -EOPNOTSUPP;
            client_event_done(c);
            return r < 0 ? mvm_error_errno(err, r, "the builder's answer") : 0;
        }
    }
    client_reset(c, stream, "the host gave up");
    return r;
}

static int tidy(struct store_disk *s, struct client *c, struct progress *p, struct mvm_error *err)
{
    struct msg_store_reply reply = {0};
    struct msg_store m = {
        .above = high(s),
        .target = s->cap / 2,
        .survey = true,
        .surveyed = s->surveyed,
    };
    int r = build_record_store_paths(s->home, MAX_LIVE, &m.live, err);
    if (r == 0)
        r = ask(c, &m, &reply, err);
    msg_store_done(&m);
    if (r < 0)
        return r;
    if (reply.problem[0])
        return mvm_error_set(err, -EIO, "%s", reply.problem);
    if (reply.freed)
        progress_verbose(p, "the builder's store: %llu MB freed, %llu of %llu MB used",
                         (unsigned long long)reply.freed / 1000000, (unsigned long long)reply.used / 1000000,
                         (unsigned long long)reply.size / 1000000);
    if (reply.surveyed) {
        s->reclaimable = reply.reclaimable;
        s->surveyed_at = clock_wall();
        s->surveyed = reply.used;
        if (s->use == STORE_DISK_LEFT)
            (void)!store_disk_save(s, NULL); /* nobody closes it later */
    }
    if (reply.used > high(s))
        progress_note(p, "the builder's store is nearly full: %llu of %llu MB are used, and nothing more can be freed",
                      (unsigned long long)reply.used / 1000000, (unsigned long long)reply.size / 1000000);
    return 0;
}

void store_disk_tidy(struct store_disk *s, struct client *c, struct progress *p)
{
    struct mvm_error err = MVM_ERROR_INIT;
    if (!c || s->dirfd < 0 || s->copy || interrupt_pending())
        return;
    int r = tidy(s, c, p, &err);
    if (r < 0 && r != -EOPNOTSUPP && r != -EPIPE && !interrupt_pending())
        progress_note(p, "the builder's store was not tidied: %s", err.msg);
}
