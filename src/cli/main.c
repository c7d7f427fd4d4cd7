#include "base/os.h"
#include "cli/cli.h"
#include "net/process.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors 0 to 2 are open whatever the caller did: files opened later must not become standard output. In place of
 * a closed standard output stands one that cannot be written, so that output fails instead of vanishing. */
static void ensure_standard_fds(void)
{
    struct stat st;
    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &st) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

/* Words that other tools use for what a command of ours does; NULL for any other word. */
static const char *foreign_word(const char *word)
{
    static const char *const words[][2] = {
        {"stop", "mvmctl down NAME stops a VM"},
        {"kill", "mvmctl down NAME stops a VM, with --timeout 1 without much patience"},
        {"rm", "mvmctl down NAME stops a VM and removes it; mvmctl snapshot rm removes a snapshot"},
        {"destroy", "mvmctl down NAME stops a VM and removes it"},
        {"ps", "mvmctl ls lists the VMs"},
        {"list", "mvmctl ls lists the VMs"},
        {"start", "mvmctl up boots an image that has been built, mvmctl run builds it first"},
        {"create", "mvmctl run builds a flake and boots it"},
        {"images", "mvmctl dev cache inspect shows the cache, mvmctl build-log --list the builds"},
        {"shell", "mvmctl exec -it NAME sh opens a shell in a VM, mvmctl dev shell one in the builder"},
        {"ssh", "mvmctl exec -it NAME sh opens a shell in a VM"},
        {"attach", "mvmctl exec -it NAME sh opens a shell in a VM, mvmctl logs NAME -f follows its logs"},
        {"status", "mvmctl ls lists the VMs, mvmctl dev status shows the builder"},
        {"restore", "mvmctl up --from NAME:TAG continues from a snapshot"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(word, words[i][0]) == 0)
            return words[i][1];
    return NULL;
}

/* No such command: the words that are right so far are a group's, "" for none. */
static int unknown_command(const char *group, const char *word)
{
    char words[MAX_COMMANDS][32], hint[160];
    const char *names[MAX_COMMANDS];
    size_t n = command_next_words(group, words, NULL, MAX_COMMANDS);
    for (size_t i = 0; i < n; i++)
        names[i] = words[i];
    const char *foreign = *group ? NULL : foreign_word(word);
    if (foreign)
        return ui_usage(foreign, "there is no command '%.60s'", word);
    const char *near = suggest_word(word, names, n);
    const char *space = *group ? " " : "";
    if (near)
        snprintf(hint, sizeof(hint), "did you mean mvmctl %s%s%s?", group, space, near);
    else
        snprintf(hint, sizeof(hint), "mvmctl help%s%s lists the commands", space, group);
    return ui_usage(hint, "there is no command '%s%s%.60s'", group, space, word);
}

/* What was typed is no whole command: "dev", "dev cahce", "buidl". */
static int incomplete_command(int argc, char **argv, int n_words)
{
    char group[64];
    command_join(n_words, argv, group, sizeof(group));
    const char *next = n_words < argc ? argv[n_words] : "--help";
    if (!ui.json && (strcmp(next, "--help") == 0 || strcmp(next, "-h") == 0)) {
        print_group(group);
        return n_words < argc ? 0 : EXIT_USAGE;
    }
    return unknown_command(group, next);
}

/* Output that could not be written is a failure, whatever the command thought. A reader who has gone away is told
 * nothing: mvmctl ends as if SIGPIPE had ended it. */
static int finish(int status)
{
    struct mvm_error err = MVM_ERROR_INIT;
    int r = fflush(stdout) == 0 ? 0 : -errno;
    if (r == 0 && !ferror(stdout))
        return status;
    /* An earlier write failed: one more says why. */
    if (r == 0 && write(STDOUT_FILENO, "\n", 1) < 0)
        r = -errno;
    if (r == -EPIPE)
        return status ? status : 128 + SIGPIPE;
    if (r)
        mvm_error_errno(&err, r, "cannot write standard output");
    else
        mvm_error_set(&err, -EIO, "cannot write standard output: a write failed");
    mvm_error_hint(&err, "look where standard output goes: its disk may be full, or it was closed (>&-)");
    int failed = ui_complain(&err);
    return status ? status : failed;
}

static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--supervise") == 0)
        return supervisor_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "--network") == 0)
        return network_main(argc - 2, argv + 2);
    ensure_standard_fds();
    /* What was inherited goes no further; it can still be named (/dev/fd/N). */
    (void)!os_close_on_exec();
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    commands_install();
    ui_init(wants_json(argc, argv), false);
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--man") == 0)
        return finish(print_man_page());
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    if (strcmp(word, "--version") == 0)
        word = "version";
    if (!*word) {
        print_overview();
        return finish(EXIT_USAGE);
    }
    argv[1] = (char *)(uintptr_t)word;
    int n_words;
    const struct command *c = command_find(argc - 1, argv + 1, &n_words);
    if (!c)
        return finish(incomplete_command(argc - 1, argv + 1, n_words));
    struct args a;
    int r = args_parse(&a, c, argc - n_words, argv + n_words);
    if (r != 0)
        return finish(r < 0 ? 0 : r);
    ui_init(arg_flag(&a, "json"), arg_flag(&a, "verbose"));
    return finish(c->run(&a));
}
