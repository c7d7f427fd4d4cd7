/* A command, described beside its code: dispatch, help, man page and completion come from these descriptions. A new
 * command is a file with its code and description, and a line in the list of commands.c. */
#pragma once

#include <stddef.h>

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
    WORDS_NETWORKS = 64,
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

#define OPTIONS(...) ((const struct option_spec *const[]){__VA_ARGS__, NULL})
#define NO_OPTIONS   ((const struct option_spec *const[]){NULL})

/* The commands there are, in the order in which help shows them; none before commands_install(). */
extern const struct command *const *commands;
extern size_t n_commands;
void command_set_list(const struct command *const *list, size_t n);
/* Has the list of commands.c be that one: the first thing that a program does. */
void commands_install(void);
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
