/* What follows when a VM has ended, and what is written down about it. */
#include "base/clock.h"
#include "base/path.h"
#include "host/json.h"
#include "supervisor/internal.h"
#include "vmdir/vmdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An end that the guest did not announce: a failure. */
static bool describe_reset(const struct supervisor *s, char *out, size_t size)
{
    char line[200];
    lastwords_telling(&s->console, line, sizeof(line));
    snprintf(out, size, "failed: the guest panicked or was reset%s%s", line[0] ? ": " : "", line);
    return true;
}

/* For `ls` and `logs` after the end. */
static void write_last(struct supervisor *s, int status)
{
    char why[256];
    bool failed = !s->asked_to_stop && (s->cut_off || s->life.said == VM_STATE_FAILED);
    if (s->asked_to_stop)
        snprintf(why, sizeof(why), "stopped");
    else if (failed)
        snprintf(why, sizeof(why), "failed: %.200s", s->status.problem);
    else if (s->ending)
        snprintf(why, sizeof(why), "%s", s->ending);
    else if (WIFSIGNALED(status))
        snprintf(why, sizeof(why), "%s was killed by signal %d", s->run.backend, WTERMSIG(status));
    else if (WEXITSTATUS(status))
        snprintf(why, sizeof(why), "%s exited with status %d", s->run.backend, WEXITSTATUS(status));
    else if (s->vm.by_host)
        snprintf(why, sizeof(why), "%s was told to end by another process", s->run.backend);
    else
        failed = describe_reset(s, why, sizeof(why));
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_string(o, "ended", why);
    json_add_bool(o, "failed", failed);
    json_add_bool(o, "vanished", s->vanished);
    json_add_int(o, "ended_at", (int64_t)clock_wall());
    (void)!json_save(s->dirfd, VMDIR_LAST, o, 0600, false, NULL);
}

void ending_settled(void *owner)
{
    struct supervisor *s = owner;
    (void)life_happens(&s->life, LIFE_E_SETTLED);
}

void ending_vm_ended(void *owner, int status)
{
    struct supervisor *s = owner;
    router_set_guest(s->router, false, supervisor_why_gone(s));
    requests_ended(s);
    if (s->life.stage == LIFE_STARTING) {
        int code = process_exit_code(status);
        char line[200];
        lastwords_telling(&s->console, line, sizeof(line));
        if (s->vm.problem[0])
            starter_fail(s, "%s: %s", s->run.backend, s->vm.problem);
        else if (code == 0)
            starter_fail(s, "%s before its agent was ready%s%s", s->ending ? s->ending : "the guest ended",
                         line[0] ? ": " : "", line);
        else
            starter_fail(s, "%s ended with status %d before the guest was ready", s->run.backend, code);
    }
    if (life_is_up(&s->life) && !s->told) {
        snprintf(s->status.services, sizeof(s->status.services), "%s", services_state_name(SERVICES_FAILED));
        snprintf(s->status.services_problem, sizeof(s->status.services_problem),
                 "the guest ended before its services were ready");
        starter_say_ready(s);
    }
    s->vanished = life_is_up(&s->life) && !s->asked_to_stop && !s->ending;
    write_last(s, status);
    (void)life_happens(&s->life, LIFE_E_ENDED);
}

/* A transient VM leaves nothing, unless it failed or vanished: then its logs are all that can tell why. Of others the
 * logs stay until `down` or the next `up` of that name. */
void ending_remove_traces(struct supervisor *s)
{
    unlinkat(s->dirfd, VMDIR_SOCKET, 0);
    if (!s->run.transient || s->life.said == VM_STATE_FAILED || s->vanished)
        return;
    CLEAN_FD int vms = openat(s->dirfd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (vms >= 0)
        (void)!path_remove_tree(vms, s->run.name);
}
