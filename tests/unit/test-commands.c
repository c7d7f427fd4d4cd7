/* Each command's description, which help, man page and completion are made of, and what it refuses before it does
 * anything. */
#include "captured.h"
#include "tap.h"

#include "base/path.h"
#include "cli/cli.h"
#include "cli/options.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

extern const struct command cmd_bench_boot, cmd_bench_exec, cmd_bench_build, cmd_bench_density, cmd_build,
    cmd_build_log, cmd_up, cmd_run, cmd_exec, cmd_cp, cmd_ls, cmd_inspect, cmd_stats, cmd_logs, cmd_down, cmd_pause,
    cmd_resume, cmd_fork, cmd_port, cmd_forward, cmd_open, cmd_network_create, cmd_network_ls, cmd_network_rm,
    cmd_snapshot_create, cmd_snapshot_ls, cmd_snapshot_rm, cmd_dev_up, cmd_dev_down, cmd_dev_status,
    cmd_dev_cache_inspect, cmd_dev_cache_prune, cmd_dev_cache_repair, cmd_dev_image_export, cmd_dev_image_sign,
    cmd_dev_image_verify, cmd_image_verify, cmd_persistent_start, cmd_persistent_status, cmd_persistent_submit,
    cmd_persistent_stop, cmd_doctor, cmd_version, cmd_completion, cmd_help;

static char *home;

/* ---- Descriptions ---- */

/* NULL, or what is wrong with the option at i. */
static const char *option_fault(const struct command *c, int i)
{
    const struct option_spec *o = c->options[i];
    if (!*o->name || strspn(o->name, "abcdefghijklmnopqrstuvwxyz-") != strlen(o->name))
        return "an option's name has other characters than small letters";
    if (!o->help || !*o->help || strchr(o->help, '\n') || o->help[strlen(o->help) - 1] == '.')
        return "an option's help is no clause in one line";
    if (strlen(o->name) + (o->argument ? strlen(o->argument) : 0) > 56)
        return "an option is too wide for its column";
    if (o->values && (!o->argument || !*o->values || strstr(o->values, "||") || strchr(o->values, ' ')))
        return "an option's values are no words";
    if (strcmp(o->name, "help") == 0 || o->letter == 'h')
        return "an option takes the place of --help";
    for (int k = 0; k < i; k++)
        if (strcmp(c->options[k]->name, o->name) == 0 || (o->letter && c->options[k]->letter == o->letter))
            return "two options have one name";
    return NULL;
}

static const char *json_fault(const char *json)
{
    for (const char *line = json, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        const char *colon = strchr(line, ':');
        if (!end)
            return "the last field has no line of its own";
        if (!colon || colon > end - 3 || colon[1] != ' ' || end - line > 510)
            return "a field has no meaning";
        if (strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_, ") < (size_t)(colon - line))
            return "a field's name has other characters";
    }
    return NULL;
}

static const char *text_fault(const struct command *c)
{
    if (!c->name || !*c->name || strlen(c->name) > 40)
        return "it has no name";
    for (const char *word = c->name; *word; word += strcspn(word, " "), word += *word == ' ')
        if (strcspn(word, " ") == 0 || strcspn(word, " ") > 31)
            return "a word of its name is empty or too long";
    if (!c->summary || !islower((unsigned char)c->summary[0]) || c->summary[strlen(c->summary) - 1] == '.')
        return "its summary is no clause";
    if (!c->text || !*c->text || c->text[strlen(c->text) - 1] == '\n')
        return "its text does not end with a sentence";
    for (const char *s = strchr(c->text, '\n'); s; s = strchr(s + 2, '\n'))
        if (s[1] != '\n' || s[2] == '\n' || s[2] == ' ')
            return "a paragraph of its text does not begin behind one blank line";
    return strstr(c->text, "  ") ? "its text has two spaces" : NULL;
}

static const char *fault(const struct command *c)
{
    const unsigned all =
        WORDS_VMS | WORDS_SNAPSHOTS | WORDS_COPIES | WORDS_FOLDERS | WORDS_SHELLS | WORDS_NETWORKS | WORDS_PROGRAM;
    bool json = false;
    const char *why = text_fault(c);
    int n = 0;
    for (; !why && c->options[n]; n++) {
        json |= c->options[n] == &opt_json || strcmp(c->options[n]->name, "json") == 0;
        why = option_fault(c, n);
    }
    if (why)
        return why;
    if (n > MAX_OPTIONS || (c->words & ~all) || !c->run || !c->synopsis)
        return "something of it is missing, or too much";
    if (json != (c->json != NULL))
        return "--json and its fields do not belong together";
    return c->json ? json_fault(c->json) : NULL;
}

static void test_descriptions(void)
{
    for (size_t i = 0; i < n_commands; i++) {
        const char *why = fault(commands[i]);
        ok(!why, "the description of '%s' is sound%s%s", commands[i]->name, why ? ": " : "", why ? why : "");
    }
    bool found = true;
    for (size_t i = 0; i < n_commands; i++) {
        char name[64], *words[8];
        int n = 0, used;
        snprintf(name, sizeof(name), "%s", commands[i]->name);
        for (char *w = strtok(name, " "); w; w = strtok(NULL, " "))
            words[n++] = w;
        words[n] = NULL;
        found &= command_find(n, words, &used) == commands[i] && used == n;
    }
    ok(found && n_commands <= MAX_COMMANDS, "each command is found by its words, and no two have the same");
}

/* ---- Command lines ---- */

/* Runs a command with the words of line; its exit status. What it prints replaces the content of out and errors. */
static int run(const struct command *c, const char *line, struct buf *out, struct buf *errors)
{
    char text[256], *words[32] = {text};
    int n = 1;
    struct args *a = calloc(1, sizeof(*a));
    snprintf(text, sizeof(text), "%s", line);
    for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
        words[n++] = w;
    ui_init(strstr(line, "--json") != NULL, false);
    struct captured o = capture(STDOUT_FILENO), e = capture(STDERR_FILENO);
    int status = args_parse(a, c, n, words);
    if (status == 0)
        status = c->run(a);
    capture_end(&e, errors);
    capture_end(&o, out);
    ui_init(false, false);
    free(a);
    return status;
}

static bool is_untouched(const char *folder)
{
    DIR *d = opendir(folder);
    unsigned n = 0;
    for (const struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n == 0;
}

static const struct {
    const struct command *c;
    const char *line, *words; /* that the message has */
} refused[] = {
    {&cmd_bench_boot, "--flake . --config x.toml", "more than one thing to measure"},
    {&cmd_bench_boot, "word", "unexpected argument 'word'"},
    {&cmd_bench_boot, "--compare a.toml", "--compare needs two things"},
    {&cmd_bench_boot, "--config x.toml --attr y", "--config and --attr at once"},
    {&cmd_bench_exec, "--", "no program to run"},
    {&cmd_bench_build, "-- true", "unexpected argument '--'"},
    {&cmd_bench_density, "--flake . --config x.toml", "more than one thing to measure"},
    {&cmd_build, "hello", "unexpected argument 'hello'"},
    {&cmd_build, "-- x", "unexpected argument '--'"},
    {&cmd_build, "--profile a --attr b", "--profile and --attr at once"},
    {&cmd_build, "--flake .#a --attr b", "'#a' and --attr at once"},
    {&cmd_build_log, "a b", "unexpected argument 'b'"},
    {&cmd_build_log, "--list a", "unexpected argument 'a'"},
    {&cmd_build_log, "--json", "--json needs --list"},
    {&cmd_up, "a b", "more than one image"},
    {&cmd_up, "a -p 80", "port '80': it names one port only"},
    {&cmd_up, "a -p 8080:0", "port 0 of the guest"},
    {&cmd_up, "a -p 8080:80 -p 8080:81", "port '127.0.0.1:8080': it is given twice"},
    {&cmd_up, "a -p 70000:80", "port '70000:80': no such port"},
    {&cmd_run, "-p x:80", "port 'x:80': not a port number"},
    {&cmd_up, "--from a -P", "--from and --publish-all"},
    {&cmd_exec, "a -p 8080:80 true", "exec: --publish has no effect without --flake"},
    {&cmd_port, "", "one VM's name is wanted"},
    {&cmd_port, "a b", "one VM's name is wanted"},
    {&cmd_port, "a --publish 1:2:3", "no such address"},
    {&cmd_forward, "a", "what leads where"},
    {&cmd_forward, "a 80", "it names one port only"},
    {&cmd_open, "", "one VM's name is wanted"},
    {&cmd_open, "a:http", "port 'http'"},
    {&cmd_up, "a --flake .", "more than one image"},
    {&cmd_up, "a --attr b", "--attr and an image"},
    {&cmd_up, "--from a:b --memory 1G", "--from and --memory"},
    {&cmd_up, "--from a:b --flake .", "--from and --flake"},
    {&cmd_up, "a --memory 63M", "63M"},
    {&cmd_up, "a --cpus 0", "0"},
    {&cmd_up, "a --name ../b", "../b"},
    {&cmd_up, "--from a/b", "a/b"},
    {&cmd_up, "a --attach --json", "--json and --attach at once"},
    {&cmd_run, "hello", "unexpected argument 'hello'"},
    {&cmd_run, "--memory x", "x"},
    {&cmd_exec, "", "no VM named"},
    {&cmd_exec, "web", "no program to run"},
    {&cmd_exec, "--env A web true", "variable 'A' has no value"},
    {&cmd_exec, "--env =1 web true", "variable '=1' has no name"},
    {&cmd_exec, "--memory 1G web true", "--memory has no effect without --flake"},
    {&cmd_cp, "a", "expected a source and a destination"},
    {&cmd_cp, "a b", "neither is in a VM"},
    {&cmd_cp, "web:/a web:/b", "one of the two has to be on this machine"},
    {&cmd_cp, "web:a b", "'a' is no absolute path in the guest"},
    {&cmd_ls, "web", "unexpected argument"},
    {&cmd_ls, "--json --names", "--json and --names at once"},
    {&cmd_inspect, "", "one VM's name is wanted"},
    {&cmd_inspect, "a b", "one VM's name is wanted"},
    {&cmd_logs, "", "no VM named"},
    {&cmd_logs, "a b", "more than one VM named"},
    {&cmd_logs, "a --tail -1", "-1"},
    {&cmd_logs, "a --since never", "never"},
    {&cmd_down, "", "no VM named"},
    {&cmd_down, "a --all", "names and --all at once"},
    {&cmd_down, "a --timeout -1", "-1"},
    {&cmd_pause, "", "no VM named"},
    {&cmd_resume, "a b", "more than one VM"},
    {&cmd_fork, "a", "the name of its copy"},
    {&cmd_fork, "a ../b", "../b"},
    {&cmd_snapshot_create, "", "a VM and at most a tag are wanted"},
    {&cmd_snapshot_create, "a b/c", "b/c"},
    {&cmd_snapshot_ls, "a b", "unexpected argument"},
    {&cmd_network_create, "", "one name is wanted"},
    {&cmd_network_create, "a b", "one name is wanted"},
    {&cmd_network_create, "app --policy half", "--policy half"},
    {&cmd_network_create, "app --policy none --allow example.org", "which allows nothing"},
    {&cmd_network_ls, "app", "unexpected argument"},
    {&cmd_network_rm, "", "one name is wanted"},
    {&cmd_up, "a --network Pub/lic", "--network Pub/lic"},
    {&cmd_up, "a --network app --allow example.org", "--allow and network 'app'"},
    {&cmd_snapshot_rm, "", "a VM and a tag are wanted"},
    {&cmd_snapshot_rm, "a b --all", "a tag and --all at once"},
    {&cmd_dev_up, "a", "unexpected argument"},
    {&cmd_dev_up, "--flake .", "--flake has no effect without --shell"},
    {&cmd_dev_down, "a", "unexpected argument"},
    {&cmd_dev_status, "a", "dev status: unexpected argument"},
    {&cmd_dev_cache_inspect, "a", "dev cache inspect: unexpected argument"},
    {&cmd_dev_cache_prune, "a", "dev cache prune: unexpected argument"},
    {&cmd_dev_cache_repair, "a", "dev cache repair: unexpected argument"},
    {&cmd_dev_image_export, "", "where to?"},
    {&cmd_dev_image_export, "--to x --kind y", "kind 'y'"},
    {&cmd_dev_image_export, "--to x --version 0", "version '0'"},
    {&cmd_dev_image_sign, "folder", "with which key?"},
    {&cmd_dev_image_sign, "--key k", "name one folder"},
    {&cmd_dev_image_verify, "", "name one folder or URL"},
    {&cmd_dev_image_verify, "ftp://a/b", "ftp://a/b"},
    {&cmd_image_verify, "a", "unexpected argument"},
    {&cmd_persistent_start, "a", "unexpected argument"},
    {&cmd_persistent_start, "--workspace /no/such/folder", "workspace '/no/such/folder'"},
    {&cmd_persistent_status, "a", "unexpected argument"},
    {&cmd_persistent_submit, "a", "unexpected argument"},
    {&cmd_persistent_stop, "a", "unexpected argument"},
    {&cmd_doctor, "a", "unexpected argument 'a'"},
    {&cmd_version, "a", "unexpected argument 'a'"},
    {&cmd_completion, "", "no shell named"},
    {&cmd_completion, "tcsh", "no such shell"},
    {&cmd_help, "nothing", "there is no command 'nothing'"},
};

static void test_refused(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(1 << 20);
    CLEAN_BUF struct buf errors = BUF_INIT(1 << 20);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        int status = run(refused[i].c, refused[i].line, &out, &errors);
        const char *text = buf_cstr(&errors);
        ok(status == EXIT_USAGE && (strstr(text, "[usage] ") || strstr(text, "\"phase\":\"usage\"")) &&
               strstr(text, refused[i].words) && (strstr(text, "\nmvmctl: hint: ") || strstr(text, "\"hint\":\"")),
           "'%s %s' is a usage error", refused[i].c->name, refused[i].line);
        if (status != EXIT_USAGE || !strstr(text, refused[i].words))
            printf("# %d: %s", status, text);
    }
    ok(is_untouched(home), "of all these refusals nothing is left in MVM_HOME");
    bool unknown = true, helped = true;
    for (size_t i = 0; i < n_commands; i++) {
        unknown &= run(commands[i], "--no-such-option", &out, &errors) == EXIT_USAGE && out.len == 0;
        helped &= run(commands[i], "--help", &out, &errors) == -1 && errors.len == 0 &&
                  strncmp(buf_cstr(&out), "Usage: mvmctl ", 14) == 0 &&
                  strncmp(buf_cstr(&out) + 14, commands[i]->name, strlen(commands[i]->name)) == 0;
    }
    ok(unknown, "no command has an option that it does not know");
    ok(helped, "each command shows its help");
}

/* ---- What is not there ---- */

static void test_not_there(void)
{
    static const struct {
        const struct command *c;
        const char *line;
        int status;
    } absent[] = {
        {&cmd_inspect, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_stats, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_logs, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_down, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_pause, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_resume, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_fork, "none new", EXIT_RUNTIME_BACKEND},
        {&cmd_cp, "none:/a /tmp/b", EXIT_RUNTIME_BACKEND},
        {&cmd_exec, "none true", EXIT_EXEC_FAILED},
        {&cmd_snapshot_create, "none", EXIT_RUNTIME_BACKEND},
        {&cmd_snapshot_rm, "none tag", EXIT_RUNTIME_BACKEND},
        {&cmd_network_rm, "nothing", EXIT_RUNTIME_BACKEND},
        {&cmd_up, "image --network nothing", EXIT_RUNTIME_BACKEND},
        {&cmd_up, "--from none:tag", EXIT_RUNTIME_BACKEND},
        {&cmd_up, "no-such-image", EXIT_RUNTIME_BACKEND},
        {&cmd_persistent_submit, "", EXIT_BUILDER_BOOTSTRAP},
    };
    CLEAN_BUF struct buf out = BUF_INIT(1 << 20);
    CLEAN_BUF struct buf errors = BUF_INIT(1 << 20);
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
        int status = run(absent[i].c, absent[i].line, &out, &errors);
        ok(status == absent[i].status && out.len == 0 && strstr(buf_cstr(&errors), "mvmctl: ["),
           "'%s %s' fails with %d: it is not there", absent[i].c->name, absent[i].line, absent[i].status);
        if (status != absent[i].status)
            printf("# %d: %s", status, buf_cstr(&errors));
    }
    ok(run(&cmd_inspect, "none --json", &out, &errors) == EXIT_RUNTIME_BACKEND &&
           strstr(buf_cstr(&out), "\"status\":\"error\"") && strstr(buf_cstr(&out), "\"exit_status\":14"),
       "with --json a failure is an object on standard output");
}

static void test_empty(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(1 << 20);
    CLEAN_BUF struct buf errors = BUF_INIT(1 << 20);
    ok(run(&cmd_ls, "--names", &out, &errors) == 0 && out.len == 0 && errors.len == 0, "where no VM is ls names none");
    ok(run(&cmd_stats, "--json", &out, &errors) == 0 && strcmp(buf_cstr(&out), "{\"vms\":[]}\n") == 0,
       "where no VM runs none has used anything");
    ok(run(&cmd_ls, "--json", &out, &errors) == 0 && strcmp(buf_cstr(&out), "{\"vms\":[]}\n") == 0,
       "and its object has an empty list");
    ok(run(&cmd_network_ls, "--json", &out, &errors) == 0 && strcmp(buf_cstr(&out), "{\"networks\":[]}\n") == 0,
       "where no network is none is listed");
    ok(run(&cmd_snapshot_ls, "--names", &out, &errors) == 0 && out.len == 0, "where no snapshot is none is named");
    ok(run(&cmd_build_log, "--list --json", &out, &errors) == 0 && strstr(buf_cstr(&out), "[]"),
       "where nothing was built no build is listed");
    ok(run(&cmd_down, "--all --json", &out, &errors) == 0, "where no VM is all of them are stopped");
    ok(run(&cmd_persistent_status, "--json", &out, &errors) == 0 && strstr(buf_cstr(&out), "\"state\":\""),
       "a persistent builder that does not run has a state");
    ok(run(&cmd_dev_cache_inspect, "", &out, &errors) == EXIT_BUILDER_BOOTSTRAP &&
           strstr(buf_cstr(&errors), "mvmctl's own files") &&
           strstr(buf_cstr(&errors), "hint: run mvmctl from its build"),
       "a program that has no files of mvmctl beside it says so");
    ok(run(&cmd_image_verify, "--json", &out, &errors) == 0 && out.len, "where no image is none is broken");
    ok(run(&cmd_version, "", &out, &errors) == 0 && strcmp(buf_cstr(&out), "mvmctl " MVM_VERSION "\n") == 0,
       "version prints the version");
    ok(run(&cmd_help, "dev cache", &out, &errors) == 0 && strstr(buf_cstr(&out), "Usage: mvmctl dev cache COMMAND"),
       "help shows a group of commands");
    ok(run(&cmd_help, "dev cache prune", &out, &errors) == 0 && strstr(buf_cstr(&out), "Usage: mvmctl dev cache prune"),
       "help shows a command of several words");
}

int main(void)
{
    commands_install();
    home = strdup(tap_folder());
    CLEAN_FREE char *cache = path_join(home, ".cache", NULL);
    setenv("MVM_HOME", home, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    setenv("NO_COLOR", "1", 1);
    test_descriptions();
    test_refused();
    test_not_there();
    test_empty();
    (void)!path_remove_tree(AT_FDCWD, home);
    free(home);
    return tap_end();
}
