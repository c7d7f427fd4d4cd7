/* Any bytes as each message: what is understood is said again, and understood as the same. */
#include "fuzz.h"

#include "wire/frame.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <string.h>

/* Decodes and encodes: 0, or the decoder's error. */
typedef int (*again_fn)(const void *p, size_t n, struct buf *out);

#define CHECK(r) MUST((r) == 0 || (r) == -EPROTO || (r) == -ENOMEM)

#define AGAIN(name, done)                                                                                              \
    static int again_##name(const void *p, size_t n, struct buf *out)                                                  \
    {                                                                                                                  \
        struct msg_##name m;                                                                                           \
        memset(&m, 0, sizeof(m));                                                                                      \
        int r = msg_##name##_decode(&m, p, n);                                                                         \
        CHECK(r);                                                                                                      \
        if (r == 0)                                                                                                    \
            MUST(msg_##name##_encode(out, &m) == 0);                                                                   \
        done;                                                                                                          \
        return r;                                                                                                      \
    }

AGAIN(hello, )
AGAIN(log, )
AGAIN(configured, )
AGAIN(service, )
AGAIN(configure, )
AGAIN(ending, )
AGAIN(clock, )
AGAIN(seed, )
AGAIN(offer, )
AGAIN(want, )
AGAIN(idle, )
AGAIN(save, )
AGAIN(saved, )
AGAIN(exec, msg_exec_done(&m))
AGAIN(build, msg_build_done(&m))
AGAIN(flood, )
AGAIN(long, )
AGAIN(part, )
AGAIN(signal, )
AGAIN(winsize, )
AGAIN(exit, )
AGAIN(entry, )
AGAIN(phase, )
AGAIN(result, msg_result_done(&m))
AGAIN(status, )
AGAIN(store, msg_store_done(&m))
AGAIN(store_reply, )

static int again_transfer(const void *p, size_t n, struct buf *out)
{
    struct msg_transfer m = {0};
    int r = msg_transfer_decode(&m, *(const uint8_t *)p, p, n);
    CHECK(r);
    if (r == 0)
        MUST(msg_transfer_encode(out, *(const uint8_t *)p, &m) == 0);
    msg_transfer_done(&m);
    return r;
}

static const again_fn again[256] = {
    [MSG_HELLO] = again_hello,
    [MSG_LOG] = again_log,
    [MSG_CONFIGURED] = again_configured,
    [MSG_SERVICE] = again_service,
    [MSG_CONFIGURE] = again_configure,
    [MSG_ENDING] = again_ending,
    [MSG_CLOCK] = again_clock,
    [MSG_SEED] = again_seed,
    [MSG_EXEC] = again_exec,
    [MSG_PUSH] = again_transfer,
    [MSG_PULL] = again_transfer,
    [MSG_BUILD] = again_build,
    [MSG_FLOOD] = again_flood,
    [MSG_LONG] = again_long,
    [MSG_PART] = again_part,
    [MSG_SIGNAL] = again_signal,
    [MSG_WINSIZE] = again_winsize,
    [MSG_EXIT] = again_exit,
    [MSG_ENTRY] = again_entry,
    [MSG_PHASE] = again_phase,
    [MSG_RESULT] = again_result,
    [MSG_STATUS_REPLY] = again_status,
    [MSG_OFFER] = again_offer,
    [MSG_WANT] = again_want,
    [MSG_IDLE] = again_idle,
    [MSG_SAVE] = again_save,
    [MSG_SAVED] = again_saved,
    [MSG_STORE] = again_store,
    [MSG_STORE_REPLY] = again_store_reply,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct msg_reader r;
    if (size > FRAME_MAX_PAYLOAD || msg_open(&r, data, size) < 0)
        return 0;
    size_t total = 2;
    while (msg_next(&r))
        total += 5 + r.len;
    MUST(r.error || total == size);
    if (!again[data[0]])
        return 0;
    CLEAN_BUF struct buf once = BUF_INIT(FRAME_MAX_PAYLOAD);
    CLEAN_BUF struct buf twice = BUF_INIT(FRAME_MAX_PAYLOAD);
    if (again[data[0]](data, size, &once) < 0)
        return 0;
    MUST(once.len <= size);
    MUST(again[data[0]](once.data, once.len, &twice) == 0);
    MUST(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    return 0;
}
