#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/logread.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[256];
static int folder = -1;

static void begin(void)
{
    if (folder >= 0)
        (void)!path_remove_tree(AT_FDCWD, top);
    fd_closep(&folder);
    snprintf(top, sizeof(top), "%s", tap_folder());
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        abort();
}

static void say(struct logfile *l, const char *text)
{
    logfile_write(l, text, strlen(text));
}

/* All lines that there are now, each behind its log's first letter, joined by "|". */
static const char *all(struct logread *r)
{
    static char out[65536];
    struct logread_line line;
    size_t n = 0;
    out[0] = '\0';
    while (n < sizeof(out) - 5000 && logread_next(r, &line))
        n +=
            (size_t)snprintf(out + n, sizeof(out) - n, "%c:%.*s|", logread_name(line.log)[0], (int)line.len, line.text);
    return out;
}

static void test_merge(void)
{
    begin();
    struct logfile console = LOGFILE_INIT(folder, "console.log", 1 << 20);
    struct logfile agent = LOGFILE_INIT(folder, "agent.log", 1 << 20);
    uint64_t before = clock_wall();
    say(&console, "booting\r\nhalf ");
    usleep(2000);
    say(&agent, "hello: one\n");
    usleep(2000);
    uint64_t middle = clock_wall();
    say(&console, "a line\nlast");
    usleep(2000);
    say(&agent, "hello: two\n");
    CLEAN_LOGREAD struct logread r = LOGREAD_INIT;
    logread_open(&r, folder, false);
    const char *got = all(&r);
    ok(strcmp(got, "c:booting|c:half a line|a:hello: one|c:last|a:hello: two|") == 0,
       "logs: lines of several logs come in the order of their beginnings: %s", got);
    logread_rewind(&r);
    struct logread_line line;
    bool times = logread_next(&r, &line) && line.at >= before && line.at <= middle;
    times = times && logread_next(&r, &line) && line.at >= before && line.at <= middle;
    times = times && logread_next(&r, &line) && logread_next(&r, &line) && line.at >= middle && line.at <= clock_wall();
    ok(times, "logs: each line has the time at which it began");
    logread_rewind(&r);
    say(&console, " words\n");
    got = all(&r);
    ok(strcmp(got, "c:booting|c:half a line|a:hello: one|c:last|a:hello: two|") == 0,
       "logs: what is added does not change what a reader found");
    logfile_done(&console);
    logfile_done(&agent);
}

static void test_follow(void)
{
    begin();
    struct logfile agent = LOGFILE_INIT(folder, "agent.log", 64);
    CLEAN_LOGREAD struct logread r = LOGREAD_INIT;
    say(&agent, "first line\nhal");
    logread_open(&r, folder, true);
    logread_follow(&r);
    ok(strcmp(all(&r), "a:first line|") == 0, "logs: a follower waits for the end of a line");
    say(&agent, "f line\n");
    ok(strcmp(all(&r), "a:half line|") == 0, "logs: and gets it whole");
    char text[60];
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof(text), "line %d of those that fill a file: %0*d\n", i, 20, 0);
        say(&agent, text);
        if (i == 1) /* two rotations between two looks */
            continue;
        const char *got = all(&r);
        ok(i == 0 ? strncmp(got, "a:line 0", 8) == 0 : strstr(got, "a:line 1") && strstr(got, "a:line 2"),
           "logs: a follower loses nothing when a log is rotated: %s", got);
    }
    say(&agent, "no end");
    ok(strcmp(all(&r), "") == 0, "logs: an unfinished line waits");
    logread_end(&r);
    ok(strcmp(all(&r), "a:no end|") == 0, "logs: and comes when no more is added");
    logfile_done(&agent);
}

static void test_bounds(void)
{
    begin();
    struct logfile console = LOGFILE_INIT(folder, "console.log", 1 << 16);
    for (int i = 0; i < 200000; i++)
        say(&console, "\n");
    struct stat log, times;
    ok(fstatat(folder, "console.log", &log, 0) == 0 && fstatat(folder, "console.times", &times, 0) == 0 &&
           log.st_size <= 1 << 16 && times.st_size <= 1 << 16 && fstatat(folder, "console.times.1", &times, 0) == 0 &&
           times.st_size <= 1 << 16,
       "logs: the times of a log that has a line a byte have its bound");
    logfile_done(&console);
    begin();
    char *big = malloc(100000);
    if (!big)
        abort();
    memset(big, 'x', 100000);
    console = (struct logfile)LOGFILE_INIT(folder, "console.log", 1 << 20);
    logfile_write(&console, big, 100000);
    say(&console, "\nend\n");
    CLEAN_LOGREAD struct logread r = LOGREAD_INIT;
    struct logread_line line;
    size_t sum = 0, pieces = 0;
    logread_open(&r, folder, false);
    bool last = false;
    while (logread_next(&r, &line)) {
        last = line.len == 3 && memcmp(line.text, "end", 3) == 0;
        sum += line.len;
        pieces++;
        if (line.len > LOGREAD_LINE)
            abort();
    }
    ok(sum == 100003 && last && pieces == 100000 / LOGREAD_LINE + 2, "logs: a long line comes in pieces, all of it");
    logfile_done(&console);
    free(big);
    unlinkat(folder, "console.times", 0);
    CLEAN_LOGREAD struct logread old = LOGREAD_INIT;
    logread_open(&old, folder, false);
    ok(logread_next(&old, &line) && line.at == 0, "logs: without its times a log has none");
}

static void test_services(void)
{
    static const struct {
        const char *line, *service;
    } table[] = {{"web: listening", "web"},
                 {"web:", "web"},
                 {"mvm: service web started (0)", "web"},
                 {"mvm: the guest continues from a snapshot", ""},
                 {"mvm-init: the clock cannot be set", ""},
                 {"web: other: words", "web"},
                 {"no service at all", ""},
                 {"two words: here", ""},
                 {"web:nothing", ""},
                 {": nameless", ""},
                 {"(count) step agent 1", ""},
                 {"mvm: service", ""}};
    begin();
    struct logfile agent = LOGFILE_INIT(folder, "agent.log", 1 << 20);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        logfile_printf(&agent, "%s\n", table[i].line);
    CLEAN_LOGREAD struct logread r = LOGREAD_INIT;
    logread_open(&r, folder, false);
    struct logread_line line;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        ok(logread_next(&r, &line) && strcmp(line.service, table[i].service) == 0, "logs: '%s' is of service '%s'",
           table[i].line, table[i].service);
    logfile_done(&agent);
}

int main(void)
{
    test_merge();
    test_follow();
    test_bounds();
    test_services();
    fd_closep(&folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
