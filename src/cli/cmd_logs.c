#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "machine/client.h"
#include "machine/logread.h"
#include "machine/machine.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_SERVICES 32 /* that a hint knows */

/* Which lines are printed, and how. */
struct wish {
    bool follow, timestamps;
    bool tail;
    unsigned lines; /* with tail: so many of those that are there */
    uint64_t since; /* ns since 1970 */
    const char *service;
    uint64_t printed;
};

static bool wanted(const struct wish *w, const struct logread_line *line)
{
    return line->at >= w->since && (!w->service || strcmp(line->service, w->service) == 0);
}

/* ---- One line ---- */

/* As RFC 3339 has it, in UTC, with microseconds. */
static void format_time(uint64_t at, char out[static 40])
{
    time_t t = (time_t)(at / NSEC_PER_SEC);
    struct tm tm;
    char seconds[32];
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));
    snprintf(out, 40, "%s.%06uZ", seconds, (unsigned)(at % NSEC_PER_SEC / 1000));
}

static json_object *line_json(const struct logread_line *line)
{
    char at[40];
    json_object *o = json_object_new_object();
    format_time(line->at, at);
    json_add_string(o, "time", line->at ? at : NULL);
    json_add_string(o, "log", logread_name(line->log));
    json_add_string(o, "service", line->service[0] ? line->service : NULL);
    json_add(o, "text", json_object_new_string_len(line->text, (int)line->len));
    return o;
}

static int print_line(struct wish *w, const struct logread_line *line)
{
    char at[40] = "", text[LOGREAD_LINE];
    bool first = w->printed++ == 0;
    if (ui.json)
        return ui_print_json_part(!w->follow && !first ? "," : "", line_json(line), w->follow ? "\n" : "");
    if (w->timestamps && line->at)
        format_time(line->at, at);
    memcpy(text, line->text, line->len);
    return ui_line("%s%s%.*s", w->timestamps ? (line->at ? at : "-") : "", w->timestamps ? " " : "",
                   (int)text_clean(text, line->len, true), text);
}

/* ---- What is there, and what is added ---- */

static uint64_t count_wanted(const struct wish *w, struct logread *l)
{
    struct logread_line line;
    uint64_t n = 0;
    while (logread_next(l, &line))
        n += wanted(w, &line);
    return n;
}

/* All that there is now, but for the first ones of those that are wanted. */
static int print_all(struct wish *w, struct logread *l, uint64_t skip)
{
    struct logread_line line;
    while (logread_next(l, &line)) {
        if (!wanted(w, &line) || (skip && skip--))
            continue;
        int r = print_line(w, &line);
        if (r < 0)
            return r;
    }
    fflush(stdout);
    return 0;
}

static int print_present(struct wish *w, struct logread *l)
{
    uint64_t n = w->tail ? count_wanted(w, l) : 0;
    logread_rewind(l);
    return print_all(w, l, n > w->lines ? n - w->lines : 0);
}

/* The VM is gone: what it said last is in the files, where they are still there. */
static int print_last(struct wish *w, struct logread *l)
{
    int r = print_all(w, l, 0);
    logread_end(l);
    return r < 0 ? r : print_all(w, l, 0);
}

static int follow(struct wish *w, struct logread *l, struct client *c, struct mvm_error *err)
{
    CLEAN_FD int watch = os_watch_folder(l->dirfd);
    if (watch < 0)
        return mvm_error_errno(err, watch, "cannot watch the logs");
    logread_follow(l);
    for (;;) {
        if (print_all(w, l, 0) < 0)
            return 0; /* no reader */
        struct pollfd p = {.fd = watch, .events = POLLIN};
        int r = client_poll(c, &p, 1, 0, NULL);
        if (r == -EINTR)
            return r;
        if (r < 0) {
            (void)!print_last(w, l);
            return 0;
        }
        os_watch_clear(watch);
    }
}

static int follow_wanted(struct home *h, const char *name, struct wish *w, struct mvm_error *err)
{
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    /* The connection's end tells of the VM's. */
    CLEAN_CLIENT struct client *c = NULL;
    (void)!client_connect(h, name, &c, NULL);
    CLEAN_LOGREAD struct logread l = LOGREAD_INIT;
    logread_open(&l, dir, c != NULL);
    if (print_present(w, &l) < 0 || !c)
        return 0;
    return follow(w, &l, c, err);
}

int follow_logs(struct home *h, const char *name, struct mvm_error *err)
{
    struct wish w = {.follow = true};
    return follow_wanted(h, name, &w, err);
}

/* ---- The command ---- */

/* Not one line of the service: its name may be mistyped. */
static void say_no_service(struct logread *l, const char *wanted_name)
{
    char names[MAX_SERVICES][sizeof(((struct logread_line *)0)->service)];
    const char *list[MAX_SERVICES];
    size_t n = 0, i;
    struct logread_line line;
    logread_rewind(l);
    while (n < MAX_SERVICES && logread_next(l, &line)) {
        for (i = 0; i < n && strcmp(names[i], line.service) != 0; i++)
            ;
        if (line.service[0] && i == n)
            list[n] = strcpy(names[n], line.service), n++;
    }
    for (i = 0; i < n; i++)
        if (strcmp(names[i], wanted_name) == 0)
            return;
    const char *near = suggest_word(wanted_name, list, n);
    char note[256];
    snprintf(note, sizeof(note), "no line of the logs is about a service '%.60s'%s%s%s", wanted_name,
             near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
    ui_progress.note(NULL, note);
}

static int print_once(struct home *h, const char *name, struct wish *w, struct mvm_error *err)
{
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    CLEAN_LOGREAD struct logread l = LOGREAD_INIT;
    logread_open(&l, dir, false);
    if (ui.json)
        ui_out("{\"lines\":[");
    int r = print_present(w, &l);
    if (ui.json)
        ui_out("]}\n");
    if (r == 0 && w->printed == 0 && w->service)
        say_no_service(&l, w->service);
    return 0;
}

static int run_logs(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    const char *tail = arg_value(a, "tail"), *since = arg_value(a, "since");
    struct wish w = {.follow = arg_flag(a, "follow"),
                     .timestamps = arg_flag(a, "timestamps"),
                     .tail = tail && strcmp(tail, "all") != 0,
                     .service = arg_value(a, "service")};
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl logs NAME", "logs: %s", a->n_words ? "more than one VM named" : "no VM named");
    if ((w.tail && parse_number(tail, "number of lines", 0, 1000000000, &w.lines, &err) < 0) ||
        (since && parse_since(since, clock_wall(), &w.since, &err) < 0) || home_open(&h, &err) < 0)
        return ui_fail(&err);
    if (!w.follow)
        return print_once(&h, a->words[0], &w, &err) < 0 ? ui_fail(&err) : 0;
    interrupt_install();
    int r = follow_wanted(&h, a->words[0], &w, &err);
    return r < 0 && r != -EINTR ? ui_fail(&err) : 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_follow = {
    .name = "follow", .letter = 'f', .help = "go on printing what is added, until the VM ends"};

static const struct option_spec opt_tail = {.name = "tail",
                                            .letter = 'n',
                                            .argument = "N",
                                            .help = "of the lines that are there only the last N (default: all)"};

static const struct option_spec opt_since = {
    .name = "since",
    .argument = "TIME",
    .help = "only lines that came since then: 10m or 1h30m ago, 2026-11-27T16:00:00Z, 16:00, yesterday"};

static const struct option_spec opt_timestamps = {
    .name = "timestamps", .letter = 't', .help = "print in front of each line when it came"};

static const struct option_spec opt_service = {
    .name = "service", .argument = "NAME", .help = "only what this service said, and what became of it"};

const struct command cmd_logs = {
    .name = "logs",
    .synopsis = "NAME [OPTION]...",
    .summary = "show a VM's console and agent log",
    .text = "Prints what the guest's kernel wrote to its console, what the agent and the services said, and what "
            "the backend complained about, in the order in which it came. Of a VM that has stopped, too. --tail "
            "counts the lines that the other options leave. A line of more than 4096 bytes is printed in pieces. "
            "With --json and --follow, each line is an object of its own, as it comes.",
    .options = OPTIONS(&opt_follow, &opt_tail, &opt_since, &opt_timestamps, &opt_service, &opt_json),
    .json = "lines: a list of objects with time (RFC 3339 in UTC, or null where it is not known), log (console, "
            "agent or vmm), service (its name, or null) and text\n",
    .words = WORDS_VMS,
    .run = run_logs,
};
