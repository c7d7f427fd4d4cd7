#include "tap.h"

#include "cli/cli.h"
#include "cli/publish.h"

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void memory(const char *text, uint64_t want)
{
    struct mvm_error e = MVM_ERROR_INIT;
    uint64_t mib = 0;
    int r = parse_memory(text, &mib, &e);
    ok(want ? r == 0 && mib == want : r == -EINVAL && e.phase == MVM_PHASE_USAGE && e.hint[0], "memory '%s'%s", text,
       want ? "" : " is refused");
}

static void test_values(void)
{
    memory("512M", 512);
    memory("512", 512);
    memory("0.5G", 512);
    memory("64m", 64);
    static const char *const bad[] = {"",    "0",     "abc", "1T",  "63M", "-5M",
                                      "1e3", "0x100", "5 M", "1GG", "nan", "99999999999999999999999G"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        memory(bad[i], 0);
    struct mvm_error e = MVM_ERROR_INIT;
    unsigned cpus;
    uint64_t ms;
    ok(parse_cpus("4", &cpus, &e) == 0 && cpus == 4 && parse_cpus("0", &cpus, &e) < 0 &&
           parse_cpus("65", &cpus, &e) < 0 && parse_cpus("2x", &cpus, &e) < 0 && parse_cpus("-1", &cpus, &e) < 0,
       "processors");
    ok(parse_timeout("2.5", &ms, &e) == 0 && ms == 2500 && parse_timeout("0", &ms, &e) < 0 &&
           parse_timeout("nan", &ms, &e) < 0 && parse_timeout("1e9", &ms, &e) < 0,
       "timeouts");
}

/* Of 2026-11-27T16:00:00Z; this machine's zone is UTC+1 in it. */
static void test_since(void)
{
    static const uint64_t now = 1795795200;
    static const struct {
        const char *text;
        uint64_t at; /* 0: refused */
    } table[] = {
        {"now", now},
        {"10m", now - 600},
        {"-10m", now - 600},
        {"1h30m", now - 5400},
        {"1.5h", now - 5400},
        {"2d", now - 2 * 86400},
        {"1w", now - 7 * 86400},
        {"90s", now - 90},
        {"5min", now - 300},
        {"1795795200", now},
        {"2026-11-27T16:00:00Z", now},
        {"2026-11-27 16:00:00Z", now},
        {"2026-11-27T15:00:30.5-01:00", now + 30},
        {"2026-11-27T17:00", now},
        {"2026-11-27", now - 17 * 3600},
        {"today", now - 17 * 3600},
        {"yesterday", now - 41 * 3600},
        {"16:59", now - 60},
        {"16:59:30", now - 30},
        {"", 0},
        {"-", 0},
        {"x", 0},
        {"10", 10},
        {"10x", 0},
        {"10m5", 0},
        {"1e5", 0},
        {"24:00", 0},
        {"2026-11-27T", 0},
        {"2026-11-27 16", 0},
        {"2026-00-01", 0},
        {"2026-11-27T16:00:00+1", 0},
        {"99999999999", 0},
        {"tomorrow", 0},
    };
    setenv("TZ", "UTC-1", 1);
    tzset();
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        uint64_t at = 0;
        int r = parse_since(table[i].text, now * 1000000000, &at, &e);
        ok(table[i].at ? r == 0 && at / 1000000000 == table[i].at : r == -EINVAL && e.hint[0],
           "logs: since '%s'%s: %llu", table[i].text, table[i].at ? "" : " is refused", (unsigned long long)at);
    }
}

static void test_nearest(void)
{
    static const char *const words[] = {"build", "up", "logs"};
    const char *w = suggest_word("biuld", words, 3);
    ok(w && strcmp(w, "build") == 0, "biuld is near build");
    ok(!suggest_word("frobnicate", words, 3), "frobnicate is near nothing");
}

static void test_args(void)
{
    static char words[][12] = {"exec", "web", "-e", "A=1", "--env=B=2", "-t", "--", "ls", "-l", "--help"};
    char *argv[ARRAY_SIZE(words) + 1] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        argv[i] = words[i];
    struct args a;
    char *list[4];
    int n_words;
    ok(args_parse(&a, command_find(1, argv, &n_words), 10, argv) == 0,
       "options, words and what belongs to the program are told apart");
    ok(a.n_words == 1 && strcmp(a.words[0], "web") == 0, "the word");
    ok(a.n_rest == 3 && strcmp(a.rest[2], "--help") == 0, "behind -- nothing is ours");
    ok(arg_list(&a, "env", list, 4) == 2 && strcmp(list[0], "A=1") == 0 && strcmp(list[1], "B=2") == 0,
       "an option given twice");
    ok(arg_list(&a, "env", list, 1) == 1, "as many as there is room for");
    ok(strcmp(arg_value(&a, "env"), "B=2") == 0 && arg_flag(&a, "terminal") && !arg_value(&a, "cwd"), "single values");
}

/* Every command of the table can be shown, documented and completed. */
static void test_table(void)
{
    for (size_t i = 0; i < n_commands; i++) {
        const struct command *c = commands[i];
        bool json = false, letters = true;
        unsigned seen[128] = {0};
        unsigned n = 0;
        for (; c->options[n]; n++) {
            json |= strcmp(c->options[n]->name, "json") == 0;
            if (c->options[n]->letter)
                letters &= seen[(unsigned char)c->options[n]->letter]++ == 0;
        }
        ok(n <= MAX_OPTIONS && letters && c->run && *c->summary && *c->text && json == (c->json != NULL),
           "%s is complete", c->name);
    }
}

/* A phase that says nothing for a while: its clock goes on. */
static void test_clock(void)
{
    int master, slave, old = dup(STDERR_FILENO);
    char seen[65536] = "";
    size_t n = 0;
    if (old < 0 || openpty(&master, &slave, NULL, NULL, NULL) < 0) {
        ok(false, "C4: no terminal to be had");
        return;
    }
    setenv("TERM", "xterm", 1);
    dup2(slave, STDERR_FILENO);
    ui_init(false, false);
    ui_progress.update(NULL, "waiting", "");
    struct pollfd p = {.fd = master, .events = POLLIN};
    while (!strstr(seen, "waiting  0.4 s") && !strstr(seen, "waiting  1.") && n < sizeof(seen) - 1 &&
           poll(&p, 1, 10000) > 0) {
        ssize_t got = read(master, seen + n, sizeof(seen) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        seen[n] = '\0';
    }
    ui_clear();
    dup2(old, STDERR_FILENO);
    ok(strstr(seen, "waiting  0.0 s") && (strstr(seen, "waiting  0.4 s") || strstr(seen, "waiting  1.")),
       "C4: the clock of a phase moves on a terminal while nothing happens");
    close(old);
    close(master);
    close(slave);
    ui_init(false, false);
}

/* What standard error gets where it is no terminal. */
static void test_plain(void)
{
    char seen[4096] = "";
    int fds[2], old = dup(STDERR_FILENO);
    if (old < 0 || pipe(fds) < 0)
        abort();
    dup2(fds[1], STDERR_FILENO);
    ui_init(false, false);
    struct progress p = PROGRESS_INIT(&ui_progress, NULL);
    progress_phase(&p, "judge");
    progress_phase(&p, "builder-start");
    usleep(150000);
    progress_phase(&p, "stage");
    usleep(150000);
    progress_phase(&p, "eval");
    progress_phase(&p, "queue");
    progress_detail(&p, "waiting for 2 builds before this one");
    progress_end(&p);
    dup2(old, STDERR_FILENO);
    close(old);
    close(fds[1]);
    ssize_t n = read(fds[0], seen, sizeof(seen) - 1);
    close(fds[0]);
    for (char *s = seen; (s = strstr(s, ": 0.")); s++) /* a busy machine takes longer */
        s[4] = 'n';
    ok(n > 0 && strcmp(seen, "mvmctl: starting the builder\nmvmctl: starting the builder: 0.n s\n"
                             "mvmctl: sending the flake to the builder: 0.n s\nmvmctl: evaluating the flake\n"
                             "mvmctl: in the queue: waiting for 2 builds before this one\n") == 0,
       "C4: plain lines are in users' words, with how long a phase took");
}

static void test_ports(void)
{
    static struct msg_status st;
    struct port_spec p;
    size_t n = 0;
    char cwd[4096], want[4200];
    ok(chdir("/tmp") == 0 && getcwd(cwd, sizeof(cwd)) && publish_parse("unix:./web.sock:80", &p, 1, &n, NULL) == 0,
       "a socket's path may be relative");
    snprintf(want, sizeof(want), "%s/web.sock", cwd);
    ok(strcmp(p.path, want) == 0, "to where the command was given");
    snprintf(st.ports, sizeof(st.ports), "[::1]:8080:80/tcp\nunix:/run/web:80/tcp\n");
    CLEAN_JSON json_object *list = publish_json(&st);
    ok(strcmp(
           json_object_to_json_string_ext(list, JSON_C_TO_STRING_PLAIN),
           "[{\"address\":\"::1\",\"host_port\":8080,\"guest_port\":80,\"protocol\":\"tcp\",\"path\":null},"
           "{\"address\":null,\"host_port\":null,\"guest_port\":80,\"protocol\":\"tcp\",\"path\":\"\\/run\\/web\"}]") ==
           0,
       "published ports are objects");
}

int main(void)
{
    commands_install();
    ui_init(false, false);
    test_values();
    test_since();
    test_nearest();
    test_args();
    test_table();
    test_clock();
    test_plain();
    test_ports();
    return tap_end();
}
