#include "base/clock.h"
#include "base/fd.h"
#include "buildlog/buildlog.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "flake/flake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct selection {
    struct build_history_entry *v;
    size_t n;
};

static void selection_done(struct selection *s)
{
    free(s->v);
}

/* "packages.x86_64-linux.web" is what "web" means; a whole path is itself. */
static bool attr_is(const char *attr, const char *wanted)
{
    const char *dot = strrchr(attr, '.');
    return strcmp(attr, wanted) == 0 || (dot && strcmp(dot + 1, wanted) == 0);
}

/* Of all logs, those of one flake. */
static int keep_flake(struct selection *s, const char *ref, struct mvm_error *err)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    int r = flake_ref_parse(&f, ref, err);
    if (r < 0)
        return r;
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].ref, f.id) == 0 && (!f.attr || attr_is(s->v[i].attr, f.attr)))
            s->v[kept++] = s->v[i];
    s->n = kept;
    return 0;
}

/* ---- The list ---- */

static void print_list(const struct selection *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct build_history_entry *e = &s->v[i];
        time_t at = (time_t)(e->started_at / NSEC_PER_SEC);
        struct tm tm;
        char when[32];
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
        ui_line("%s  %-11s  %s  %s%s%s", when, e->status, e->attr, e->ref, e->error[0] ? ": " : "", e->error);
    }
}

static void print_list_json(const struct selection *s)
{
    json_object *o = json_object_new_object(), *list = json_object_new_array();
    for (size_t i = 0; i < s->n; i++) {
        const struct build_history_entry *e = &s->v[i];
        json_object *b = json_object_new_object();
        json_add_string(b, "id", e->id);
        json_add_string(b, "flake", e->ref);
        json_add_string(b, "attr", e->attr);
        json_add_string(b, "status", e->status);
        json_add_string(b, "phase", e->phase[0] ? e->phase : NULL);
        json_add_string(b, "kind", e->kind[0] ? e->kind : NULL);
        json_add_string(b, "error", e->error[0] ? e->error : NULL);
        json_add_string(b, "derivation", e->derivation[0] ? e->derivation : NULL);
        json_add_int(b, "started_at", (int64_t)(e->started_at / NSEC_PER_SEC));
        json_add_int(b, "bytes", (int64_t)e->size);
        json_object_array_add(list, b);
    }
    json_add(o, "builds", list);
    ui_print_json(o);
}

/* ---- The text ---- */

static int print_line(void *data, const char *line, size_t n)
{
    return ui_line("%.*s", (int)n, line);
}

static int print_whole(struct home *h, const struct selection *s, struct mvm_error *err)
{
    if (s->n == 0) {
        mvm_error_set(err, -ENOENT, "there is no log of a build");
        mvm_error_hint(err, "mvmctl build writes one; mvmctl build-log --list shows those of all flakes");
        return -ENOENT;
    }
    CLEAN_FREE char *line = NULL;
    size_t cap = 0;
    int fd = build_history_open_text(h, s->v[0].id, err);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f)
        return fd < 0 ? fd : mvm_error_errno(err, -errno, "cannot read the log");
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;)
        if (ui_out("%s", line) < 0)
            break; /* no reader */
    fclose(f);
    return 0;
}

static int print_derivation(struct home *h, const struct selection *s, const char *derivation, struct mvm_error *err)
{
    for (size_t i = 0; i < s->n; i++) {
        CLEAN_FD int fd = build_history_open_text(h, s->v[i].id, NULL);
        int r = fd < 0 ? 0 : buildlog_extract(fd, derivation, print_line, NULL, err);
        if (r == -EPIPE)
            return 0;
        if (r != 0)
            return r < 0 ? r : 0;
    }
    mvm_error_set(err, -ENOENT, "no log that is kept has the derivation '%.200s'", derivation);
    mvm_error_hint(err, "name it as the error of the build does; what was in the store already was not built");
    return -ENOENT;
}

static int run_build_log(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEANUP(selection_done) struct selection s = {0};
    bool list = arg_flag(a, "list");
    if (a->n_words > 1 || a->rest || (list && a->n_words))
        return ui_usage("name one derivation, or give --list", "build-log: unexpected argument '%.60s'",
                        a->n_words ? a->words[a->n_words - 1] : "--");
    if (ui.json && !list)
        return ui_usage("a log is text; --list --json lists the builds", "build-log: --json needs --list");
    int r = home_open(&h, &err);
    if (r == 0)
        r = build_history_list(&h, &s.v, &s.n, &err);
    if (r == 0 && arg_value(a, "flake"))
        r = keep_flake(&s, arg_value(a, "flake"), &err);
    if (r == 0 && list && ui.json)
        print_list_json(&s);
    else if (r == 0 && list)
        print_list(&s);
    else if (r == 0 && a->n_words && strcmp(a->words[0], "last") != 0)
        r = print_derivation(&h, &s, a->words[0], &err);
    else if (r == 0)
        r = print_whole(&h, &s, &err);
    return r < 0 ? ui_fail(&err) : 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_list = {.name = "list",
                                            .help = "list the builds whose logs are kept, the newest first"};

static const struct option_spec opt_of_flake = {
    .name = "flake", .argument = "REF", .help = "look only at builds of this flake"};

const struct command cmd_build_log = {
    .name = "build-log",
    .synopsis = "[DERIVATION | last] [OPTION]...",
    .summary = "show what a build said",
    .text = "Prints the log of the last build, whether it succeeded or not. DERIVATION, a name or a store path, "
            "prints what that derivation's builder printed in the newest build that built it. Logs of the last "
            "50 builds are kept, of 256 MiB at most.",
    .options = OPTIONS(&opt_of_flake, &opt_list, &opt_json),
    .json = "builds: with --list, a list of objects with id, flake, attr, status (ok, error, interrupted, or "
            "unfinished: running, or killed), phase, kind, error, derivation, started_at (seconds since 1970), "
            "bytes\n",
    .run = run_build_log,
};
