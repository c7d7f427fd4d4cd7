#include "machine/explain.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/macros.h"
#include "host/interrupt.h"
#include "machine/machine.h"
#include "vmdir/vmdir.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define TAIL_LINES     12
#define END_TIMEOUT_MS 5000 /* for a VM that is ending */
#define POLL_MS        50

/* The last lines of a log file, into buf. */
static void read_tail(int dirfd, const char *name, unsigned lines, struct buf *out)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (size <= 0)
        return;
    char chunk[8192];
    off_t from = size > (off_t)sizeof(chunk) ? size - (off_t)sizeof(chunk) : 0;
    ssize_t n = pread(fd, chunk, sizeof(chunk), from);
    if (n <= 0)
        return;
    ssize_t at = n;
    unsigned seen = 0;
    while (at > 0) {
        if (chunk[at - 1] == '\n' && at != n && ++seen == lines)
            break;
        at--;
    }
    (void)!buf_append(out, chunk + at, (size_t)(n - at));
    if (out->len && out->data[out->len - 1] != '\n')
        (void)!buf_str(out, "\n");
}

void explain_logs(int dirfd, struct buf *text)
{
    static const struct {
        const char *file, *title;
    } logs[] = {{VMDIR_VMM, "backend log"}, {VMDIR_CONSOLE, "console"}, {VMDIR_AGENT, "agent log"}};
    for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
        size_t before = text->len;
        if (buf_printf(text, "%s, last lines:\n", logs[i].title) < 0)
            break;
        size_t head = text->len;
        read_tail(dirfd, logs[i].file, TAIL_LINES, text);
        if (text->len == head) {
            text->len = before;
            (void)!buf_printf(text, "%s: empty\n", logs[i].title);
        }
    }
}

static void explain_end(struct home *h, const struct machine_info *info, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(16384);
    CLEAN_FD int dir = vmdir_open(h, info->name, NULL);
    (void)!buf_printf(&text, "%s: %s\n", info->name, info->ended);
    if (dir >= 0)
        explain_logs(dir, &text);
    mvm_error_detail(err, buf_cstr(&text), text.len);
}

/* A VM in that state does not end: the connection did, for a reason that it has. */
static bool goes_on(enum vm_state s)
{
    return s == VM_STATE_READY || s == VM_STATE_PAUSED || s == VM_STATE_CUT_OFF || s == VM_STATE_HALTED;
}

bool explain_vanished(struct home *h, const char *name, pid_t supervisor, struct mvm_error *err)
{
    uint64_t patience = clock_deadline(END_TIMEOUT_MS);
    do {
        struct machine_info info;
        if (machine_inspect(h, name, &info, NULL) < 0)
            return false; /* whoever asked for its end removed it */
        if (!info.running && info.vanished)
            explain_end(h, &info, err);
        if (!info.running)
            return info.vanished;
        if (info.supervisor && info.supervisor != supervisor)
            return true; /* another one has its name by now */
        if (goes_on(vm_state_parse(info.state)))
            return false;
        poll(&(struct pollfd){.fd = interrupt_fd(), .events = POLLIN}, 1, POLL_MS);
    } while (clock_now() < patience && !interrupt_pending());
    return false;
}
