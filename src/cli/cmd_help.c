#include "cli/cli.h"
#include "cli/options.h"

static int run_help(struct args *a)
{
    if (a->n_words == 0) {
        print_overview();
        return 0;
    }
    int n_words;
    const struct command *c = command_find(a->n_words, a->words, &n_words);
    if (!c && n_words == a->n_words) {
        char group[64];
        command_join(n_words, a->words, group, sizeof(group));
        print_group(group);
        return 0;
    }
    if (!c)
        return ui_usage("mvmctl help lists the commands", "help: there is no command '%.60s'", a->words[0]);
    print_help(c);
    return 0;
}

/* ---- Its description ---- */

const struct command cmd_help = {
    .name = "help",
    .synopsis = "[COMMAND]",
    .summary = "show help",
    .text = "Shows the commands, or one command's options.",
    .options = NO_OPTIONS,
    .run = run_help,
};
