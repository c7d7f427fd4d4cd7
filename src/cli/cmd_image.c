/* image verify: reads everything that is kept to boot from. */
#include "cli/cli.h"
#include "cli/options.h"
#include "machine/verify.h"

#include <errno.h>

struct report {
    json_object *found;
    unsigned bad;
};

static void on_found(void *data, enum verify_kind kind, const char *name, int code, const char *why)
{
    struct report *r = data;
    const char *state = code == 0 ? "good" : code == -EBADMSG ? "damaged" : "unreadable";
    r->bad += code < 0;
    if (!ui.json) {
        ui_line("%-14s %-24s %s%s%s", verify_kind_name(kind), name, state, code ? ": " : "", code ? why : "");
        return;
    }
    json_object *o = json_object_new_object();
    json_add_string(o, "kind", verify_kind_name(kind));
    json_add_string(o, "name", name);
    json_add_string(o, "state", state);
    json_add_string(o, "reason", code ? why : NULL);
    json_object_array_add(r->found, o);
}

static int run_image_verify(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct report report = {0};
    struct verify v = {.found = on_found, .data = &report};
    if (a->n_words || a->rest)
        return ui_usage("it takes no arguments", "image verify: unexpected argument");
    CLEAN_JSON json_object *o = json_object_new_object();
    report.found = json_object_new_array();
    json_add(o, "found", report.found);
    if (home_open(&h, &err) < 0 || verify_all(&v, &h, &err) < 0)
        return ui_fail(&err);
    if (ui.json) {
        json_add_string(o, "status", report.bad ? "error" : "ok");
        ui_print_json(json_object_get(o));
    }
    if (!report.bad)
        return 0;
    mvm_error_set(&err, -EBADMSG, "%u of what is kept to boot from: damaged, or cannot be read now", report.bad);
    mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(&err, "mvmctl dev cache repair removes damaged images and boot snapshots; both are made again");
    return ui_complain(&err);
}

/* ---- Its description ---- */

const struct command cmd_image_verify = {
    .name = "image verify",
    .synopsis = "[OPTION]...",
    .summary = "read every byte of images and snapshots",
    .text = "Compares all built images, the snapshots of their first boots and the snapshots that snapshot "
            "create made with the digests that were taken when they were made, whatever the files' timestamps "
            "say, and lists them. Nothing is changed. The exit status is 14 where one is damaged or cannot be "
            "read.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok or error\n"
            "found: a list of objects with kind (image, boot snapshot, snapshot), name, state (good, damaged, "
            "unreadable) and reason\n",
    .run = run_image_verify,
};
