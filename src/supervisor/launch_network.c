#include "supervisor/launch_network.h"
#include "base/os.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Words of run->network, which are separated by spaces, behind what every network process is told. */
#define NETWORK_WORDS 160

static void network_words(char *text, const char *first[static 5], const char *words[static NETWORK_WORDS + 1])
{
    size_t n = 0;
    for (; n < 5; n++)
        words[n] = first[n];
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w && n < NETWORK_WORDS; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    words[n] = NULL;
}

/* Where it cannot be confined, and need not be. */
static int launch_plain(const char *const *argv, const struct network_ends *e, bool sibling, struct process *ret,
                        struct mvm_error *err)
{
    const int keep[] = {e->frames_fd, e->report_fd, e->resolv_fd};
    const struct process_opts o = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = e->report_fd,
        .keep_fds = keep,
        .n_keep_fds = ARRAY_SIZE(keep) - (e->resolv_fd >= 0 ? 0 : 1),
        .die_with_parent = true,
        .sibling = sibling,
    };
    return process_start(&o, ret, err);
}

int launch_network(const struct runfile *run, const struct network_ends *e, bool sibling, struct process *ret,
                   struct jail_report *jail, struct mvm_error *err)
{
    char program[4096], numbers[3][12], policy[sizeof(run->network) + sizeof(run->network_limits) + 1];
    const char *words[NETWORK_WORDS + 1];
    const int fds[3] = {e->frames_fd, e->report_fd, e->resolv_fd};
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%d", fds[i]);
    snprintf(policy, sizeof(policy), "%s %s", run->network[0] ? run->network : RUNFILE_NETWORK, run->network_limits);
    int r = os_self_path(program, sizeof(program));
    if (r < 0)
        return mvm_error_errno(err, r, "the path of mvmctl");
    const char *first[] = {program, "--network", numbers[0], numbers[1], numbers[2]};
    network_words(policy, first, words);
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    const struct jail_fd keep[] = {{.fd = fds[0]}, {.fd = fds[1]}, {.fd = fds[2]}};
    const struct jail_spec spec = {
        .program = program,
        .argv = words,
        .envp = env,
        .fds = keep,
        .n_fds = ARRAY_SIZE(keep),
        .log_fd = e->report_fd,
        .network = true,
        .file_bytes = 1, /* it writes none */
        .sibling = sibling,
        .required = run->confine,
    };
    r = jail_start(&spec, ret, jail, err);
    return r == -ENOEXEC && !run->confine ? launch_plain(words, e, sibling, ret, err) : r;
}
