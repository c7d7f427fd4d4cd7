#include "base/clock.h"
#include "base/fd.h"
#include "vmm/api.h"
#include "vmm/firecracker.h"
#include "vmm/socket_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAX (16u << 20) /* bytes of the devices' state: some 100 KB */

enum command { PAUSE, RESUME, SAVE, RESTORE, COMMANDS };

struct vmm {
    struct api api;
    int folder_fd;
    int state_fd; /* of a save that is under way; -1: none */
    struct vmm_facts facts;
    struct {
        bool waits;
        struct vmm_done done;
    } commands[COMMANDS];
    bool muted;
};

/* ---- The ends of commands ---- */

static void end(struct vmm *v, enum command c, int r, const char *problem)
{
    if (!v->commands[c].waits || v->muted)
        return;
    const struct vmm_done done = v->commands[c].done;
    v->commands[c].waits = false;
    if (done.done)
        done.done(done.owner, r, problem);
}

static int begin(struct vmm *v, enum command c, struct vmm_done d)
{
    if (v->commands[c].waits)
        return -EBUSY;
    v->commands[c].done = d;
    return 0;
}

/* A command that is one request. */
static int ask(struct vmm *v, enum command c, const char *method, const char *path, json_object *body,
               api_answered *answered)
{
    int r = api_call(&v->api, method, path, body, answered);
    v->commands[c].waits = r == 0;
    return r;
}

static json_object *object(const char *key, const char *value)
{
    json_object *o = json_object_new_object();
    json_add_string(o, key, value);
    return o;
}

/* ---- What it is to run ---- */

static void refuse(struct vmm *v, const char *path, const char *problem)
{
    snprintf(v->facts.problem, sizeof(v->facts.problem), "%.24s: %.130s", path, problem);
    api_forget(&v->api);
}

static void on_told(void *owner, const char *path, const char *problem)
{
    if (*problem)
        refuse(owner, path, problem);
}

static int tell_machine(struct vmm *v, const struct vmm_config *c)
{
    char path[FIRECRACKER_PATH_MAX];
    json_object *part;
    int r = 0;
    for (unsigned i = 0; r == 0 && (part = firecracker_part(c, i, false, path)); i++)
        r = api_call(&v->api, "PUT", path, part, on_told);
    if (r == 0)
        r = api_call(&v->api, "PUT", "/actions", object("action_type", "InstanceStart"), on_told);
    return r == -EPIPE ? 0 : r; /* it has ended, which is heard of next */
}

/* ---- Pausing ---- */

static void on_paused(void *owner, const char *path, const char *problem)
{
    struct vmm *v = owner;
    if (!*problem)
        v->facts.stopped_at = clock_now();
    end(v, PAUSE, *problem ? -EIO : 0, problem);
}

static void on_resumed(void *owner, const char *path, const char *problem)
{
    struct vmm *v = owner;
    if (!*problem)
        v->facts.stopped_at = 0;
    end(v, RESUME, *problem ? -EIO : 0, problem);
}

int firecracker_pause(struct vmm *v, struct vmm_done d)
{
    int r = begin(v, PAUSE, d);
    return r < 0 ? r : ask(v, PAUSE, "PATCH", "/vm", object("state", "Paused"), on_paused);
}

int firecracker_resume(struct vmm *v, struct vmm_done d)
{
    int r = begin(v, RESUME, d);
    return r < 0 ? r : ask(v, RESUME, "PATCH", "/vm", object("state", "Resumed"), on_resumed);
}

/* ---- Saving ---- */

/* Out of the VMM's folder, which is its own to fill: a plain file of a size that can be. */
static int take_state(const struct vmm *v)
{
    struct stat st;
    CLEAN_FD int in = openat(v->folder_fd, SOCKET_VMM_STATE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (in < 0 || fstat(in, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > STATE_MAX)
        return -EPROTO;
    int r = fd_copy_file(in, v->state_fd);
    unlinkat(v->folder_fd, SOCKET_VMM_STATE, 0);
    return r;
}

static void end_save(struct vmm *v, int r, const char *problem)
{
    fd_closep(&v->state_fd);
    end(v, SAVE, r, problem);
}

static void on_saved(void *owner, const char *path, const char *problem)
{
    struct vmm *v = owner;
    if (!*problem && take_state(v) < 0)
        problem = "the state that it wrote cannot be read";
    end_save(v, *problem ? -EIO : 0, problem);
}

static void on_paused_to_save(void *owner, const char *path, const char *problem)
{
    struct vmm *v = owner;
    json_object *o = object("snapshot_type", "Full");
    json_add_string(o, "snapshot_path", SOCKET_VMM_FOLDER SOCKET_VMM_STATE);
    json_add_string(o, "mem_file_path", SOCKET_VMM_MEMORY);
    if (!*problem)
        v->facts.stopped_at = clock_now();
    if (*problem || api_call(&v->api, "PUT", "/snapshot/create", json_object_get(o), on_saved) < 0)
        end_save(v, -EIO, *problem ? problem : "it takes no request");
    json_object_put(o);
}

/* Its memory goes into the file that it was started with. Connections do not outlive being saved, so a guest that is to
 * go on is not (vmm_caps.snapshots). */
int firecracker_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    int r = whole ? -ENOTSUP : begin(v, SAVE, d);
    if (r < 0)
        return r;
    v->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
    r = v->state_fd < 0 ? -errno : ask(v, SAVE, "PATCH", "/vm", object("state", "Paused"), on_paused_to_save);
    if (r < 0)
        fd_closep(&v->state_fd);
    return r;
}

/* ---- Restoring ---- */

static void on_restored(void *owner, const char *path, const char *problem)
{
    struct vmm *v = owner;
    unlinkat(v->folder_fd, SOCKET_VMM_STATE, 0);
    end(v, RESTORE, *problem ? -EIO : 0, problem);
}

static int give_state(const struct vmm *v, int state_fd)
{
    CLEAN_FD int out =
        openat(v->folder_fd, SOCKET_VMM_STATE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return out < 0 ? -errno : fd_copy_file(state_fd, out);
}

int firecracker_restore(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    int r = whole ? -ENOTSUP : begin(v, RESTORE, d);
    if (r == 0)
        r = give_state(v, state_fd);
    if (r < 0)
        return r;
    json_object *o = object("snapshot_path", SOCKET_VMM_FOLDER SOCKET_VMM_STATE);
    json_object *memory = object("backend_type", "File");
    json_add_string(memory, "backend_path", SOCKET_VMM_MEMORY);
    json_add(o, "mem_backend", memory);
    json_add_bool(o, "resume_vm", false);
    v->facts.stopped_at = clock_now();
    return ask(v, RESTORE, "PUT", "/snapshot/load", o, on_restored);
}

/* ---- What it has no request for ---- */

int firecracker_ask_halted(struct vmm *v, struct vmm_done d)
{
    return -ENOTSUP;
}

int firecracker_cannot(struct vmm *v)
{
    return -ENOTSUP;
}

/* ---- Begin and end ---- */

int firecracker_open(int control_fd, const struct vmm_config *c, struct vmm **ret)
{
    struct vmm *v = calloc(1, sizeof(*v));
    if (!v)
        return -ENOMEM;
    api_init(&v->api, control_fd, v);
    v->state_fd = -1;
    int r = v->folder_fd = socket_vmm_folder(c, NULL);
    if (r >= 0)
        r = c->incoming ? 0 : tell_machine(v, c);
    if (r < 0) {
        firecracker_free(v);
        return r;
    }
    *ret = v;
    return 0;
}

bool firecracker_input(struct vmm *v, const void *p, size_t n)
{
    if (v->muted || api_input(&v->api, p, n))
        return true;
    refuse(v, "its API", "that is no answer");
    return false;
}

const struct vmm_facts *firecracker_facts(const struct vmm *v)
{
    return &v->facts;
}

void firecracker_ended(struct vmm *v)
{
    for (enum command c = 0; c < COMMANDS; c++)
        end(v, c, -EPIPE, "the vm has ended");
}

void firecracker_mute(struct vmm *v)
{
    v->muted = true;
}

void firecracker_free(struct vmm *v)
{
    if (!v)
        return;
    api_done(&v->api);
    fd_closep(&v->state_fd);
    fd_closep(&v->folder_fd);
    free(v);
}
