/* What is looked up in the list of commands. */
#include "cli/command.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const struct command *const *commands;
size_t n_commands;

void command_set_list(const struct command *const *list, size_t n)
{
    commands = list;
    n_commands = n;
}

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
