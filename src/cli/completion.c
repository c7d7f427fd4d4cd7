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
    printf("    %s) opts=\"--help", c->name);
    for (const struct option_spec *const *o = c->options; *o; o++)
        printf(" --%s", (*o)->name);
    printf("\"; vms=%d ;;\n", c->names_vms);
}

static void print_bash(void)
{
    printf("# mvmctl completion for bash\n_mvmctl() {\n"
           "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} opts='' vms=0\n"
           "  COMPREPLY=()\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < n_commands; i++)
        printf("%s%s", i ? " " : "", commands[i].name);
    printf("\" -- \"$cur\"))\n    return\n  fi\n  case $prev in\n    --flake) COMPREPLY=($(compgen -d -- \"$cur\")); "
           "return ;;\n");
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
    printf("    %s) _arguments", c->name);
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

static void print_zsh(void)
{
    printf("#compdef mvmctl\n_mvmctl() {\n  if (( CURRENT == 2 )); then\n    local -a cmds\n    cmds=(");
    for (size_t i = 0; i < n_commands; i++) {
        printf(" '%s:", commands[i].name);
        put_description(commands[i].summary);
        printf("'");
    }
    printf(" )\n    _describe command cmds\n    return\n  fi\n  local cmd=$words[2]\n  shift words; (( CURRENT-- ))\n  "
           "case $cmd in\n");
    for (size_t i = 0; i < n_commands; i++)
        zsh_case(&commands[i]);
    printf("  esac\n}\n[ \"$funcstack[1]\" = _mvmctl ] && _mvmctl \"$@\" || compdef _mvmctl mvmctl\n");
}

static void print_fish(void)
{
    printf("# mvmctl completion for fish\ncomplete -c mvmctl -f\n");
    for (size_t i = 0; i < n_commands; i++) {
        const struct command *c = &commands[i];
        printf("complete -c mvmctl -n __fish_use_subcommand -a %s -d '", c->name);
        put_description(c->summary);
        printf("'\n");
        for (const struct option_spec *const *o = c->options; *o; o++) {
            printf("complete -c mvmctl -n '__fish_seen_subcommand_from %s' -l %s%s -d '", c->name, (*o)->name,
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
            printf("complete -c mvmctl -n '__fish_seen_subcommand_from %s' -a '(mvmctl ls --names 2>/dev/null)'\n",
                   c->name);
    }
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
