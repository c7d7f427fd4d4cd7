#include "guest/build_job.h"
#include "base/buf.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg_build.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void build_job_phase(struct build_job *j, const char *name)
{
    struct msg_phase m;
    CLEAN_BUF struct buf b = BUF_INIT(256);
    snprintf(m.name, sizeof(m.name), "%s", name);
    if (msg_phase_encode(&b, &m) == 0)
        (void)!worker_send(j->sock, CHAN_MSG, b.data, b.len);
}

void build_job_finish(struct build_job *j)
{
    struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = msg_result_encode(&b, &j->result);
    if (r == -EMSGSIZE) { /* the names that there are are too many for a message */
        j->result.available = NULL;
        r = msg_result_encode(&b, &j->result);
    }
    worker_last(j->sock, &b, r);
}

void build_job_fail(struct build_job *j, enum mvm_phase phase, uint64_t code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->result.problem, sizeof(j->result.problem), fmt, ap);
    va_end(ap);
    snprintf(j->result.phase, sizeof(j->result.phase), "%s", mvm_phase_name(phase));
    j->result.exit_code = code;
    build_job_finish(j);
}

void build_job_check_disk(struct build_job *j, int e)
{
    if (e == ENOSPC || e == EDQUOT)
        FAIL_KIND(j, "disk-full", MVM_PHASE_NIX_BUILD, 1, "the builder's disk is full");
    if (e == EIO || e == EROFS || e == EUCLEAN || e == EBADMSG)
        FAIL_KIND(j, "disk-error", MVM_PHASE_NIX_BUILD, 1, "the builder's disk cannot be written: %s", strerror(e));
}

void build_job_keep(struct build_job *j, const char *p, size_t n)
{
    size_t max = j->tail.max;
    if (n > max) {
        p += n - max;
        n = max;
    }
    if (j->tail.len + n > max) {
        /* whole lines go */
        size_t drop = j->tail.len + n - max;
        const uint8_t *nl = memchr(j->tail.data + drop - 1, '\n', j->tail.len - drop + 1);
        buf_drop(&j->tail, nl ? (size_t)(nl + 1 - j->tail.data) : j->tail.len);
    }
    (void)!buf_append(&j->tail, p, n);
}
