#include "base/clock.h"
#include "vmm/api.h"
#include "vmm/vfkit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum command { PAUSE, RESUME, COMMANDS };

struct vmm {
    struct api api;
    struct vmm_facts facts;
    struct {
        bool waits;
        struct vmm_done done;
    } commands[COMMANDS];
    bool muted;
};

static void end(struct vmm *v, enum command c, int r, const char *problem)
{
    if (!v->commands[c].waits || v->muted)
        return;
    const struct vmm_done done = v->commands[c].done;
    v->commands[c].waits = false;
    if (done.done)
        done.done(done.owner, r, problem);
}

/* Asks for another state, or for the one that it is in: answered when the machine is in it. */
static int change(struct vmm *v, const char *state, api_answered *answered)
{
    if (!state)
        return api_call(&v->api, "GET", "/vm/state", NULL, answered);
    json_object *o = json_object_new_object();
    json_add_string(o, "state", state);
    return api_call(&v->api, "POST", "/vm/state", o, answered);
}

static int begin(struct vmm *v, enum command c, const char *state, api_answered *answered, struct vmm_done d)
{
    if (v->commands[c].waits)
        return -EBUSY;
    int r = change(v, state, answered);
    v->commands[c].waits = r == 0;
    v->commands[c].done = d;
    return r;
}

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

int vfkit_pause(struct vmm *v, struct vmm_done d)
{
    return begin(v, PAUSE, "Pause", on_paused, d);
}

/* Apple's framework refuses to resume a machine that runs: that one is only asked whether it is there. */
int vfkit_resume(struct vmm *v, struct vmm_done d)
{
    bool runs = !v->facts.stopped_at && !v->commands[PAUSE].waits;
    return begin(v, RESUME, runs ? NULL : "Resume", on_resumed, d);
}

/* What comes of it is its process's end. */
static void on_quit(void *owner, const char *path, const char *problem)
{
}

int vfkit_quit(struct vmm *v)
{
    return change(v, "HardStop", on_quit);
}

int vfkit_save(struct vmm *v, int state_fd, bool whole, struct vmm_done d)
{
    return -ENOTSUP;
}

int vfkit_ask_halted(struct vmm *v, struct vmm_done d)
{
    return -ENOTSUP;
}

int vfkit_cannot(struct vmm *v)
{
    return -ENOTSUP;
}

int vfkit_open(int control_fd, const struct vmm_config *c, struct vmm **ret)
{
    struct vmm *v = c->incoming ? NULL : calloc(1, sizeof(*v));
    if (!v)
        return c->incoming ? -ENOTSUP : -ENOMEM;
    api_init(&v->api, control_fd, v);
    *ret = v;
    return 0;
}

bool vfkit_input(struct vmm *v, const void *p, size_t n)
{
    if (v->muted || api_input(&v->api, p, n))
        return true;
    snprintf(v->facts.problem, sizeof(v->facts.problem), "its REST service: that is no answer");
    api_forget(&v->api);
    return false;
}

const struct vmm_facts *vfkit_facts(const struct vmm *v)
{
    return &v->facts;
}

void vfkit_ended(struct vmm *v)
{
    for (enum command c = 0; c < COMMANDS; c++)
        end(v, c, -EPIPE, "the vm has ended");
}

void vfkit_mute(struct vmm *v)
{
    v->muted = true;
}

void vfkit_free(struct vmm *v)
{
    if (!v)
        return;
    api_done(&v->api);
    free(v);
}
