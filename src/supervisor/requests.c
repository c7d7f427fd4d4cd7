/* Requests that the supervisor answers itself instead of passing them on to the guest. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "supervisor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Answers ---- */

static void answer(struct conn *c, uint32_t stream, const struct buf *m)
{
    conn_send_frame(c, FRAME_DATA, stream, CHAN_MSG, m->data, m->len);
    conn_send_frame(c, FRAME_CLOSE, stream, 0, NULL, 0);
}

static void answer_exit(struct conn *c, uint32_t stream, const char *problem)
{
    CLEAN_BUF struct buf b = BUF_INIT(1024);
    struct msg_exit m = {.code = *problem != '\0'};
    snprintf(m.problem, sizeof(m.problem), "%s", problem);
    if (msg_exit_encode(&b, &m) == 0)
        answer(c, stream, &b);
}

static void answer_saved(struct conn *c, uint32_t stream, const struct msg_saved *m)
{
    CLEAN_BUF struct buf b = BUF_INIT(1024);
    if (msg_saved_encode(&b, m) == 0)
        answer(c, stream, &b);
}

static void refuse(struct conn *c, uint32_t stream, uint8_t type, const char *why, bool other_folder)
{
    struct msg_saved saved = {.other_folder = other_folder};
    snprintf(saved.problem, sizeof(saved.problem), "%s", why);
    if (type == MSG_SAVE)
        answer_saved(c, stream, &saved);
    else
        answer_exit(c, stream, why);
}

/* ---- Saving ---- */

static void on_captured(void *owner, const struct msg_saved *result)
{
    struct supervisor *s = owner;
    struct msg_saved m = *result;
    m.protocol = s->hello.protocol ? s->hello.protocol : MVM_PROTOCOL_VERSION;
    snprintf(m.kernel, sizeof(m.kernel), "%s", s->hello.kernel);
    s->serving.type = 0;
    if (m.problem[0])
        logfile_printf(&s->agent_log, "mvm: the guest is not saved: %s\n", m.problem);
    else
        logfile_printf(&s->agent_log, "mvm: the guest was saved, standing still for %.1f ms\n",
                       (double)m.stopped_ns / NSEC_PER_MSEC);
    if (s->serving.conn)
        answer_saved(s->serving.conn, s->serving.stream, &m);
}

/* The client made an empty file in a hidden folder of MVM_HOME/snapshots; the VM's folder is MVM_HOME/vms/<name>. */
static int open_target(struct supervisor *s, const char *folder)
{
    char path[128];
    if (folder[0] != '.' || !path_is_plain_name(folder + 1, 60))
        return -EINVAL;
    CLEAN_FD int home = openat(s->dirfd, "../..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0)
        return -errno;
    snprintf(path, sizeof(path), "snapshots/%s/state", folder);
    CLEAN_FD int fd = os_open_beneath(home, path, O_RDWR | O_NOFOLLOW, 0);
    struct stat st;
    if (fd < 0)
        return fd;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 ? TAKE_FD(fd) : -EINVAL;
}

/* A supervisor may write below the folder of snapshots that it saw at its start, and below no other that took its place
 * (confine.c). */
static const char *save(struct supervisor *s, const void *p, size_t n, bool *ret_other_folder)
{
    struct msg_save m = {0};
    if (!s->vm.backend->caps.snapshots)
        return "its backend cannot save a guest that goes on; one of --hypervisor " VMM_DEFAULT " can be saved";
    int fd = msg_save_decode(&m, p, n) < 0 ? -EPROTO : open_target(s, m.folder);
    *ret_other_folder = fd == -EACCES;
    if (fd == -EACCES)
        return "the folder of snapshots is another one than when the vm was started";
    if (fd < 0)
        return "the file to write to cannot be opened";
    live_save_start(&s->live_save, fd);
    return NULL;
}

/* ---- Pausing ---- */

static void end_request(struct supervisor *s, const char *problem)
{
    s->serving.type = 0;
    if (s->serving.conn)
        answer_exit(s->serving.conn, s->serving.stream, problem);
}

/* The processors stand still, or run again. */
static void on_pause_served(void *owner, int r, const char *problem)
{
    struct supervisor *s = owner;
    if (r == 0)
        (void)life_happens(&s->life, run_state_holds(&s->vm.processors, VM_HOLD_USER) ? LIFE_E_PAUSED : LIFE_E_RESUMED);
    if (s->serving.type == MSG_PAUSE || s->serving.type == MSG_RESUME)
        end_request(s, r < 0 ? problem : "");
}

/* An unused guest stands still, or is used again. */
static void on_idle_pause(void *owner, const char *words)
{
    struct supervisor *s = owner;
    logfile_printf(&s->agent_log, "mvm: %s\n", words);
    supervisor_watch_idle(s); /* clients may have come and gone meanwhile */
}

void requests_ended(struct supervisor *s)
{
    live_save_ended(&s->live_save);
    if (s->serving.type)
        end_request(s, "the vm has ended");
}

/* ---- One at a time ---- */

/* Why the request cannot be served now, NULL where it is being served. */
static const char *begin(struct supervisor *s, uint8_t type, const void *p, size_t n, bool *ret_other_folder)
{
    const bool paused = s->life.stage == LIFE_PAUSED;
    if (!life_is_up(&s->life) || !supervisor_guest(s))
        return "the vm is not ready";
    if (s->life.stage == LIFE_LOST)
        return s->status.problem;
    if (vm_role_parse(s->run.role) == VM_ROLE_BUILDER)
        return "it is a builder";
    if (s->live_save.stage != LIVE_SAVE_IDLE || s->serving.type)
        return "another request to save, pause or resume it is being served";
    if (paused && type != MSG_RESUME)
        return type == MSG_PAUSE ? "it is paused already" : "it is paused";
    if (!paused && type == MSG_RESUME)
        return "it is not paused";
    if (type == MSG_SAVE)
        return save(s, p, n, ret_other_folder);
    const struct vmm_done done = {.done = on_pause_served, .owner = s};
    s->serving.type = type;
    int r = type == MSG_PAUSE ? run_state_hold(&s->vm.processors, VM_HOLD_USER, done)
                              : run_state_unhold(&s->vm.processors, VM_HOLD_USER, done);
    s->serving.type = r < 0 ? 0 : type;
    return r < 0 ? "the backend takes no command" : NULL;
}

static void serve(struct supervisor *s, struct conn *c, uint32_t stream, uint8_t type, const void *p, size_t n)
{
    bool other_folder = false;
    const char *why = begin(s, type, p, n, &other_folder);
    if (why) {
        refuse(c, stream, type, why, other_folder);
        return;
    }
    s->serving.type = type;
    s->serving.conn = c;
    s->serving.stream = stream;
}

void requests_gone(struct supervisor *s, const struct conn *c)
{
    if (s->serving.conn == c)
        s->serving.conn = NULL;
}

/* ---- Requests ---- */

static bool on_status(struct supervisor *s, struct conn *c, uint32_t stream)
{
    CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
    publish_count(s->publish, &s->status.port_connections, &s->status.ports_connected);
    if (msg_status_encode(&m, &s->status) == 0)
        conn_send_frame(c, FRAME_DATA, stream, CHAN_MSG, m.data, m.len);
    conn_send_frame(c, FRAME_CLOSE, stream, 0, NULL, 0);
    return true;
}

static bool on_idle_time(struct supervisor *s, struct conn *c, uint32_t stream, const void *p, size_t n)
{
    struct msg_idle m = {0};
    if (msg_idle_decode(&m, p, n) < 0)
        return false;
    if (s->run.idle_ms != IDLE_AT_ONCE)
        s->run.idle_ms = m.idle_ms;
    c->used = true;
    answer_exit(c, stream, "");
    return true;
}

static bool on_stop(struct supervisor *s, struct msg_reader *r)
{
    uint64_t grace = DEFAULT_GRACE_MS;
    while (msg_next(r))
        if (r->field == 1)
            grace = msg_u64(r);
    supervisor_stop(s, grace, true);
    return true; /* the stream ends with the connection, when the VM is gone */
}

static void on_ports_changed(void *owner)
{
    struct supervisor *s = owner;
    publish_format(s->publish, s->status.ports, sizeof(s->status.ports));
}

static void on_ports_remove(void *owner, const char *path)
{
    struct supervisor *s = owner;
    launcher_remove_socket(&s->launcher, path);
}

static const struct publish_ops publish_ops = {.changed = on_ports_changed, .remove = on_ports_remove};

static const char *serve_ports(struct supervisor *s, struct conn *c, const struct msg_ports *m)
{
    const char *why = !life_is_up(&s->life)          ? "the vm is not ready"
                      : m->publish.n && !s->connects ? "the agent in its image is older than published ports"
                                                     : NULL;
    if (!why)
        return publish_serve(s->publish, m, &c->stream, c);
    publish_refuse(s->publish, &c->stream);
    return why;
}

static void on_ports(struct supervisor *s, struct conn *c, uint32_t stream, const void *p, size_t n)
{
    struct msg_ports m = {0};
    const char *why = msg_ports_decode(&m, p, n) < 0 ? "the request cannot be understood" : serve_ports(s, c, &m);
    answer_exit(c, stream, why ? why : "");
    msg_ports_done(&m);
}

/* Why nothing can be asked of the guest now; "" where it can. */
static void refusal(const struct supervisor *s, const struct conn *c, char *out, size_t size)
{
    *out = '\0';
    if (s->life.stage == LIFE_PAUSED)
        snprintf(out, size, "the vm is paused");
    else if (s->cut_off)
        snprintf(out, size, "%s", s->status.problem);
    else if (!c->used && clients_using(&s->clients) >= s->max_clients - RESERVED_CLIENTS)
        snprintf(out, size, "%u clients use the vm, which is the limit", s->max_clients - RESERVED_CLIENTS);
}

/* A request for the guest: true where it is refused. */
static bool refuse_guest(struct supervisor *s, struct conn *c, uint32_t stream)
{
    char why[1024];
    refusal(s, c, why, sizeof(why));
    if (!*why) {
        c->used = true;
        idle_pause_wake(&s->idle_pause);
        return false;
    }
    conn_send_frame(c, FRAME_RESET, stream, 0, why, strlen(why));
    return true;
}

bool requests_request(void *data, void *handle, uint32_t stream, const void *p, size_t n)
{
    struct supervisor *s = data;
    struct conn *c = handle;
    struct msg_reader r;
    if (msg_open(&r, p, n) < 0)
        return false;
    switch (r.type) {
    case MSG_STATUS:
        return on_status(s, c, stream);
    case MSG_IDLE:
        return on_idle_time(s, c, stream, p, n);
    case MSG_STOP:
        return on_stop(s, &r);
    case MSG_PORTS:
        on_ports(s, c, stream, p, n);
        return true;
    case MSG_SAVE:
    case MSG_PAUSE:
    case MSG_RESUME:
        serve(s, c, stream, r.type, p, n);
        return true;
    default:
        return refuse_guest(s, c, stream);
    }
}

int requests_init(struct supervisor *s)
{
    s->publish = publish_new(&s->loop, s->router, &publish_ops, s);
    if (!s->publish)
        return -ENOMEM;
    idle_pause_init(&s->idle_pause, &s->loop);
    s->idle_pause.vm = &s->vm;
    live_save_init(&s->live_save, &s->loop);
    s->idle_pause.changed = on_idle_pause;
    s->idle_pause.owner = s;
    s->live_save.vm = &s->vm;
    s->live_save.done = on_captured;
    s->live_save.owner = s;
    return 0;
}
