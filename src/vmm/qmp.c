#include "vmm/qmp.h"
#include "host/json.h"
#include "vmm/registers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/*
 * x-ignore-shared: memory that is a shared file stays in the file, the state holds the devices alone. It also lets a
 * private mapping of that file be what the guest continues with. Without it the state holds the memory too.
 * The descriptor travels with the first byte and is kept for getfd: the sandbox lets QEMU neither spawn what an exec:
 * address needs nor is there a file: address in QEMU 7.
 */
#define TASK_ID                    "task"
#define GO_ON_ID                   "cont"
#define STOP_ID                    "stop"
#define REGISTERS_ID               "registers"
#define TASK(command)              "{\"execute\":\"" command "\",\"id\":\"" TASK_ID "\"}"
#define TASK_WITH(command, values) "{\"execute\":\"" command "\",\"arguments\":{" values "},\"id\":\"" TASK_ID "\"}"
#define NEGOTIATE(ignore_shared)                                                                                       \
    "{\"execute\":\"qmp_capabilities\"}" TASK_WITH(                                                                    \
        "migrate-set-capabilities", "\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":" ignore_shared   \
                                    "},{\"capability\":\"events\",\"state\":true}]")                                   \
        TASK_WITH("getfd", "\"fdname\":\"state\"")
/* The guest runs while its memory is written, until what is left takes downtime-limit (ms). The file takes what it can:
 * max-bandwidth (bytes a second) is no bound. */
#define WHILE_IT_RUNS TASK_WITH("migrate-set-parameters", "\"max-bandwidth\":1099511627776,\"downtime-limit\":20")
/* QEMU itself then stops the processors, before it writes the rest. With `stop`, which would do as well, QEMU 7.2 waits
 * for them without its lock, and the thread that writes takes the guest for stopped meanwhile: a state that is torn
 * (migration_completion and vm_stop_force_state in migration/migration.c and softmmu/cpus.c). */
#define WITHOUT_IT TASK_WITH("migrate-set-parameters", "\"downtime-limit\":2000000")
#define MIGRATE    TASK_WITH("migrate", "\"uri\":\"fd:state\"")
#define INCOMING   TASK_WITH("migrate-incoming", "\"uri\":\"fd:state\"")

static int send_with_fd(int control_fd, const char *text, int fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    ssize_t n = sendmsg(control_fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    return (size_t)n == iov.iov_len ? 0 : -EIO; /* a fresh socket takes so little whole */
}

int qmp_save(int control_fd, int state_fd, bool whole)
{
    return send_with_fd(control_fd, whole ? NEGOTIATE("false") WHILE_IT_RUNS MIGRATE : NEGOTIATE("true") MIGRATE,
                        state_fd);
}

int qmp_restore(int control_fd, int state_fd, bool whole)
{
    return send_with_fd(control_fd, whole ? NEGOTIATE("false") INCOMING : NEGOTIATE("true") INCOMING, state_fd);
}

static int send_text(int control_fd, const char *text)
{
    ssize_t n = send(control_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? -errno : 0;
}

int qmp_quit(int control_fd)
{
    return send_text(control_fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}");
}

int qmp_pause(int control_fd)
{
    return send_text(control_fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"stop\",\"id\":\"" STOP_ID "\"}");
}

int qmp_resume(int control_fd)
{
    return send_text(control_fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"cont\",\"id\":\"" GO_ON_ID "\"}");
}

/* query-cpus-fast does not say what halted: the monitor for people does. */
int qmp_ask_halted(int control_fd)
{
    return send_text(control_fd,
                     "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"human-monitor-command\",\"arguments\":"
                     "{\"command-line\":\"info registers -a\"},\"id\":\"" REGISTERS_ID "\"}");
}

int qmp_cancel(int control_fd)
{
    return send_text(control_fd, TASK("migrate_cancel"));
}

int qmp_hurry(int control_fd)
{
    return send_text(control_fd, WITHOUT_IT);
}

/* An error that answers a command of ours; others (quit's capabilities, twice negotiated) mean nothing. */
static enum vmm_event judge_error(json_object *o, json_object *error, char *problem, size_t size)
{
    const char *id, *text = "no reason given";
    if (json_get_string(o, "id", &id, NULL) < 0)
        return VMM_NOTHING;
    if (strcmp(id, GO_ON_ID) == 0)
        return VMM_NOT_YET; /* a saved guest goes on when QEMU has tidied up, which is after it says that it is saved */
    if (strcmp(id, TASK_ID) != 0 && strcmp(id, STOP_ID) != 0)
        return VMM_NOTHING;
    (void)!json_get_string(error, "desc", &text, NULL);
    snprintf(problem, size, "%s", text);
    return VMM_FAILED;
}

static enum vmm_event judge_event(struct vmm_control *c, json_object *o, const char *name, char *problem, size_t size)
{
    json_object *data, *guest;
    const char *status;
    if (strcmp(name, "STOP") == 0)
        return VMM_STOPPED;
    if (strcmp(name, "SHUTDOWN") == 0 && json_get_object(o, "data", &data, NULL) == 0 &&
        json_object_object_get_ex(data, "guest", &guest))
        c->ended_by_host = !json_object_get_boolean(guest);
    if (strcmp(name, "MIGRATION") != 0 || json_get_object(o, "data", &data, NULL) < 0 ||
        json_get_string(data, "status", &status, NULL) < 0)
        return VMM_NOTHING;
    if (strcmp(status, "completed") == 0)
        return VMM_COMPLETED;
    if (strcmp(status, "failed") != 0 && strcmp(status, "cancelled") != 0)
        return VMM_NOTHING;
    snprintf(problem, size, "the state could not be written or read");
    return VMM_FAILED;
}

/* The answers tell when it is done: of a command that changes nothing there is no event. */
static enum vmm_event judge_return(json_object *o)
{
    const char *id, *text;
    if (json_get_string(o, "id", &id, NULL) < 0)
        return VMM_NOTHING;
    if (strcmp(id, REGISTERS_ID) == 0)
        return json_get_string(o, "return", &text, NULL) == 0 && registers_all_halted(text) ? VMM_HALTED : VMM_NOTHING;
    return strcmp(id, GO_ON_ID) == 0 ? VMM_RUNNING : strcmp(id, STOP_ID) == 0 ? VMM_STOPPED : VMM_NOTHING;
}

static enum vmm_event judge(struct vmm_control *c, const uint8_t *line, size_t n, char *problem, size_t size)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *error;
    const char *name;
    if (json_parse(line, n, &o, NULL) < 0)
        return VMM_NOTHING;
    if (json_get_object(o, "error", &error, NULL) == 0)
        return judge_error(o, error, problem, size);
    if (json_get_string(o, "event", &name, NULL) == 0)
        return judge_event(c, o, name, problem, size);
    return judge_return(o);
}

enum vmm_event qmp_read(struct vmm_control *c, char *problem, size_t size)
{
    for (;;) {
        uint8_t *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
        if (!end)
            return VMM_NOTHING;
        size_t n = (size_t)(end - c->in.data);
        enum vmm_event e = judge(c, c->in.data, n, problem, size);
        buf_drop(&c->in, n + 1);
        if (e != VMM_NOTHING)
            return e;
    }
}
