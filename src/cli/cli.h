/* What the files of the command line share. Only this room prints and exits. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "cache/home.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- The table (table.c): dispatch, help, man page and completion come from it ---- */

struct args;

struct option_spec {
    const char *name;     /* long name without dashes */
    char letter;          /* 0: none */
    const char *argument; /* NULL: a flag */
    const char *help;
    const char *values; /* allowed words separated by '|', NULL: any; for completion */
};

enum {
    WORDS_VMS = 1,       /* names of VMs */
    WORDS_SNAPSHOTS = 2, /* NAME:TAG */
    WORDS_COPIES = 4,    /* files, and NAME:/ of VMs */
    WORDS_FOLDERS = 8,
    WORDS_SHELLS = 16,
    WORDS_PROGRAM = 32, /* behind the name (with --flake: at once) a program and its arguments: the options end there */
};

struct command {
    const char *name;                         /* one word, or several: "dev cache inspect" */
    const char *synopsis;                     /* behind the name */
    const char *summary;                      /* one line */
    const char *text;                         /* paragraphs separated by blank lines */
    const struct option_spec *const *options; /* NULL-terminated */
    const char *json; /* the fields of --json, one "name: meaning" a line; NULL where there is no --json */
    unsigned words;   /* WORDS_*: what completion offers for its words */
    int (*run)(struct args *a);
};

extern const struct command commands[];
extern const size_t n_commands;
/* The command whose words begin argv, the longest one; *ret_words tells how many words that is. NULL where there is
 * none; then *ret_words counts the leading words that begin some command's name ("dev", "dev cache"). */
const struct command *command_find(int argc, char **argv, int *ret_words);
/* The next words of the commands whose names begin with the words of group ("" for all): each once, at most max.
 * summaries (may be NULL) gets the command's summary, NULL where the word leads to further words. */
size_t command_next_words(const char *group, char (*ret)[32], const char **summaries, size_t max);
/* The groups there are ("dev", "dev cache"), each once. */
size_t command_groups(char (*ret)[64], size_t max);
/* The first n words with a space between each two. */
void command_join(int n, char **words, char *out, size_t size);
#define MAX_COMMANDS 64

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

/* ---- Output (output.c) ---- */

struct ui {
    bool json, verbose, terminal, color;
    uint64_t born; /* when this process began, clock.h */
    char phase[32];
    uint64_t started;    /* of the phase, clock.h */
    uint64_t drawn_at;   /* when its progress was shown last */
    unsigned line_width; /* of the progress line on the screen; 0: none */
};

extern struct ui ui;
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

/* ---- Commands ---- */

int cmd_bench_boot(struct args *a);
int cmd_bench_exec(struct args *a);
int cmd_bench_build(struct args *a);
int cmd_bench_density(struct args *a);
int cmd_build(struct args *a);
int cmd_build_log(struct args *a);
int cmd_up(struct args *a);
int cmd_run(struct args *a);
int cmd_exec(struct args *a);
int cmd_cp(struct args *a);
int cmd_ls(struct args *a);
int cmd_inspect(struct args *a);
int cmd_logs(struct args *a);
int cmd_down(struct args *a);
int cmd_pause(struct args *a);
int cmd_resume(struct args *a);
int cmd_fork(struct args *a);
int cmd_snapshot_create(struct args *a);
int cmd_snapshot_ls(struct args *a);
int cmd_snapshot_rm(struct args *a);
int cmd_doctor(struct args *a);
int cmd_dev_up(struct args *a);
int cmd_dev_shell(struct args *a);
int cmd_dev_down(struct args *a);
int cmd_persistent_start(struct args *a);
int cmd_persistent_status(struct args *a);
int cmd_persistent_submit(struct args *a);
int cmd_persistent_stop(struct args *a);
int cmd_dev_status(struct args *a);
int cmd_dev_cache_inspect(struct args *a);
int cmd_dev_cache_prune(struct args *a);
int cmd_dev_cache_repair(struct args *a);
int cmd_image_verify(struct args *a);
int cmd_dev_image_export(struct args *a);
int cmd_dev_image_sign(struct args *a);
int cmd_dev_image_verify(struct args *a);
int cmd_version(struct args *a);
int cmd_help(struct args *a);
int cmd_completion(struct args *a);

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

/* Follows console and agent log until `until` says so: for logs -f and up --attach. */
int follow_logs(struct home *h, const char *name, struct mvm_error *err);

/* What to do about a VM that refuses a request because it is paused. */
void hint_paused(const char *name, struct mvm_error *err);

/* Runs a program in a VM with this process's output, signals and terminal, and where input is true its standard input
 * (else an empty one: what there is belongs to another program); its exit status in *ret_code. */
struct client;
struct msg_exec;
int exec_in_vm(struct client *c, const struct msg_exec *m, bool input, int *ret_code, struct mvm_error *err);
