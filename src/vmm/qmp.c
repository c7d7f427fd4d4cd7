#include "vmm/qmp.h"
#include "base/clock.h"
#include "host/json.h"
#include "vmm/registers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define INPUT_MAX (256u * 1024) /* bytes of one line */
#define RESUME_MS 10000         /* a saved guest may not be resumed yet for milliseconds */

enum command { PAUSE, RESUME, SAVE, RESTORE, ASK_HALTED, COMMANDS };

static const char *const ids[] = {"pause", "resume", "save", "restore", "ask-halted"};
_Static_assert(ARRAY_SIZE(ids) == COMMANDS, "an id for each command");

struct vmm {
    int control_fd;
    bool stops_to_save, unlinked;
    struct vmm_facts facts;
    struct buf in;
    struct {
        bool waits;
        unsigned number; /* an answer to one before is none to this */
        struct vmm_done done;
    } commands[COMMANDS];
    uint64_t resume_until;
    bool muted;
};

/* ---- Sending ---- */

static int send_with_fd(int control_fd, const char *text, int fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t n = sendmsg(control_fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    return (size_t)n == iov.iov_len ? 0 : -EIO; /* a socket that is read takes so little whole */
}

/* One QMP command. Capabilities are negotiated first, each time: a second time it is an error that answers to no id. */
static void put(struct buf *b, const struct vmm *v, enum command c, const char *execute, const char *arguments)
{
    if (b->len == 0)
        (void)!buf_str(b, "{\"execute\":\"qmp_capabilities\"}");
    (void)!buf_printf(b, "{\"execute\":\"%s\",%s%s%s\"id\":\"%s-%u\"}", execute, arguments ? "\"arguments\":{" : "",
                      arguments ? arguments : "", arguments ? "}," : "", ids[c], v->commands[c].number);
}

static int begin(struct vmm *v, enum command c, struct vmm_done d)
{
    if (v->commands[c].waits)
        return -EBUSY;
    v->commands[c].number++;
    v->commands[c].done = d;
    return 0;
}

static int finish_begin(struct vmm *v, enum command c, struct buf *b, int fd)
{
    int r = send_with_fd(v->control_fd, buf_cstr(b), fd);
    v->commands[c].waits = r == 0;
    return r;
}

static int simple(struct vmm *v, enum command c, const char *execute, const char *arguments, struct vmm_done d)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = begin(v, c, d);
    if (r < 0)
        return r;
    put(&b, v, c, execute, arguments);
    return finish_begin(v, c, &b, -1);
}

int qmp_pause(struct vmm *v, struct vmm_done d)
{
    return simple(v, PAUSE, "stop", NULL, d);
}

/* A guest that was restored has the link of its snapshot. */
static int set_link(const struct vmm *v)
{
    return send_with_fd(v->control_fd,
                        v->unlinked ? "{\"execute\":\"qmp_capabilities\"}"
                                      "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"net0\",\"up\":false}}"
                                    : "{\"execute\":\"qmp_capabilities\"}"
                                      "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"net0\",\"up\":true}}",
                        -1);
}

int qmp_resume(struct vmm *v, struct vmm_done d)
{
    int r = set_link(v);
    v->resume_until = clock_deadline(RESUME_MS);
    return r < 0 ? r : simple(v, RESUME, "cont", NULL, d);
}

/* query-cpus-fast does not say what halted: the monitor for people does. */
int qmp_ask_halted(struct vmm *v, struct vmm_done d)
{
    return simple(v, ASK_HALTED, "human-monitor-command", "\"command-line\":\"info registers -a\"", d);
}

/*
 * x-ignore-shared: memory that is a shared file stays in the file, the state holds the devices alone. It also lets a
 * private mapping of that file be what the guest continues with. Without it the state holds the memory too.
 * The descriptor travels with the first byte and is kept for getfd: the sandbox lets QEMU neither spawn what an exec:
 * address needs nor is there a file: address in QEMU 7.
 */
static void put_migration(struct buf *b, const struct vmm *v, enum command c, bool whole)
{
    put(b, v, c, "migrate-set-capabilities",
        whole ? "\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":false},"
                "{\"capability\":\"events\",\"state\":true}]"
              : "\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true},"
                "{\"capability\":\"events\",\"state\":true}]");
    put(b, v, c, "getfd", "\"fdname\":\"state\"");
}

/*
 * The guest runs while its memory is written, until what is left takes downtime-limit (ms). The file takes what it can:
 * max-bandwidth (bytes a second) is no bound.
 * In software emulation the guest stands still for all of it. QEMU 7.2 notes what a guest writes by a mark in each
 * processor's TLB; where the saving thread takes a page's mark back just as the processor removes it for good
 * (notdirty_write in accel/tcg/cputlb.c), later writes to the page are in no state. A copy then finds a lock taken
 * that nobody holds.
 */
int qmp_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = begin(v, SAVE, d);
    if (r < 0)
        return r;
    if (whole && v->stops_to_save)
        put(&b, v, SAVE, "stop", NULL);
    put_migration(&b, v, SAVE, whole);
    if (whole)
        put(&b, v, SAVE, "migrate-set-parameters", "\"max-bandwidth\":1099511627776,\"downtime-limit\":20");
    put(&b, v, SAVE, "migrate", "\"uri\":\"fd:state\"");
    return finish_begin(v, SAVE, &b, state_fd);
}

int qmp_restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = begin(v, RESTORE, d);
    if (r < 0)
        return r;
    put_migration(&b, v, RESTORE, whole);
    put(&b, v, RESTORE, "migrate-incoming", "\"uri\":\"fd:state\"");
    v->facts.stopped_at = clock_now();
    return finish_begin(v, RESTORE, &b, state_fd);
}

int qmp_cancel(struct vmm *v)
{
    return send_with_fd(v->control_fd, "{\"execute\":\"migrate_cancel\"}", -1);
}

/* QEMU itself then stops the processors, before it writes the rest. With `stop`, which would do as well, QEMU 7.2 waits
 * for them without its lock, and the thread that writes takes the guest for stopped meanwhile: a state that is torn
 * (migration_completion and vm_stop_force_state in migration/migration.c and softmmu/cpus.c). */
int qmp_hurry(struct vmm *v)
{
    return send_with_fd(v->control_fd,
                        "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"downtime-limit\":2000000}}", -1);
}

int qmp_quit(struct vmm *v)
{
    return send_with_fd(v->control_fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}", -1);
}

/* ---- The ends of commands ---- */

static void end(struct vmm *v, enum command c, int r, const char *problem)
{
    if (!v->commands[c].waits || v->muted)
        return;
    const struct vmm_done d = v->commands[c].done;
    v->commands[c].waits = false;
    if (d.done)
        d.done(d.owner, r, problem);
}

/* The command that an answer belongs to and that still waits for its end; COMMANDS for all others. */
static enum command command_of(const struct vmm *v, json_object *o)
{
    const char *id;
    char expected[32];
    if (json_get_string(o, "id", &id, NULL) < 0)
        return COMMANDS;
    for (enum command c = 0; c < COMMANDS; c++) {
        snprintf(expected, sizeof(expected), "%s-%u", ids[c], v->commands[c].number);
        if (v->commands[c].waits && strcmp(id, expected) == 0)
            return c;
    }
    return COMMANDS;
}

/* A saved guest can be resumed when QEMU has tidied up, which is after it says that it is saved: again. */
static void resume_again(struct vmm *v, const char *problem)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    put(&b, v, RESUME, "cont", NULL);
    if (clock_now() > v->resume_until || send_with_fd(v->control_fd, buf_cstr(&b), -1) < 0)
        end(v, RESUME, -EIO, problem);
}

static void judge_error(struct vmm *v, json_object *o, json_object *error)
{
    const char *text = "no reason given";
    enum command c = command_of(v, o);
    (void)!json_get_string(error, "desc", &text, NULL);
    if (c == RESUME)
        resume_again(v, text);
    else if (c < COMMANDS)
        end(v, c, -EIO, text);
}

/* Saving and restoring end with an event, the others with their answer. */
static void judge_return(struct vmm *v, json_object *o)
{
    const char *text;
    enum command c = command_of(v, o);
    if (c == PAUSE || c == RESUME) {
        if (c == RESUME)
            v->facts.stopped_at = 0;
        end(v, c, 0, "");
    } else if (c == ASK_HALTED) {
        end(v, c, json_get_string(o, "return", &text, NULL) == 0 && registers_all_halted(text), "");
    }
}

static void judge_migration(struct vmm *v, const char *status)
{
    enum command c = v->commands[SAVE].waits ? SAVE : RESTORE;
    if (strcmp(status, "completed") == 0)
        end(v, c, 0, "");
    else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
        end(v, c, -EIO, "the state could not be written or read");
}

static void judge_event(struct vmm *v, json_object *o, const char *name)
{
    json_object *data, *guest;
    const char *status;
    if (strcmp(name, "STOP") == 0 && !v->facts.stopped_at)
        v->facts.stopped_at = clock_now();
    if (strcmp(name, "RESUME") == 0)
        v->facts.stopped_at = 0;
    if (json_get_object(o, "data", &data, NULL) < 0)
        return;
    if (strcmp(name, "SHUTDOWN") == 0 && json_object_object_get_ex(data, "guest", &guest))
        v->facts.ended_by_host = !json_object_get_boolean(guest);
    if (strcmp(name, "MIGRATION") == 0 && json_get_string(data, "status", &status, NULL) == 0)
        judge_migration(v, status);
}

static void judge(struct vmm *v, const uint8_t *line, size_t n)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *error;
    const char *name;
    if (json_parse(line, n, &o, NULL) < 0)
        return;
    if (json_get_object(o, "error", &error, NULL) == 0)
        judge_error(v, o, error);
    else if (json_get_string(o, "event", &name, NULL) == 0)
        judge_event(v, o, name);
    else
        judge_return(v, o);
}

bool qmp_input(struct vmm *v, const void *p, size_t n)
{
    if (buf_append(&v->in, p, n) < 0)
        return false;
    for (uint8_t *nl; !v->muted && v->in.len && (nl = memchr(v->in.data, '\n', v->in.len));) {
        size_t line = (size_t)(nl - v->in.data);
        judge(v, v->in.data, line);
        buf_drop(&v->in, line + 1);
    }
    return true;
}

/* ---- Begin and end ---- */

int qmp_open(int control_fd, const struct vmm_config *c, struct vmm **ret)
{
    struct vmm *v = calloc(1, sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->control_fd = control_fd;
    v->stops_to_save = vmm_accel_emulates(&c->accel);
    v->unlinked = c->unlinked;
    v->in = (struct buf)BUF_INIT(INPUT_MAX);
    *ret = v;
    if (c->unlinked && !c->incoming)
        (void)!set_link(v); /* the agent is told as well */
    return 0;
}

const struct vmm_facts *qmp_facts(const struct vmm *v)
{
    return &v->facts;
}

void qmp_ended(struct vmm *v)
{
    for (enum command c = 0; c < COMMANDS; c++)
        end(v, c, -EPIPE, "the vm has ended");
}

void qmp_mute(struct vmm *v)
{
    v->muted = true;
}

void qmp_free(struct vmm *v)
{
    if (!v)
        return;
    buf_done(&v->in);
    free(v);
}
