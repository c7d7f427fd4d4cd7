#include "base/path.h"
#include "cli/cli.h"
#include "host/install_paths.h"

#include <stdio.h>
#include <string.h>

#define WIDTH  78
#define INDENT 28

/* Prints a text wrapped to the width, paragraphs kept. */
static void print_wrapped(const char *text)
{
    unsigned column = 0;
    while (*text) {
        if (strncmp(text, "\n\n", 2) == 0) {
            fputs("\n\n", stdout);
            column = 0;
            text += 2;
            continue;
        }
        size_t n = strcspn(text, " \n");
        if (column && column + 1 + n > WIDTH) {
            putchar('\n');
            column = 0;
        }
        column += (unsigned)printf("%s%.*s", column ? " " : "", (int)n, text);
        text += n;
        while (*text == ' ')
            text++;
    }
    putchar('\n');
}

/* An option and what it does, wrapped beside it. */
static void print_row(const char *left, const char *help)
{
    unsigned column = (unsigned)printf("  %-26s", left);
    while (*help) {
        unsigned n = (unsigned)strcspn(help, " ");
        if (column + 1 + n > WIDTH && column > INDENT)
            column = (unsigned)printf("\n%*s", INDENT, "") - 1;
        column += (unsigned)printf(" %.*s", (int)n, help);
        help += n;
        help += *help == ' ';
    }
    putchar('\n');
}

static void print_option(const struct option_spec *o)
{
    char left[64];
    snprintf(left, sizeof(left), "%s%c%s--%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
             o->letter ? ", " : "  ", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
    print_row(left, o->help);
}

void print_help(const struct command *c)
{
    printf("Usage: mvmctl %s %s\n\n", c->name, c->synopsis);
    print_wrapped(c->text);
    printf("\nOptions:\n");
    for (const struct option_spec *const *o = c->options; *o; o++)
        print_option(*o);
    print_row("-h, --help", "show this help");
}

static void print_commands(const char *group)
{
    char words[MAX_COMMANDS][32];
    const char *summaries[MAX_COMMANDS];
    size_t n = command_next_words(group, words, summaries, MAX_COMMANDS);
    for (size_t i = 0; i < n; i++) {
        if (summaries[i]) {
            printf("  %-20s %s\n", words[i], summaries[i]);
            continue;
        }
        char inner[64], next[MAX_COMMANDS][32];
        snprintf(inner, sizeof(inner), "%s%s%s", group, *group ? " " : "", words[i]);
        size_t m = command_next_words(inner, next, NULL, MAX_COMMANDS);
        printf("  %-20s ", words[i]);
        for (size_t k = 0; k < m; k++)
            printf("%s%s", k ? ", " : "", next[k]);
        putchar('\n');
    }
}

void print_group(const char *group)
{
    printf("Usage: mvmctl %s COMMAND [OPTION]...\n\nCommands:\n", group);
    print_commands(group);
    printf("\nmvmctl %s COMMAND --help shows a command's options.\n", group);
}

void print_overview(void)
{
    CLEAN_INSTALL_PATHS struct install_paths in = {0};
    CLEAN_FREE char *examples = install_paths_find(&in, NULL) == 0 ? install_paths_examples(&in) : NULL;
    const char *folder = examples ? examples : "examples";
    printf("Usage: mvmctl COMMAND [OPTION]...\n\n"
           "Builds microVM images from Nix flakes, without Nix on the host, and boots them.\n\nCommands:\n");
    print_commands("");
    printf("\nmvmctl COMMAND --help shows a command's options; man mvmctl has the rest.\n"
           "Start with a copy of an example, which gets a flake.lock of its own:\n"
           "  cp -r --no-preserve=mode %s/hello hello\n  mvmctl run --flake hello\n",
           folder);
}
