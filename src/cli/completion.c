/* Completion scripts from the table. VM names come from `mvmctl ls --names` when the key is pressed. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static void put_words(const char *values)
{
    for (; *values; values++)
        putchar(*values == '|' ? ' ' : *values);
}

static void bash_case(const struct command *c)
{
    printf("    '%s') opts=\"--help", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++)
        printf(" --%s", (*o)->name);
    printf("\"; vms=%d ;;\n", c->names_vms);
}

/* The words that may follow a group of commands, as a shell case. */
static void put_next_words(const char *group)
{
    char words[MAX_COMMANDS][32];
    size_t n = command_next_words(group, words, NULL, MAX_COMMANDS);
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i ? " " : "", words[i]);
}

static void print_bash(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    /* cmd becomes the words of the command that is being typed. */
    printf("# mvmctl completion for bash\n_mvmctl() {\n"
           "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd='' opts='' next='' vms=0 i\n"
           "  COMPREPLY=()\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    case $cmd in\n      ''");
    for (size_t i = 0; i < n_groups; i++)
        printf("|'%s'", groups[i]);
    printf(") case ${COMP_WORDS[i]} in -*) ;; *) cmd=${cmd:+$cmd }${COMP_WORDS[i]} ;; esac ;;\n    esac\n  done\n"
           "  case $cmd in\n    '') next=\"");
    put_next_words("");
    printf("\" ;;\n");
    for (size_t i = 0; i < n_groups; i++) {
        printf("    '%s') next=\"", groups[i]);
        put_next_words(groups[i]);
        printf("\" ;;\n");
    }
    printf(
        "  esac\n  if [ -n \"$next\" ]; then\n    COMPREPLY=($(compgen -W \"$next\" -- \"$cur\"))\n    return\n  fi\n"
        "  case $prev in\n    --flake) COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n");
    const char *done = "";
    for (size_t i = 0; i < n_commands; i++) {
        for (const struct option_spec *const *o = commands[i].options; *o; o++) {
            if (!(*o)->values || strstr(done, (*o)->name))
                continue;
            printf("    --%s) COMPREPLY=($(compgen -W \"", (*o)->name);
            put_words((*o)->values);
            printf("\" -- \"$cur\")); return ;;\n");
        }
        done = i == 0 ? "system" : i == 1 ? "system hypervisor" : done;
    }
    printf("  esac\n  case $cmd in\n");
    for (size_t i = 0; i < n_commands; i++)
        bash_case(&commands[i]);
    printf("  esac\n  case $cur in\n    -*) COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\")) ;;\n"
           "    *) [ $vms = 1 ] && COMPREPLY=($(compgen -W \"$(mvmctl ls --names 2>/dev/null)\" -- \"$cur\"))\n"
           "       [ \"$cmd\" = completion ] && COMPREPLY=($(compgen -W \"bash zsh fish\" -- \"$cur\")) ;;\n  esac\n}\n"
           "complete -F _mvmctl mvmctl\n");
}

/* Single quotes and brackets mean something in zsh's and fish's descriptions. */
static void put_description(const char *s)
{
    for (; *s; s++)
        if (!strchr("'[]:\\`$\"", *s))
            putchar(*s);
}

static void zsh_case(const struct command *c)
{
    printf("    '%s') _arguments", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++) {
        printf(" '--%s[", (*o)->name);
        put_description((*o)->help);
        printf("]");
        if ((*o)->argument) {
            printf(":%s:", (*o)->argument);
            if ((*o)->values) {
                putchar('(');
                put_words((*o)->values);
                putchar(')');
            } else if (strcmp((*o)->name, "flake") == 0) {
                printf("_files -/");
            }
        }
        putchar('\'');
    }
    printf(" '--help[show help]'%s ;;\n", c->names_vms ? " '*:vm:($(mvmctl ls --names 2>/dev/null))'" : "");
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

static void print_zsh(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    printf("#compdef mvmctl\n_mvmctl() {\n  local cmd=''\n  local -a cmds\n  integer i\n"
           "  for (( i = 2; i < CURRENT; i++ )); do\n    case $cmd in\n      ''");
    for (size_t i = 0; i < n_groups; i++)
        printf("|'%s'", groups[i]);
    printf(") [[ $words[i] = -* ]] || cmd=${cmd:+$cmd }$words[i] ;;\n    esac\n  done\n  case $cmd in\n");
    zsh_group("");
    for (size_t i = 0; i < n_groups; i++)
        zsh_group(groups[i]);
    printf("  esac\n  if (( $#cmds )); then\n    _describe command cmds\n    return\n  fi\n"
           "  integer skip=${#${(z)cmd}}\n  shift $skip words; (( CURRENT -= skip ))\n  case $cmd in\n");
    for (size_t i = 0; i < n_commands; i++)
        zsh_case(&commands[i]);
    printf("  esac\n}\n[ \"$funcstack[1]\" = _mvmctl ] && _mvmctl \"$@\" || compdef _mvmctl mvmctl\n");
}

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

static void fish_command(const struct command *c)
{
    for (const struct option_spec *const *o = c->options; *o; o++) {
        printf("complete -c mvmctl -n '__mvmctl_at \"%s\"' -l %s%s -d '", c->name, (*o)->name,
               (*o)->argument ? " -x" : "");
        put_description((*o)->help);
        printf("'");
        if ((*o)->values) {
            printf(" -a '");
            put_words((*o)->values);
            printf("'");
        } else if (strcmp((*o)->name, "flake") == 0) {
            printf(" -a '(__fish_complete_directories)'");
        }
        printf("\n");
    }
    if (c->names_vms)
        printf("complete -c mvmctl -n '__mvmctl_at \"%s\"' -a '(mvmctl ls --names 2>/dev/null)'\n", c->name);
}

static void print_fish(void)
{
    char groups[MAX_COMMANDS][64];
    size_t n_groups = command_groups(groups, MAX_COMMANDS);
    /* True where the words of the command that is being typed are these. */
    printf("# mvmctl completion for fish\ncomplete -c mvmctl -f\nfunction __mvmctl_at\n  set -l cmd ''\n"
           "  for word in (commandline -opc)[2..-1]\n    switch $cmd\n      case ''");
    for (size_t i = 0; i < n_groups; i++)
        printf(" '%s'", groups[i]);
    printf("\n        string match -q -- '-*' $word; or set cmd (string trim \"$cmd $word\")\n    end\n  end\n"
           "  test \"$cmd\" = \"$argv[1]\"\nend\n");
    fish_next_words("");
    for (size_t i = 0; i < n_groups; i++)
        fish_next_words(groups[i]);
    for (size_t i = 0; i < n_commands; i++)
        fish_command(&commands[i]);
}

int cmd_completion(struct args *a)
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
