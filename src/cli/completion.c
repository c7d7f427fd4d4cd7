/*
 * Completion scripts from the table. Names of VMs and snapshots come from mvmctl when the key is pressed.
 *
 * Each script first joins the words typed so far to a command's name (cmd), as long as they are those of a group.
 * Behind `help` the words are a command's too, but none of its options are offered.
 */
#include "cli/cli.h"
#include "cli/options.h"

#include <stdio.h>
#include <string.h>

/* What an option's argument, or a command's word, is completed with. */
enum kind { KIND_NOTHING, KIND_FILE, KIND_FOLDER, KIND_SNAPSHOT, KIND_NETWORK, KIND_VALUES };

static enum kind kind_of(const struct option_spec *o)
{
    static const struct {
        const char *argument;
        enum kind kind;
    } kinds[] = {{"FILE", KIND_FILE},     {"PATH", KIND_FILE},  {"KEY", KIND_FILE},   {"A B", KIND_FILE},
                 {"FOLDER", KIND_FOLDER}, {"DIR", KIND_FOLDER}, {"REF", KIND_FOLDER}, {"NAME[:TAG]", KIND_SNAPSHOT}};
    if (o->argument && strcmp(o->argument, "NETWORK") == 0) /* or one of the values */
        return KIND_NETWORK;
    if (o->values)
        return KIND_VALUES;
    if (strcmp(o->name, "cwd") == 0) /* a folder of the guest */
        return KIND_NOTHING;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(o->argument, kinds[i].argument) == 0)
            return kinds[i].kind;
    return KIND_NOTHING;
}

static void put_words(const char *values)
{
    for (; *values; values++)
        putchar(*values == '|' ? ' ' : *values);
}

/* The words that may follow a group of commands. */
static void put_next_words(const char *group)
{
    char words[MAX_COMMANDS][32];
    size_t n = command_next_words(group, words, NULL, MAX_COMMANDS);
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i ? " " : "", words[i]);
}

/* ---- bash ---- */

/* What the words of a command are, as bash code that fills COMPREPLY. */
static void bash_words(unsigned words)
{
    if (words & WORDS_VMS)
        printf(" _mvmctl_of \"$(mvmctl ls --names 2>/dev/null)\";");
    if (words & WORDS_SNAPSHOTS)
        printf(" _mvmctl_of \"$(mvmctl snapshot ls --names 2>/dev/null)\";");
    if (words & WORDS_NETWORKS)
        printf(" _mvmctl_of \"$(mvmctl network ls --names 2>/dev/null)\";");
    if (words & WORDS_COPIES)
        printf(" _mvmctl_files; _mvmctl_of \"$(mvmctl ls --names 2>/dev/null | sed 's,$,:/,')\";"
               " compopt -o nospace 2>/dev/null;");
    if (words & WORDS_FOLDERS)
        printf(" _mvmctl_files -d;");
    if (words & WORDS_SHELLS)
        printf(" _mvmctl_of 'bash zsh fish';");
}

static void bash_option(const struct option_spec *o)
{
    switch (kind_of(o)) {
    case KIND_NOTHING:
        break;
    case KIND_FILE:
        printf(" _mvmctl_files");
        break;
    case KIND_FOLDER:
        printf(" _mvmctl_files -d");
        break;
    case KIND_SNAPSHOT:
        printf(" _mvmctl_of \"$(mvmctl snapshot ls --names 2>/dev/null)\"");
        break;
    case KIND_NETWORK:
        printf(" _mvmctl_of \"");
        put_words(o->values);
        printf(" $(mvmctl network ls --names 2>/dev/null)\"");
        break;
    case KIND_VALUES:
        printf(" _mvmctl_of '");
        put_words(o->values);
        putchar('\'');
        break;
    }
}

static void bash_command(const struct command *c)
{
    printf("    '%s')\n      opts='--help", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++)
        printf(" --%s", (*o)->name);
    printf("'\n      case $prev in\n");
    for (const struct option_spec *const *o = c->options; *o; o++) {
        if (!(*o)->argument)
            continue;
        printf("      --%s", (*o)->name);
        if ((*o)->letter)
            printf("|-%c", (*o)->letter);
        printf(")");
        bash_option(*o);
        printf("%sreturn ;;\n", kind_of(*o) == KIND_NOTHING ? " " : "; ");
    }
    printf("      esac\n      case $cur in -*) _mvmctl_of \"$opts\" ;; *)");
    if (c->words & WORDS_PROGRAM && c->words & WORDS_VMS)
        printf(" ((named)) ||");
    bash_words(c->words);
    printf(" ;; esac ;;\n");
}

/* Counts the VM's name, or --flake in its place: the next word is a program in the guest, of which nothing is known. */
static void bash_program(const struct command *c)
{
    printf("      '%s') case ${words[i-1]} in -", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++) {
        if ((*o)->argument)
            printf("|--%s", (*o)->name);
        if ((*o)->argument && (*o)->letter)
            printf("|-%c", (*o)->letter);
    }
    printf(") ;; *) case $w in --flake|--flake=*) named=1 ;; -*) ;; *) ((named++)) ;; esac ;; esac\n"
           "        if ((named > %d)); then return; fi ;;\n",
           c->words & WORDS_VMS ? 1 : 0);
}

/*
 * Bash splits words at colons and equals signs: they are joined again (words), and what stands before the last colon
 * is taken off what is offered.
 */
static const char bash_head[] =
    "# mvmctl completion for bash\n"
    "_mvmctl_of() {\n  local word\n"
    "  for word in $(compgen -W \"$1\" -- \"$cur\"); do COMPREPLY+=(\"${word#\"$cut\"}\"); done\n}\n"
    "_mvmctl_files() {\n  local name\n  compopt -o filenames 2>/dev/null\n"
    "  while IFS= read -r name; do COMPREPLY+=(\"${name#\"$cut\"}\"); done < <(compgen \"${1:--f}\" -- \"$cur\")\n}\n"
    "_mvmctl() {\n  local cur prev='' cut='' cmd='' opts='' next='' help='' i w before='' named=0\n  local -a "
    "words=()\n"
    "  COMPREPLY=()\n"
    "  for ((i = 0; i <= COMP_CWORD; i++)); do\n    w=${COMP_WORDS[i]}\n"
    "    if ((i > 1)) && [[ -n $w && ( $w =~ ^[:=]+$ || $before =~ ^[:=]+$ ) ]]; then words[${#words[@]}-1]+=$w\n"
    "    else words+=(\"$w\"); fi\n    before=$w\n  done\n"
    "  cur=${words[${#words[@]}-1]}\n  ((${#words[@]} > 1)) && prev=${words[${#words[@]}-2]}\n"
    "  case $cur in --*=*) prev=${cur%%=*} cur=${cur#*=} ;; esac\n"
    "  case $COMP_WORDBREAKS in *:*) cut=${cur%\"${cur##*:}\"} ;; esac\n"
    "  for ((i = 1; i < ${#words[@]} - 1; i++)); do\n    w=${words[i]}\n"
    "    if [[ $w = -- ]]; then return; fi\n"
    "    if [[ $i$w = 1help ]]; then help=1; continue; fi\n"
    "    case $cmd in\n      ''";

static void print_bash(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    fputs(bash_head, stdout);
    for (size_t i = 0; i < n_groups; i++)
        printf("|'%s'", groups[i]);
    printf(") case $w in -*) ;; *) cmd=${cmd:+$cmd }$w ;; esac ;;\n");
    for (size_t i = 0; i < n_commands; i++)
        if (commands[i]->words & WORDS_PROGRAM)
            bash_program(commands[i]);
    printf("    esac\n  done\n  case $cmd in\n    '') next='");
    put_next_words("");
    printf("' ;;\n");
    for (size_t i = 0; i < n_groups; i++) {
        printf("    '%s') next='", groups[i]);
        put_next_words(groups[i]);
        printf("' ;;\n");
    }
    printf("  esac\n  if [[ -n $next ]]; then _mvmctl_of \"$next\"; return; fi\n  if [[ -n $help ]]; then return; fi\n"
           "  case $cmd in\n");
    for (size_t i = 0; i < n_commands; i++)
        bash_command(commands[i]);
    printf("  esac\n}\ncomplete -F _mvmctl mvmctl\n");
}

/* ---- zsh ---- */

/* Single quotes and brackets mean something in zsh's and fish's descriptions. */
static void put_description(const char *s)
{
    for (; *s; s++)
        if (!strchr("'[]:\\`$\"", *s))
            putchar(*s);
}

static void zsh_argument(const struct option_spec *o)
{
    static const char *const actions[] = {[KIND_NOTHING] = " ",
                                          [KIND_FILE] = "_files",
                                          [KIND_FOLDER] = "_files -/",
                                          [KIND_SNAPSHOT] = "_mvmctl_snapshots",
                                          [KIND_NETWORK] = "{_mvmctl_networks ",
                                          [KIND_VALUES] = "("};
    enum kind kind = kind_of(o);
    putchar(':');
    put_description(o->argument);
    printf(":%s", actions[kind]);
    if (kind == KIND_VALUES || kind == KIND_NETWORK) {
        put_words(o->values);
        putchar(kind == KIND_VALUES ? ')' : '}');
    }
}

static void zsh_option(const struct command *c, const struct option_spec *o, bool letter)
{
    bool replaces_name = c->words & WORDS_PROGRAM && strcmp(o->name, "flake") == 0;
    printf(" '%s", replaces_name ? "(1)" : "");
    if (letter)
        printf("-%c", o->letter);
    else
        printf("--%s%s", o->name, o->argument ? "=" : "");
    putchar('[');
    put_description(o->help);
    putchar(']');
    if (o->argument)
        zsh_argument(o);
    putchar('\'');
}

static void zsh_command(const struct command *c)
{
    static const struct {
        unsigned words;
        const char *action;
    } actions[] = {{WORDS_VMS, "*:vm:_mvmctl_vms"},
                   {WORDS_SNAPSHOTS, "*:snapshot:_mvmctl_snapshots"},
                   {WORDS_NETWORKS, "*:network:_mvmctl_networks"},
                   {WORDS_COPIES, "*:file:_mvmctl_copies"},
                   {WORDS_FOLDERS, "*:folder:_files -/"},
                   {WORDS_SHELLS, "*:shell:(bash zsh fish)"}};
    printf("    '%s') _arguments -s", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++) {
        zsh_option(c, *o, false);
        if ((*o)->letter)
            zsh_option(c, *o, true);
    }
    printf(" '--help[show help]'");
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) /* of the words before a program the first is meant */
        if (c->words & actions[i].words)
            printf(" '%s%s'", c->words & WORDS_PROGRAM ? "1" : "", actions[i].action + !!(c->words & WORDS_PROGRAM));
    printf(" ;;\n");
}

static void zsh_group(const char *group)
{
    char words[MAX_COMMANDS][32];
    const char *summaries[MAX_COMMANDS];
    size_t n = command_next_words(group, words, summaries, MAX_COMMANDS);
    printf("    '%s') cmds=(", group);
    for (size_t i = 0; i < n; i++) {
        printf(" '%s:", words[i]);
        put_description(summaries[i] ? summaries[i] : "more commands");
        printf("'");
    }
    printf(" ) ;;\n");
}

static const char zsh_head[] =
    "#compdef mvmctl\n"
    "_mvmctl_vms() { local -a l; l=(${(f)\"$(mvmctl ls --names 2>/dev/null)\"}); compadd -a l }\n"
    "_mvmctl_snapshots() { local -a l; l=(${(f)\"$(mvmctl snapshot ls --names 2>/dev/null)\"}); compadd -a l }\n"
    "_mvmctl_networks() { local -a l; l=($@ ${(f)\"$(mvmctl network ls --names 2>/dev/null)\"}); compadd -a l }\n"
    "_mvmctl_copies() { local -a l; l=(${(f)\"$(mvmctl ls --names 2>/dev/null)\"}); compadd -S '' -- ${l/%/:\\/}; "
    "_files }\n"
    "_mvmctl() {\n  local cmd='' help=''\n  local -a cmds cmd_words\n  integer i\n"
    "  if [[ $words[2] = help ]] && (( CURRENT > 2 )); then help=1; shift words; (( CURRENT -= 1 )); fi\n"
    "  for (( i = 2; i < CURRENT; i++ )); do\n    case $cmd in\n      ''";

static void print_zsh(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    fputs(zsh_head, stdout);
    for (size_t i = 0; i < n_groups; i++)
        printf("|'%s'", groups[i]);
    printf(") [[ $words[i] = -* ]] || cmd=${cmd:+$cmd }$words[i] ;;\n    esac\n  done\n  case $cmd in\n");
    zsh_group("");
    for (size_t i = 0; i < n_groups; i++)
        zsh_group(groups[i]);
    /* The command's last word becomes the program's name that _arguments expects. */
    printf("  esac\n  if (( $#cmds )); then\n    _describe command cmds\n    return\n  fi\n"
           "  [[ -z $help ]] || return\n  cmd_words=(${=cmd})\n"
           "  shift $#cmd_words words; (( CURRENT -= $#cmd_words ))\n  case $cmd in\n");
    for (size_t i = 0; i < n_commands; i++)
        zsh_command(commands[i]);
    printf("  esac\n}\n[ \"$funcstack[1]\" = _mvmctl ] && _mvmctl \"$@\" || compdef _mvmctl mvmctl\n");
}

/* ---- fish ---- */

static void fish_next_words(const char *group)
{
    char words[MAX_COMMANDS][32];
    const char *summaries[MAX_COMMANDS];
    size_t n = command_next_words(group, words, summaries, MAX_COMMANDS);
    for (size_t i = 0; i < n; i++) {
        printf("complete -c mvmctl -n '__mvmctl_at \"%s\"' -a %s -d '", group, words[i]);
        put_description(summaries[i] ? summaries[i] : "more commands");
        printf("'\n");
    }
}

static void fish_option(const struct command *c, const struct option_spec *o)
{
    enum kind kind = o->argument ? kind_of(o) : KIND_NOTHING;
    printf("complete -c mvmctl -n '__mvmctl_in \"%s\"' -l %s", c->name, o->name);
    if (o->letter)
        printf(" -s %c", o->letter);
    if (o->argument)
        printf("%s", kind == KIND_FILE ? " -r -F" : " -x");
    printf(" -d '");
    put_description(o->help);
    printf("'");
    if (kind == KIND_VALUES) {
        printf(" -a '");
        put_words(o->values);
        printf("'");
    } else if (kind == KIND_NETWORK) {
        printf(" -a '");
        put_words(o->values);
        printf(" (mvmctl network ls --names 2>/dev/null)'");
    } else if (kind == KIND_FOLDER) {
        printf(" -a '(__fish_complete_directories)'");
    } else if (kind == KIND_SNAPSHOT) {
        printf(" -a '(mvmctl snapshot ls --names 2>/dev/null)'");
    }
    printf("\n");
}

static void fish_command(const struct command *c)
{
    static const struct {
        unsigned words;
        const char *what;
    } actions[] = {{WORDS_VMS, "-a '(mvmctl ls --names 2>/dev/null)'"},
                   {WORDS_SNAPSHOTS, "-a '(mvmctl snapshot ls --names 2>/dev/null)'"},
                   {WORDS_NETWORKS, "-a '(mvmctl network ls --names 2>/dev/null)'"},
                   {WORDS_COPIES, "-F -a '(for n in (mvmctl ls --names 2>/dev/null); echo $n:/; end)'"},
                   {WORDS_FOLDERS, "-a '(__fish_complete_directories)'"},
                   {WORDS_SHELLS, "-a 'bash zsh fish'"}};
    for (const struct option_spec *const *o = c->options; *o; o++)
        fish_option(c, *o);
    printf("complete -c mvmctl -n '__mvmctl_in \"%s\"' -l help -d 'show help'\n", c->name);
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
        if (c->words & actions[i].words)
            printf("complete -c mvmctl -n '__mvmctl_in \"%s\"%s' %s\n", c->name,
                   c->words & WORDS_PROGRAM ? "; and __mvmctl_first" : "", actions[i].what);
}

static void print_fish(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    /* True where the words of the command that is being typed are these; _in: and help was not asked for. */
    printf("# mvmctl completion for fish\ncomplete -c mvmctl -f\nfunction __mvmctl_at\n  set -l cmd ''\n"
           "  set -l words (commandline -opc)[2..-1]\n"
           "  test \"$words[1]\" = help; and set -e words[1]\n"
           "  for word in $words\n    switch $cmd\n      case ''");
    for (size_t i = 0; i < n_groups; i++)
        printf(" '%s'", groups[i]);
    printf("\n        string match -q -- '-*' $word; or set cmd (string trim \"$cmd $word\")\n    end\n  end\n"
           "  test \"$cmd\" = \"$argv[1]\"\nend\n"
           "function __mvmctl_in\n  set -l words (commandline -opc)\n  contains -- -- $words; and return 1\n"
           "  test \"$words[2]\" != help; and __mvmctl_at $argv[1]\nend\n"
           /* True where no word but options follows the command, which is one word. */
           "function __mvmctl_first\n  set -l words (commandline -opc)[3..-1]\n"
           "  not string match -qv -- '-*' $words\nend\n");
    fish_next_words("");
    for (size_t i = 0; i < n_groups; i++)
        fish_next_words(groups[i]);
    for (size_t i = 0; i < n_commands; i++)
        fish_command(commands[i]);
}

static int run_completion(struct args *a)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    for (size_t i = 0; a->n_words == 1 && i < ARRAY_SIZE(shells); i++) {
        if (strcmp(a->words[0], shells[i].shell) == 0) {
            shells[i].print();
            return 0;
        }
    }
    return ui_usage("mvmctl completion bash, zsh or fish", "completion: %s",
                    a->n_words ? "no such shell" : "no shell named");
}

/* ---- Its description ---- */

const struct command cmd_completion = {
    .name = "completion",
    .synopsis = "bash | zsh | fish",
    .summary = "print a completion script",
    .text = "Prints a script that completes commands, options and VM names in that shell: source <(mvmctl "
            "completion bash).",
    .options = NO_OPTIONS,
    .words = WORDS_SHELLS,
    .run = run_completion,
};
