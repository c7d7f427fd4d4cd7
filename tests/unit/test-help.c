/* What the command line says of itself: help, the man page and the scripts for completion, all from the commands'
 * descriptions. */
#include "captured.h"
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "cli/cli.h"
#include "cli/options.h"

#include <fcntl.h>
#include <string.h>

#define WIDTH 78

static struct buf out = BUF_INIT(4 << 20);

/* The longest line of out. */
static size_t widest(void)
{
    size_t most = 0;
    for (const char *s = buf_cstr(&out), *end; *s; s = end + (*end == '\n')) {
        end = s + strcspn(s, "\n");
        most = MAX_OF(most, (size_t)(end - s));
    }
    return most;
}

static bool says(const char *fmt, ...) MVM_PRINTF(1, 2);
static bool says(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return strstr(buf_cstr(&out), text) != NULL;
}

/* ---- Help ---- */

static void show(const struct command *c)
{
    struct captured s = capture(STDOUT_FILENO);
    print_help(c);
    capture_end(&s, &out);
}

static void test_help(void)
{
    const char *wide = NULL, *silent = NULL;
    for (size_t i = 0; i < n_commands; i++) {
        show(commands[i]);
        for (const struct option_spec *const *o = commands[i]->options; *o; o++)
            if (!says(" --%s%s%s", (*o)->name, (*o)->argument ? " " : "", (*o)->argument ? (*o)->argument : ""))
                silent = commands[i]->name;
        if (!says("-h, --help") || !says("Usage: mvmctl %s", commands[i]->name))
            silent = commands[i]->name;
        /* The line of usage is one, however long. */
        buf_drop(&out, strcspn(buf_cstr(&out), "\n"));
        if (widest() > WIDTH)
            wide = commands[i]->name;
    }
    ok(!silent, "each command's help names each option%s%s", silent ? ": " : "", silent ? silent : "");
    ok(!wide, "no line of help is wider than %d columns%s%s", WIDTH, wide ? ": " : "", wide ? wide : "");

    static const struct option_spec flag = {.name = "flag", .letter = 'f', .help = "be brief"};
    static const struct option_spec long_help = {
        .name = "file",
        .argument = "FILE",
        .help = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789"};
    const struct command c = {
        .name = "test", .synopsis = "WORD", .text = "One.\n\nTwo.", .options = OPTIONS(&flag, &long_help)};
    show(&c);
    ok(strcmp(buf_cstr(&out), "Usage: mvmctl test WORD\n\nOne.\n\nTwo.\n\nOptions:\n"
                              "  -f, --flag                 be brief\n"
                              "      --file FILE            0123456789 0123456789 0123456789 0123456789\n"
                              "                             0123456789 0123456789 0123456789\n"
                              "  -h, --help                 show this help\n") == 0,
       "paragraphs stay apart, and an option's help is wrapped beside it");
}

static void test_overview(void)
{
    struct captured s = capture(STDOUT_FILENO);
    print_overview();
    capture_end(&s, &out);
    bool all = true;
    for (size_t i = 0; i < n_commands; i++)
        all &= says("\n  %.*s ", (int)strcspn(commands[i]->name, " "), commands[i]->name);
    ok(all && says("Usage: mvmctl COMMAND"), "the overview has each command, or the group that it belongs to");
    s = capture(STDOUT_FILENO);
    print_group("dev");
    capture_end(&s, &out);
    ok(says("\n  cache                inspect, prune, repair\n") && says("\n  up ") && !says("\n  doctor"),
       "a group shows its own commands, and what is in the groups below it");
}

/* ---- Man page ---- */

/* How many lines begin with that macro. */
static unsigned macros(const char *macro)
{
    unsigned n = 0;
    size_t len = strlen(macro);
    for (const char *s = buf_cstr(&out); s; s = strchr(s, '\n'), s = s ? s + 1 : NULL)
        n += strncmp(s, macro, len) == 0 && (s[len] == ' ' || s[len] == '\n');
    return n;
}

static void test_man(void)
{
    static const char *const known[] = {".Dd", ".Dt", ".Os", ".Sh", ".Nm", ".Nd", ".Ar", ".Op", ".Ss",
                                        ".Bd", ".Ed", ".Ic", ".Pp", ".Bl", ".El", ".It", ".Fl"};
    struct captured s = capture(STDOUT_FILENO);
    print_man_page();
    capture_end(&s, &out);
    unsigned lines = 0, of_macros = 0;
    for (const char *p = buf_cstr(&out); p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
        lines += *p == '.' || *p == '\'';
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        of_macros += macros(known[i]);
    ok(lines == of_macros, "no word of a text is taken for a macro (%u lines, %u macros)", lines, of_macros);
    ok(macros(".Bl") == macros(".El") && macros(".Bd") == macros(".Ed"), "each list and each block ends");
    ok(macros(".Ss") == n_commands, "each command has its section");
    bool all = true;
    for (size_t i = 0; i < n_commands; i++) {
        all &= says("\n.Ss mvmctl %s\n", commands[i]->name);
        for (const struct option_spec *const *o = commands[i]->options; *o; o++)
            all &= says("Fl \\-%s%s", (*o)->name, (*o)->argument ? " Ar " : "\n");
    }
    ok(all, "and each of its options an entry");
    static const int statuses[] = {0,
                                   EXIT_OTHER,
                                   EXIT_USAGE,
                                   EXIT_CONFIG,
                                   EXIT_BUILDER_BOOTSTRAP,
                                   EXIT_NIX_EVAL,
                                   EXIT_NIX_BUILD,
                                   EXIT_ARTIFACT_EXTRACTION,
                                   EXIT_RUNTIME_BACKEND,
                                   EXIT_BOOT_BUDGET,
                                   EXIT_SERVICES,
                                   EXIT_EXEC_FAILED};
    all = true;
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        all &= says("\n.It %d\n", statuses[i]);
    ok(all, "the man page tells what each exit status means");
    ok(widest() < 300, "and has no line of more than 300 characters");
}

/* ---- Options that commands share ---- */

static void test_options(void)
{
    char words[32];
    snprintf(words, sizeof(words), "(default: %d)", DEFAULT_TIMEOUT_S);
    ok(strstr(opt_timeout.help, words) && DEFAULT_TIMEOUT_MS == 1000 * DEFAULT_TIMEOUT_S,
       "the default of --timeout is told as it is");
    ok(opt_verbose.letter == 'v' && !opt_verbose.argument && !opt_json.argument && !opt_cold.argument,
       "flags take no argument");
    ok(strcmp(opt_hypervisor.values, "auto|qemu|firecracker|apple-container") == 0 &&
           strstr(opt_system.values, "x86_64-linux|"),
       "what takes one of some words lists them");
}

/* ---- Completion ---- */

extern const struct command cmd_completion;

static void complete(const char *shell)
{
    char word[16];
    char *words[] = {word, NULL};
    struct args a = {.command = &cmd_completion, .words = words, .n_words = 1};
    snprintf(word, sizeof(word), "%s", shell);
    struct captured s = capture(STDOUT_FILENO);
    if (cmd_completion.run(&a) != 0)
        abort();
    capture_end(&s, &out);
}

/* The shell reads the script without running it. True where there is no such shell here. */
static bool is_script(const char *shell)
{
    CLEAN_FREE char *program = process_find(shell);
    CLEAN_FREE char *path = path_join(tap_folder(), "script", NULL);
    const char *const argv[] = {shell, "-n", path, NULL};
    struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_BUF struct buf errors = BUF_INIT(64 * 1024);
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, out.data, out.len) < 0)
        abort();
    int r = program ? process_capture(&o, NULL, &errors, clock_deadline(30000), NULL) : 0;
    *strrchr(path, '/') = '\0';
    (void)!path_remove_tree(AT_FDCWD, path);
    return r == 0 && errors.len == 0;
}

static void test_bash(void)
{
    complete("bash");
    bool all = true;
    for (size_t i = 0; i < n_commands; i++) {
        all &= says("    '%s')\n      opts='--help", commands[i]->name);
        for (const struct option_spec *const *o = commands[i]->options; *o; o++)
            all &= says(" --%s", (*o)->name);
    }
    ok(all, "bash completes each command and each option");
    ok(says("--system) _mvmctl_of 'x86_64-linux aarch64-linux'; return ;;"), "and the words that an option may have");
    ok(says("--allow-input) _mvmctl_files; return ;;") && says("--trace) _mvmctl_files; return ;;"), "files for files");
    ok(says("--cpus) return ;;"), "and nothing for a number");
    ok(is_script("bash"), "bash reads the script");
}

static void test_zsh_fish(void)
{
    complete("zsh");
    bool all = strncmp(buf_cstr(&out), "#compdef mvmctl\n", 16) == 0;
    for (size_t i = 0; i < n_commands; i++)
        all &= says("\n    '%s') _arguments -s", commands[i]->name);
    ok(all, "zsh completes each command");
    ok(says("'--system=[") && says(":SYSTEM:(x86_64-linux aarch64-linux)'"), "and the words that an option may have");
    ok(is_script("zsh"), "zsh reads the script, where there is one");
    complete("fish");
    unsigned odd = 0, quotes = 0;
    all = true;
    for (const char *s = strstr(buf_cstr(&out), "\ncomplete "); s && *s; s++) {
        quotes += *s == '\'';
        if (*s != '\n')
            continue;
        odd += quotes % 2;
        quotes = 0;
    }
    for (size_t i = 0; i < n_commands; i++)
        all &= says("-n '__mvmctl_in \"%s\"' -l help", commands[i]->name);
    ok(all, "fish completes each command");
    ok(odd == 0, "no quote of a description ends a word of the script");
    ok(is_script("fish"), "fish reads the script, where there is one");
}

int main(void)
{
    commands_install();
    test_help();
    test_overview();
    test_man();
    test_options();
    test_bash();
    test_zsh_fish();
    buf_done(&out);
    return tap_end();
}
