#include "vmm/qmp.h"
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/*
 * x-ignore-shared: memory that is a shared file stays in the file, the state holds the devices alone. It also lets a
 * private mapping of that file be what the guest continues with.
 * The descriptor travels with the first byte and is kept for getfd: the sandbox lets QEMU neither spawn what an exec:
 * address needs nor is there a file: address in QEMU 7.
 */
#define NEGOTIATE                                                                                                      \
    "{\"execute\":\"qmp_capabilities\"}"                                                                               \
    "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["                                      \
    "{\"capability\":\"x-ignore-shared\",\"state\":true},{\"capability\":\"events\",\"state\":true}]},"                \
    "\"id\":\"task\"}"                                                                                                 \
    "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"},\"id\":\"task\"}"
#define TASK_ID "task"

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

int qmp_save(int control_fd, int state_fd)
{
    return send_with_fd(control_fd,
                        NEGOTIATE "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"},\"id\":\"task\"}",
                        state_fd);
}

int qmp_restore(int control_fd, int state_fd)
{
    return send_with_fd(
        control_fd, NEGOTIATE "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:state\"},\"id\":\"task\"}",
        state_fd);
}

int qmp_quit(int control_fd)
{
    static const char text[] = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
    ssize_t n = send(control_fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? -errno : 0;
}

/* An error that answers a command of save or restore; others (quit's capabilities, twice negotiated) mean nothing. */
static enum vmm_event judge_error(json_object *o, json_object *error, char *problem, size_t size)
{
    const char *id, *text = "no reason given";
    if (json_get_string(o, "id", &id, NULL) < 0 || strcmp(id, TASK_ID) != 0)
        return VMM_NOTHING;
    (void)!json_get_string(error, "desc", &text, NULL);
    snprintf(problem, size, "%s", text);
    return VMM_FAILED;
}

static enum vmm_event judge_event(json_object *o, const char *name, char *problem, size_t size)
{
    json_object *data;
    const char *status;
    if (strcmp(name, "MIGRATION") != 0 || json_get_object(o, "data", &data, NULL) < 0 ||
        json_get_string(data, "status", &status, NULL) < 0)
        return VMM_NOTHING;
    if (strcmp(status, "completed") == 0)
        return VMM_COMPLETED;
    if (strcmp(status, "failed") != 0)
        return VMM_NOTHING;
    snprintf(problem, size, "the state could not be written or read");
    return VMM_FAILED;
}

static enum vmm_event judge(const uint8_t *line, size_t n, char *problem, size_t size)
{
    CLEAN_JSON json_object *o = NULL;
    json_object *error;
    const char *name;
    if (json_parse(line, n, &o, NULL) < 0)
        return VMM_NOTHING;
    if (json_get_object(o, "error", &error, NULL) == 0)
        return judge_error(o, error, problem, size);
    if (json_get_string(o, "event", &name, NULL) == 0)
        return judge_event(o, name, problem, size);
    return VMM_NOTHING;
}

enum vmm_event qmp_read(struct vmm_control *c, char *problem, size_t size)
{
    for (;;) {
        uint8_t *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
        if (!end)
            return VMM_NOTHING;
        size_t n = (size_t)(end - c->in.data);
        enum vmm_event e = judge(c->in.data, n, problem, size);
        buf_drop(&c->in, n + 1);
        if (e != VMM_NOTHING)
            return e;
    }
}
