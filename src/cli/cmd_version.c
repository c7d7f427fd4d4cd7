#include "cli/cli.h"
#include "wire/msg.h"

#include <stdio.h>

int cmd_version(struct args *a)
{
    if (a->n_words || a->rest)
        return ui_usage("mvmctl version", "version: unexpected argument '%.60s'", a->n_words ? a->words[0] : "--");
    if (!ui.json) {
        printf("mvmctl " MVM_VERSION "\n");
        return 0;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "version", MVM_VERSION);
    json_add_int(o, "protocol", MVM_PROTOCOL_VERSION);
    ui_print_json(o);
    return 0;
}
