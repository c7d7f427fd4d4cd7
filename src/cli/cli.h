/* What the files of the command line share. Only this room prints and exits. */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "cli/command.h"
#include "host/json.h"
#include "host/progress.h"
#include "host/suggest.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit statuses (in the man page). */
enum {
    EXIT_OTHER = 1,
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,
    EXIT_BUILDER_BOOTSTRAP = 10,
    EXIT_NIX_EVAL = 11,
    EXIT_NIX_BUILD = 12,
    EXIT_ARTIFACT_EXTRACTION = 13,
    EXIT_RUNTIME_BACKEND = 14,
    EXIT_BOOT_BUDGET = 15,
    EXIT_SERVICES = 16,
    EXIT_EXEC_FAILED = 125,
};

/* ---- Arguments (args.c) ---- */

#define MAX_OPTIONS 32  /* that a command has */
#define MAX_GIVEN   256 /* that somebody gives */

struct args {
    const struct command *command;
    struct {
        int option;        /* position in command->options */
        const char *value; /* "" for a flag */
    } given[MAX_GIVEN];    /* in the order they came */
    unsigned n_given;
    char **words; /* positional, up to "--" */
    int n_words;
    char **rest; /* behind "--", or a program and its arguments (WORDS_PROGRAM); NULL where there is none */
    int n_rest;
};

/* Parses what follows the command's name. On a usage error prints it and returns EXIT_USAGE; 0 otherwise. -1: help was
 * shown. */
int args_parse(struct args *a, const struct command *c, int argc, char **argv);
/* The argument of an option (the last one given), NULL where it was not given. The option must be in the command's
 * table. */
const char *arg_value(const struct args *a, const char *option);
/* All arguments of an option that may be given several times, at most max of them: how many. */
size_t arg_list(const struct args *a, const char *option, char **out, size_t max);
bool arg_flag(const struct args *a, const char *option);

/* "512M", "1G", "512" (MiB): MiB. -EINVAL with phase usage for garbage, 0, less than 64 MiB, more than the host has. */
int parse_memory(const char *text, uint64_t *ret_mib, struct mvm_error *err);
int parse_cpus(const char *text, unsigned *ret, struct mvm_error *err);
/* Builds at once in a builder. */
int parse_jobs(const char *text, unsigned *ret, struct mvm_error *err);
/* A plain number of something, from least to most. */
int parse_number(const char *text, const char *what, unsigned least, unsigned most, unsigned *ret,
                 struct mvm_error *err);
/* Seconds, fractions allowed: ms. */
int parse_timeout(const char *text, uint64_t *ret_ms, struct mvm_error *err);
/* "10m" ago, "2026-11-27T16:00:00Z", "16:00", "yesterday" (since.c): ns since 1970, as is now. */
int parse_since(const char *text, uint64_t now, uint64_t *ret, struct mvm_error *err);

/* ---- Output (ui.c, print.c, progress.c, output.c) ---- */

struct ui {
    bool json, verbose, terminal, color;
    uint64_t born; /* when this process began, clock.h */
    char phase[32];
    uint64_t started;    /* of the phase, clock.h */
    uint64_t drawn_at;   /* when its progress was shown last */
    unsigned line_width; /* of the progress line on the screen; 0: none */
};

extern struct ui ui;
/* Held by who draws the progress line or takes it off: a thread redraws it. */
extern pthread_mutex_t ui_lock;
void ui_init(bool json, bool verbose);

/* What is printed goes through these (print.c): no control characters but line breaks and tabs, and those only where it
 * is said. -EPIPE where standard output cannot be written. */
/* Text on standard output, line breaks and tabs as they are. */
int ui_out(const char *fmt, ...) MVM_PRINTF(1, 2);
/* One line there, and its end. */
int ui_line(const char *fmt, ...) MVM_PRINTF(1, 2);
/* The beginning of a line there, in a color ("\033[32m") on a terminal. */
void ui_colored(const char *color, const char *fmt, ...) MVM_PRINTF(2, 3);
/* One line on standard error behind "mvmctl: "; with that in red; behind a bar. */
void ui_say(const char *fmt, ...) MVM_PRINTF(1, 2);
void ui_say_error(const char *fmt, ...) MVM_PRINTF(1, 2);
void ui_say_detail(const char *fmt, ...) MVM_PRINTF(1, 2);
/* Prints the object and a newline; takes ownership. */
void ui_print_json(json_object *o);
/* The same for a part of something larger, between two texts of our own. -EPIPE as above. */
int ui_print_json_part(const char *before, json_object *o, const char *after);
/* Prints an event on standard error, with --json; takes ownership. */
void ui_event(json_object *o);

/* The operations of a progress that the ui renders. */
extern const struct progress_ops ui_progress;
/* Takes the progress line off the screen. */
void ui_clear(void);
/* Prints an error (stderr; with --json an event there, and the object on stdout) and returns the exit status. */
int ui_fail(const struct mvm_error *err);
/* The same on standard error alone: the command prints an object of its own. */
int ui_complain(const struct mvm_error *err);
/* Usage error in one call. */
int ui_usage(const char *hint, const char *fmt, ...) MVM_PRINTF(2, 3);
/* Phases of a progress as {"name": ms, ..., "total": ms}. */
json_object *ui_timings(const struct progress *p);
int exit_status_of(const struct mvm_error *err);
/* Writes a file that the user has named, as one step. */
int ui_write_file(const char *path, const void *data, size_t len, struct mvm_error *err) MVM_MUST_CHECK;

/* ---- Help (help.c, man.c) ---- */

void print_help(const struct command *c);
void print_overview(void);
/* The commands whose names begin with these words. */
void print_group(const char *group);
int print_man_page(void);

struct machine_info;
/* What ls and inspect both say of a VM (cmd_inspect.c). */
/* What is wrong with it or its services, "" where nothing is known to be. */
const char *vm_problem(const struct machine_info *m);
json_object *vm_json(const struct machine_info *m);
/* A line with what a member of a network is called and has there; nothing for others. */
void print_member(const struct machine_info *m, const char *indent);

/* Follows console and agent log until `until` says so: for logs -f and up --attach. */
int follow_logs(struct home *h, const char *name, struct mvm_error *err);

/* Runs a program in a VM with this process's output, signals and terminal, and where input is true its standard input
 * (else an empty one: what there is belongs to another program); its exit status in *ret_code. */
struct client;
struct msg_exec;
int exec_in_vm(struct client *c, const struct msg_exec *m, bool input, int *ret_code, struct mvm_error *err);
