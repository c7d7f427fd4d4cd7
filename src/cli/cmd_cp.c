#include "cli/cli.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "machine/machine.h"
#include "machine/transfer.h"

#include <errno.h>
#include <string.h>

/* "NAME:PATH": the colon stands before any slash. */
static char *split(char *word)
{
    char *colon = strchr(word, ':');
    if (!colon || colon == word || memchr(word, '/', (size_t)(colon - word)))
        return NULL;
    *colon = '\0';
    return colon + 1;
}

static int copy(const struct args *a, const char *vm, const char *guest, bool push, struct mvm_error *err)
{
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CLIENT struct client *c = NULL;
    int r = home_open(&h, err);
    if (r == 0)
        r = client_connect(&h, vm, &c, err);
    if (r == 0)
        r = push ? transfer_push(c, a->words[0], guest, err)
                 : transfer_pull(c, guest, arg_flag(a, "follow-link"), a->words[1], err);
    if (r == -EINTR)
        mvm_error_set(err, r, "interrupted");
    else if (r < 0)
        machine_hint_paused(&h, vm, err);
    return r;
}

static int run_cp(struct args *a)
{
    static const char hint[] = "mvmctl cp FILE NAME:/PATH, or mvmctl cp NAME:/PATH FILE";
    struct mvm_error err = MVM_ERROR_INIT;
    if (a->n_words != 2 || a->rest)
        return ui_usage(hint, "cp: expected a source and a destination");
    char *from = split(a->words[0]), *to = split(a->words[1]);
    if (!from == !to)
        return ui_usage(hint, "cp: %s", from ? "one of the two has to be on this machine" : "neither is in a VM");
    const char *guest = from ? from : to;
    if (guest[0] != '/')
        return ui_usage(hint, "cp: '%.60s' is no absolute path in the guest", guest);
    interrupt_install();
    if (copy(a, from ? a->words[0] : a->words[1], guest, to, &err) < 0) {
        mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
        return ui_fail(&err);
    }
    return 0;
}

/* ---- Its description ---- */

static const struct option_spec opt_follow_link = {
    .name = "follow-link", .letter = 'L', .help = "copy what a symlink in the guest points to"};

const struct command cmd_cp = {
    .name = "cp",
    .synopsis = "[-L] SOURCE NAME:/PATH | NAME:/PATH DESTINATION",
    .summary = "copy files into a VM or out of it",
    .text = "Copies a file or a whole folder between this machine and a running VM. Where the destination is a "
            "folder (or ends with a slash in the guest), the source goes into it; else it gets that name. "
            "Permission bits are kept, set-user-ID, set-group-ID and sticky bits are not. Sparse files stay "
            "sparse; a file of /proc is copied as it reads. What is there already is replaced by its own kind "
            "only: nothing is written through a symlink, and a device, fifo or socket is neither replaced nor "
            "copied (in a folder they are left out). The user in the guest is root.",
    .options = OPTIONS(&opt_follow_link),
    .words = WORDS_COPIES,
    .run = run_cp,
};
