/* mvmctl.1 from the table: `mvmctl --man`, run by the build. Macros: mdoc(7). */
#include "cache/config.h"
#include "cli/cli.h"
#include "vmm/vmm.h"

#include <stdio.h>
#include <string.h>

#define MAN_WIDTH 76

/* One word for roff: backslashes and hyphens mean something there, and a dot or quote at the start of a line. */
static void put_word(const char *word, size_t n, bool line_start)
{
    if (line_start && (*word == '.' || *word == '\''))
        fputs("\\&", stdout);
    for (size_t i = 0; i < n; i++) {
        if (word[i] == '\\')
            fputs("\\e", stdout);
        else if (word[i] == '-')
            fputs("\\-", stdout);
        else
            putchar(word[i]);
    }
}

/* Text for roff, in short lines; a sentence ends a line, so that roff spaces it right. */
static void put_text(const char *s)
{
    size_t column = 0;
    while (*s) {
        size_t n = strcspn(s, " \n");
        bool sentence = column > 1 && s[-1] == ' ' && s[-2] == '.';
        if (column && (column + 1 + n > MAN_WIDTH || sentence)) {
            putchar('\n');
            column = 0;
        }
        if (column)
            putchar(' ');
        put_word(s, n, column == 0);
        column += n + 1;
        s += n;
        if (strncmp(s, "\n\n", 2) == 0) {
            fputs("\n.Pp\n", stdout);
            column = 0;
        }
        s += strspn(s, " \n");
    }
    putchar('\n');
}

static void put_option(const struct option_spec *o)
{
    printf(".It ");
    if (o->letter)
        printf("Fl %c , ", o->letter);
    printf("Fl \\-%s", o->name);
    if (o->argument)
        printf(" Ar %s", o->argument);
    putchar('\n');
    put_text(o->help);
}

static void put_json(const char *text)
{
    printf(".Pp\nWith\n.Fl \\-json\nthe object has:\n.Bl -tag -width 12n -compact\n");
    while (*text) {
        size_t n = strcspn(text, "\n"), colon = strcspn(text, ":");
        char line[512];
        snprintf(line, sizeof(line), "%.*s", (int)(n - colon - 2), text + colon + 2);
        printf(".It %.*s\n", (int)colon, text);
        put_text(line);
        text += n + (text[n] == '\n');
    }
    printf(".El\n");
}

static void put_command(const struct command *c)
{
    printf(".Ss mvmctl %s\n.Bd -ragged -compact\n.Ic mvmctl %s\n", c->name, c->name);
    put_text(c->synopsis);
    printf(".Ed\n.Pp\n");
    put_text(c->text);
    if (c->options[0]) {
        printf(".Bl -tag -width 22n\n");
        for (const struct option_spec *const *o = c->options; *o; o++)
            put_option(*o);
        printf(".El\n");
    }
    if (c->json)
        put_json(c->json);
}

static const struct {
    const char *tag, *text;
} environment[] =
    {
        {"MVM_HOME", "folder of VMs and dev images (default: ~/.mvm)"},
        {"MVM_CACHE_DIR",
         "folder of built images and the builder's store (default: $XDG_CACHE_HOME/mvm, or ~/.cache/mvm)"},
        {"MVM_STORE_CAP",
         "size that the builder's store may have, as 300M or 32G (default: 16G); a larger one grows in place, a "
         "smaller one is made anew"},
        {"MVM_NO_PERSISTENT_BUILDER", "1: as --no-persistent-builder"},
        {"MVM_ACCEL", VMM_ACCELS ": takes this acceleration, or fails, instead of choosing"},
        {"NO_COLOR", "no colors, even on a terminal"},
},
  files[] =
      {
          {"~/.mvm/config.toml", "settings: see CONFIGURATION"},
          {"~/.mvm/dev/current/",
           "the dev image: a seed in which the builder image is built (also dev/prebuilt/v*/, dev/builds/*/)"},
          {"~/.mvm/dev/prebuilt/vVERSION/", "published dev images that were verified"},
          {"~/.mvm/dev/releases.json", "the newest version used of each published image: an older one is refused"},
          {"~/.mvm/run/persistent-builder.json", "what the persistent builder was started for"},
          {"~/.cache/mvm/builder-vm/ARCH/", "the builder image"},
          {"~/.mvm/vms/NAME/",
           "a VM: run.json, console.log, agent.log, vmm.log, the times of their lines, control.sock"},
          {"~/.cache/mvm/artifacts/DIGEST/",
           "a built image: vmlinux, rootfs.ext4, initrd, cmdline.txt, image.json, manifest.json"},
          {"~/.cache/mvm/builds/", "which inputs gave which images"},
          {"~/.cache/mvm/kernels/", "the slim kernel, where tools/build-kernel has built it"},
          {"~/.cache/mvm/logs/", "logs of builds, and what became of them"},
          {"~/.cache/mvm/builder-vm/", "the builder's store disk, sparse"},
          {"~/.cache/mvm/downloads/", "half files of published images"},
          {"~/.cache/mvm/stage0/", "the distribution's packages that builders are made of"},
},
  statuses[] = {
      {"0", "all went well"},
      {"1", "a failure that belongs to no phase, such as a standard output that cannot be written"},
      {"2", "the command line is wrong (usage)"},
      {"3", "folders or settings are wrong (config)"},
      {"10", "the builder cannot be made or started (builder-bootstrap)"},
      {"11", "the flake cannot be read or evaluated, or lacks the attribute (nix-eval)"},
      {"12", "a derivation fails to build (nix-build)"},
      {"13", "the output is no image, or does not come back whole (artifact-extraction)"},
      {"14", "the VM does not boot, or is not there (runtime-backend)"},
      {"15", "a boot costs more than it may: bench --budget, or the image's bootBudget (boot-budget)"},
      {"16", "up and run: a service of the image has failed, or is not ready in time (services)"},
      {"125", "exec: mvm itself failed; otherwise exec exits as the program does"},
      {"128 + N", "ended by signal N: 130 where interrupted, 141 where the reader of standard output has gone away"},
};

#define PUT_LIST(title, list)                                                                                          \
    do {                                                                                                               \
        printf(".Sh " title "\n.Bl -tag -width 10n\n");                                                                \
        for (size_t i_ = 0; i_ < ARRAY_SIZE(list); i_++) {                                                             \
            printf(".It %s\n", list[i_].tag);                                                                          \
            put_text(list[i_].text);                                                                                   \
        }                                                                                                              \
        printf(".El\n");                                                                                               \
    } while (0)

static void put_configuration(void)
{
    printf(".Sh CONFIGURATION\n");
    put_text(
        "The file config.toml in MVM_HOME, in TOML. A key that is not known, a value of another type or out of range "
        "is an error that names the line.");
    printf(".Bl -tag -width 10n\n");
    for (size_t i = 0; config_key(i); i++) {
        const struct config_key *k = config_key(i), *before = i ? config_key(i - 1) : NULL;
        if (!before || strcmp(before->table, k->table) != 0)
            printf(".It [%s]\n", k->table);
        printf(".It %s = %s\n", k->name, k->value);
        put_text(k->help);
    }
    printf(".El\n");
}

int print_man_page(void)
{
    printf(".Dd November 23, 2026\n.Dt MVMCTL 1\n.Os\n.Sh NAME\n.Nm mvmctl\n.Nd build microVM images from Nix flakes "
           "and boot them\n"
           ".Sh SYNOPSIS\n.Nm mvmctl\n.Ar command\n.Op Ar option ...\n.Sh DESCRIPTION\n");
    put_text("mvmctl builds a microVM image from a Nix flake inside a builder VM, keeps kernel and root file system in "
             "a cache on the "
             "host, and boots them with a microVM backend. The host needs no Nix.\n\n"
             "Results are printed on standard output, progress and messages on standard error. An error is one line, "
             "mvmctl: [phase] what: why, lines of detail behind a bar, and a line with a hint. With --json, standard "
             "output has one object "
             "and nothing else; on failure it has status (error), phase, kind, error, derivation (the one that failed, "
             "or null), hint, detail and "
             "exit_status, and standard error has one JSON object a line.");
    printf(".Sh COMMANDS\n");
    for (size_t i = 0; i < n_commands; i++)
        put_command(commands[i]);
    PUT_LIST("ENVIRONMENT", environment);
    PUT_LIST("FILES", files);
    put_configuration();
    PUT_LIST("EXIT STATUS", statuses);
    printf(".Sh EXAMPLES\n.Bd -literal -offset indent\nmvmctl build \\-\\-flake .\nmvmctl up \\-\\-flake . \\-\\-name "
           "web \\-\\-memory 512M\n"
           "mvmctl exec web hello\nmvmctl exec \\-it web sh\nmvmctl down web\n.Ed\n");
    return 0;
}
