/* The list of commands, and what is looked up in it. */
#include "cli/command.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* In the order in which help and man page show them. */
/* clang-format off */
#define COMMANDS(x) \
    x(cmd_bench_boot) \
    x(cmd_bench_exec) \
    x(cmd_bench_build) \
    x(cmd_bench_density) \
    x(cmd_build) \
    x(cmd_build_log) \
    x(cmd_up) \
    x(cmd_run) \
    x(cmd_exec) \
    x(cmd_cp) \
    x(cmd_ls) \
    x(cmd_inspect) \
    x(cmd_logs) \
    x(cmd_down) \
    x(cmd_pause) \
    x(cmd_resume) \
    x(cmd_fork) \
    x(cmd_snapshot_create) \
    x(cmd_snapshot_ls) \
    x(cmd_snapshot_rm) \
    x(cmd_dev_up) \
    x(cmd_dev_shell) \
    x(cmd_dev_down) \
    x(cmd_dev_status) \
    x(cmd_dev_cache_inspect) \
    x(cmd_dev_cache_prune) \
    x(cmd_dev_cache_repair) \
    x(cmd_dev_image_export) \
    x(cmd_dev_image_sign) \
    x(cmd_dev_image_verify) \
    x(cmd_image_verify) \
    x(cmd_persistent_start) \
    x(cmd_persistent_status) \
    x(cmd_persistent_submit) \
    x(cmd_persistent_stop) \
    x(cmd_doctor) \
    x(cmd_version) \
    x(cmd_completion) \
    x(cmd_help)
/* clang-format on */

#define DECLARE(c) extern const struct command c;
COMMANDS(DECLARE)

#define POINTER(c) &c,
const struct command *const commands[] = {COMMANDS(POINTER)};
const size_t n_commands = ARRAY_SIZE(commands);

/* How many of the words of a command's name argv begins with; *whole where that is all of them. */
static int match(const char *name, int argc, char **argv, bool *whole)
{
    int n = 0;
    for (; n < argc && *name; n++) {
        size_t len = strcspn(name, " ");
        if (strlen(argv[n]) != len || strncmp(argv[n], name, len) != 0)
            break;
        name += len + (name[len] == ' ');
    }
    *whole = !*name;
    return n;
}

const struct command *command_find(int argc, char **argv, int *ret_words)
{
    const struct command *found = NULL;
    int longest = 0, partial = 0;
    for (size_t i = 0; i < n_commands; i++) {
        bool whole;
        int n = match(commands[i]->name, argc, argv, &whole);
        partial = MAX_OF(partial, n);
        if (whole && n > longest) {
            longest = n;
            found = commands[i];
        }
    }
    *ret_words = found ? longest : partial;
    return found;
}

void command_join(int n, char **words, char *out, size_t size)
{
    *out = '\0';
    for (int i = 0; i < n; i++) {
        size_t len = strlen(out);
        snprintf(out + len, size - len, "%s%s", i ? " " : "", words[i]);
    }
}

size_t command_next_words(const char *group, char (*ret)[32], const char **summaries, size_t max)
{
    size_t len = strlen(group), n = 0;
    for (size_t i = 0; i < n_commands && n < max; i++) {
        const char *rest = commands[i]->name;
        if (len && (strncmp(rest, group, len) != 0 || rest[len] != ' '))
            continue;
        rest += len + (len > 0);
        size_t word = strcspn(rest, " ");
        char next[32];
        size_t k = 0;
        snprintf(next, sizeof(next), "%.*s", (int)word, rest);
        while (k < n && strcmp(ret[k], next) != 0)
            k++;
        if (k < n)
            continue;
        strcpy(ret[n], next);
        if (summaries)
            summaries[n] = rest[word] ? NULL : commands[i]->summary;
        n++;
    }
    return n;
}

size_t command_groups(char (*ret)[64], size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < n_commands; i++) {
        for (const char *space = strchr(commands[i]->name, ' '); space; space = strchr(space + 1, ' ')) {
            char group[64];
            size_t k = 0;
            snprintf(group, sizeof(group), "%.*s", (int)(space - commands[i]->name), commands[i]->name);
            while (k < n && strcmp(ret[k], group) != 0)
                k++;
            if (k == n && n < max)
                strcpy(ret[n++], group);
        }
    }
    return n;
}
