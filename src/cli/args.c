#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned count_options(const struct command *c)
{
    unsigned n = 0;
    while (c->options[n])
        n++;
    return n;
}

static int unknown_option(const struct command *c, const char *word)
{
    const char *names[MAX_OPTIONS + 1];
    char typed[64], hint[128];
    unsigned n = count_options(c);
    for (unsigned i = 0; i < n; i++)
        names[i] = c->options[i]->name;
    names[n] = "help";
    snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(word, "="), word);
    const char *near = strncmp(typed, "--", 2) == 0 ? suggest_word(typed + 2, names, n + 1) : NULL;
    if (near)
        snprintf(hint, sizeof(hint), "did you mean --%s?", near);
    else
        snprintf(hint, sizeof(hint), "mvmctl %s --help lists the options", c->name);
    return ui_usage(hint, "%s: unknown option '%.60s'", c->name, word);
}

static void build_tables(const struct command *c, struct option *longs, char *shorts)
{
    char *s = shorts;
    if (c->words & WORDS_PROGRAM)
        *s++ = '+'; /* ends at the first word */
    *s++ = ':';     /* a missing argument is told apart from an unknown option */
    unsigned n = 0;
    for (; c->options[n]; n++) {
        const struct option_spec *o = c->options[n];
        longs[n] = (struct option){
            .name = o->name, .has_arg = o->argument ? required_argument : no_argument, .val = 256 + (int)n};
        if (o->letter) {
            *s++ = o->letter;
            if (o->argument)
                *s++ = ':';
        }
    }
    longs[n] = (struct option){.name = "help", .val = 'h'};
    longs[n + 1] = (struct option){0};
    *s++ = 'h';
    *s = '\0';
}

static int option_index(const struct command *c, int val)
{
    if (val >= 256)
        return val - 256;
    for (int i = 0; c->options[i]; i++)
        if (c->options[i]->letter == val)
            return i;
    return -1;
}

/* Options that contradict each other in every command that has both. */
static int check_pairs(const struct args *a)
{
    static const char one_object[] = "with --json there is one object on standard output and nothing else";
    static const char one_name[] = "both name what to take of the flake: leave one out";
    static const char in_file[] = "the file of --config names what is measured";
    static const char *const pairs[][3] = {{"json", "names", one_object},  {"json", "attach", one_object},
                                           {"json", "shell", one_object},  {"profile", "attr", one_name},
                                           {"config", "profile", in_file}, {"config", "attr", in_file}};
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        if (arg_flag(a, pairs[i][0]) && arg_flag(a, pairs[i][1]))
            return ui_usage(pairs[i][2], "%s: --%s and --%s at once", a->command->name, pairs[i][0], pairs[i][1]);
    const char *flake = arg_value(a, "flake");
    if (flake && strchr(flake, '#') && (arg_flag(a, "attr") || arg_flag(a, "profile")))
        return ui_usage(one_name, "%s: '%.60s' and --%s at once", a->command->name, strchr(flake, '#'),
                        arg_flag(a, "attr") ? "attr" : "profile");
    return 0;
}

/* Options that have an effect only together with another one: alone they are refused instead of being ignored. */
static int check_needs(const struct args *a)
{
    static const char started[] = "a VM that runs keeps what it was started with: mvmctl up has this option, and exec "
                                  "--flake REF boots a VM for the program";
    static const char *const needs[][4] = {
        {"exec", "profile", "flake", started},
        {"exec", "attr", "flake", started},
        {"exec", "cpus", "flake", started},
        {"exec", "memory", "flake", started},
        {"exec", "cold", "flake", started},
        {"exec", "verify", "flake", started},
        {"exec", "hypervisor", "flake", started},
        {"exec", "publish", "flake", "mvmctl port NAME --publish publishes ports of a VM that runs"},
        {"exec", "publish-all", "flake", "mvmctl port NAME --publish publishes ports of a VM that runs"},
        {"exec", "timeout", "flake", "it is how long a VM may take to start; in the guest, timeout ends a program"},
        {"dev up", "flake", "shell", "the shell begins in the flake's files; nothing else uses them"}};
    for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
        if (strcmp(a->command->name, needs[i][0]) == 0 && arg_flag(a, needs[i][1]) && !arg_flag(a, needs[i][2]))
            return ui_usage(needs[i][3], "%s: --%s has no effect without --%s", needs[i][0], needs[i][1], needs[i][2]);
    return 0;
}

/* The words behind the options, in argv from optind on. Where a program is among them the options go on behind the
 * VM's name and end at the program, or at "--". True where there may be more options. */
static bool take_words(struct args *a, int argc, char **argv, int before)
{
    bool ended = optind == before + 1 && strcmp(argv[before], "--") == 0;
    bool program = a->command->words & WORDS_PROGRAM;
    bool named = !(a->command->words & WORDS_VMS) || arg_flag(a, "flake");
    if (program && !ended && !named && a->n_words == 0 && optind < argc) {
        a->words = &argv[optind++];
        a->n_words = 1;
        return true;
    }
    if (program) {
        a->rest = ended || optind < argc ? &argv[optind] : a->rest;
        a->n_rest = argc - optind;
        return false;
    }
    a->words = argv + optind;
    a->n_words = argc - optind;
    return false;
}

int args_parse(struct args *a, const struct command *c, int argc, char **argv)
{
    struct option longs[MAX_OPTIONS + 2];
    char shorts[2 * MAX_OPTIONS + 4];
    *a = (struct args){.command = c};
    build_tables(c, longs, shorts);
    /* What follows "--" belongs to somebody else: getopt never sees it. */
    for (int i = 1; i < argc && !(c->words & WORDS_PROGRAM); i++) {
        if (strcmp(argv[i], "--") == 0) {
            a->rest = &argv[i + 1];
            a->n_rest = argc - i - 1;
            argc = i;
            break;
        }
    }
    optind = 0;
    opterr = 0;
    for (;;) {
        int before = optind ? optind : 1;
        int v = getopt_long(argc, argv, shorts, longs, NULL);
        if (v == -1 && take_words(a, argc, argv, before))
            continue;
        if (v == -1)
            break;
        if (v == 'h' && ui.json)
            return ui_usage("leave --json out", "%s: --help and --json at once", c->name);
        if (v == 'h') {
            print_help(c);
            return -1;
        }
        if (v == '?')
            return unknown_option(c, argv[optind > before ? optind - 1 : before]);
        if (v == ':') {
            char hint[128];
            snprintf(hint, sizeof(hint), "mvmctl %s --help shows what it takes", c->name);
            return ui_usage(hint, "%s: option '%s' needs an argument", c->name, argv[optind - 1]);
        }
        int i = option_index(c, v);
        if (i < 0)
            continue;
        if (a->n_given == MAX_GIVEN)
            return ui_usage("", "%s: too many options", c->name);
        a->given[a->n_given].option = i;
        a->given[a->n_given++].value = optarg ? optarg : "";
    }
    int r = check_pairs(a);
    return r ? r : check_needs(a);
}

const char *arg_value(const struct args *a, const char *option)
{
    for (unsigned i = a->n_given; i-- > 0;)
        if (strcmp(a->command->options[a->given[i].option]->name, option) == 0)
            return a->given[i].value;
    return NULL;
}

size_t arg_list(const struct args *a, const char *option, char **out, size_t max)
{
    size_t n = 0;
    for (unsigned i = 0; i < a->n_given && n < max; i++)
        if (strcmp(a->command->options[a->given[i].option]->name, option) == 0)
            out[n++] = (char *)(uintptr_t)a->given[i].value;
    return n;
}

bool arg_flag(const struct args *a, const char *option)
{
    return arg_value(a, option) != NULL;
}

/* ---- Values ---- */

static int bad_value(struct mvm_error *err, const char *hint, const char *what, const char *text)
{
    mvm_error_set(err, -EINVAL, "%s '%.60s'", what, text);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "%s", hint);
    return -EINVAL;
}

int parse_memory(const char *text, uint64_t *ret_mib, struct mvm_error *err)
{
    static const char hint[] = "give a size such as 256M, 1G or 1.5G, at least 64M and no more than this machine has";
    static const struct {
        const char *suffix;
        double mib;
    } units[] = {{"", 1},       {"M", 1},     {"MiB", 1},     {"MB", 1},       {"G", 1024},
                 {"GiB", 1024}, {"GB", 1024}, {"T", 1 << 20}, {"TiB", 1 << 20}};
    char *end;
    errno = 0;
    double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
    if (v < 0 || errno || strpbrk(text, "xXeEpPnN"))
        return bad_value(err, hint, "memory size", text);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (strcasecmp(end, units[i].suffix) != 0)
            continue;
        double mib = v * units[i].mib;
        double host = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
        if (mib < 64)
            return bad_value(err, hint, "too little memory:", text);
        if (mib > host)
            return bad_value(err, hint, "more memory than this machine has:", text);
        *ret_mib = (uint64_t)mib;
        return 0;
    }
    return bad_value(err, hint, "memory size", text);
}

int parse_number(const char *text, const char *what, unsigned least, unsigned most, unsigned *ret,
                 struct mvm_error *err)
{
    char *end = NULL, hint[64];
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end || n < least || n > most) {
        snprintf(hint, sizeof(hint), "give a number from %u to %u", least, most);
        return bad_value(err, hint, what, text);
    }
    *ret = (unsigned)n;
    return 0;
}

static int parse_count(const char *text, const char *what, unsigned *ret, struct mvm_error *err)
{
    return parse_number(text, what, 1, 64, ret, err);
}

int parse_cpus(const char *text, unsigned *ret, struct mvm_error *err)
{
    return parse_count(text, "number of processors", ret, err);
}

int parse_jobs(const char *text, unsigned *ret, struct mvm_error *err)
{
    return parse_count(text, "number of builds", ret, err);
}

int parse_timeout(const char *text, uint64_t *ret_ms, struct mvm_error *err)
{
    char *end;
    double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : 0;
    if (!(v >= 0.001) || v > 86400 || *end)
        return bad_value(err, "give seconds, such as 30 or 2.5", "timeout", text);
    *ret_ms = (uint64_t)(v * 1000);
    return 0;
}
