#include "cli/cli.h"
#include "machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors 0 to 2 are open whatever the caller did: files opened later must not become standard output. */
static void ensure_standard_fds(void)
{
    struct stat st;
    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &st) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd ? O_WRONLY : O_RDONLY);
}

static int unknown_command(const char *word)
{
    const char *names[64];
    char hint[128];
    for (size_t i = 0; i < n_commands; i++)
        names[i] = commands[i].name;
    const char *near = nearest_word(word, names, n_commands);
    if (near)
        snprintf(hint, sizeof(hint), "did you mean mvmctl %s?", near);
    else
        snprintf(hint, sizeof(hint), "mvmctl help lists the commands");
    return ui_usage(hint, "there is no command '%.60s'", word);
}

/* Output that could not be written is a failure, whatever the command thought. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return status ? status : EXIT_OTHER;
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
        return machine_supervise(argc - 2, argv + 2);
    ensure_standard_fds();
    signal(SIGPIPE, SIG_IGN);
    umask(077);
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
    const struct command *c = command_find(word);
    if (!c)
        return finish(unknown_command(word));
    struct args a;
    int r = args_parse(&a, c, argc - 1, argv + 1);
    if (r != 0)
        return finish(r < 0 ? 0 : r);
    ui_init(arg_flag(&a, "json"), arg_flag(&a, "verbose"));
    return finish(c->run(&a));
}
