#include "cli/cli.h"
#include "cli/options.h"
#include "wire/msg.h"

static int run_version(struct args *a)
{
    if (a->n_words || a->rest)
        return ui_usage("mvmctl version", "version: unexpected argument '%.60s'", a->n_words ? a->words[0] : "--");
    if (!ui.json) {
        ui_line("mvmctl %s", MVM_VERSION);
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "version", MVM_VERSION);
    json_add_int(o, "protocol", MVM_PROTOCOL_VERSION);
    ui_print_json(o);
    return 0;
}

/* ---- Its description ---- */

const struct command cmd_version = {
    .name = "version",
    .synopsis = "[OPTION]...",
    .summary = "show the version",
    .text = "Prints the program's version.",
    .options = OPTIONS(&opt_json),
    .json = "version: the program's version\n"
            "protocol: version of the agent protocol\n",
    .run = run_version,
};
