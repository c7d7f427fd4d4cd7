#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/cli.h"
#include "host/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

json_object *ui_timings(const struct progress *p)
{
    json_object *o = json_object_new_object();
    uint64_t total = 0;
    for (unsigned i = 0; i < p->n_phases; i++) {
        json_add_double(o, p->phases[i].name, (double)(p->phases[i].ns / 1000) / 1000);
        total += p->phases[i].ns;
    }
    json_add_double(o, "total", (double)(total / 1000) / 1000);
    return o;
}

/* ---- Results and errors ---- */

int exit_status_of(const struct mvm_error *err)
{
    static const int statuses[] = {
        [MVM_PHASE_NONE] = EXIT_OTHER,
        [MVM_PHASE_USAGE] = EXIT_USAGE,
        [MVM_PHASE_CONFIG] = EXIT_CONFIG,
        [MVM_PHASE_BUILDER_BOOTSTRAP] = EXIT_BUILDER_BOOTSTRAP,
        [MVM_PHASE_NIX_EVAL] = EXIT_NIX_EVAL,
        [MVM_PHASE_NIX_BUILD] = EXIT_NIX_BUILD,
        [MVM_PHASE_ARTIFACT_EXTRACTION] = EXIT_ARTIFACT_EXTRACTION,
        [MVM_PHASE_RUNTIME_BACKEND] = EXIT_RUNTIME_BACKEND,
        [MVM_PHASE_BOOT_BUDGET] = EXIT_BOOT_BUDGET,
        [MVM_PHASE_SERVICES] = EXIT_SERVICES,
    };
    _Static_assert(ARRAY_SIZE(statuses) == MVM_PHASE_COUNT, "every phase has an exit status");
    if (err->code == -EINTR)
        return 128 + (interrupt_pending() ? interrupt_pending() : SIGINT);
    return statuses[err->phase];
}

static void print_error(const struct mvm_error *err)
{
    const char *phase = mvm_phase_name(err->phase);
    ui_say_error("%s%s%s%s", *phase ? "[" : "", phase, *phase ? "] " : "", err->msg);
    for (const char *s = err->detail; *s;) {
        int n = (int)strcspn(s, "\n");
        ui_say_detail("%.*s", n, s);
        s += n + (s[n] == '\n');
    }
    if (err->hint[0])
        ui_say("hint: %s", err->hint);
}

static json_object *error_json(const struct mvm_error *err, int status)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "phase", mvm_phase_name(err->phase));
    json_add_string(o, "kind", err->kind[0] ? err->kind : NULL);
    json_add_string(o, "error", err->msg);
    json_add_string(o, "derivation", err->derivation[0] ? err->derivation : NULL);
    json_add_string(o, "hint", err->hint[0] ? err->hint : NULL);
    json_add_string(o, "detail", err->detail[0] ? err->detail : NULL);
    json_add_int(o, "exit_status", status);
    return o;
}

int ui_complain(const struct mvm_error *err)
{
    int status = exit_status_of(err);
    if (!ui.json) {
        print_error(err);
        return status;
    }
    json_object *event = error_json(err, status);
    json_add_string(event, "event", "error");
    ui_event(event);
    return status;
}

int ui_fail(const struct mvm_error *err)
{
    int status = ui_complain(err);
    if (!ui.json)
        return status;
    json_object *o = error_json(err, status);
    json_add_string(o, "status", "error");
    ui_print_json(o);
    return status;
}

/* A device, a pipe that somebody reads, what a symlink leads to: written, and left what it is. */
static int write_in_place(const char *path, const void *data, size_t len, struct mvm_error *err)
{
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : fd_write_all(fd, data, len);
    return r < 0 ? mvm_error_errno(err, r, "cannot write %.500s", path) : 0;
}

int ui_write_file(const char *path, const void *data, size_t len, struct mvm_error *err)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return write_in_place(path, data, len, err);
    CLEAN_FREE char *folder = strdup(path);
    CLEAN_FREE char *name = strdup(path);
    CLEAN_FD int dir = folder ? open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir < 0 || !name)
        return mvm_error_errno(err, -errno, "cannot write %.500s", path);
    return path_write_file(dir, basename(name), data, len, 0644, false, err);
}

int ui_usage(const char *hint, const char *fmt, ...)
{
    struct mvm_error err = MVM_ERROR_INIT;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    mvm_error_set(&err, -EINVAL, "%s", text);
    err.phase = MVM_PHASE_USAGE;
    mvm_error_hint(&err, "%s", hint);
    return ui_fail(&err);
}
