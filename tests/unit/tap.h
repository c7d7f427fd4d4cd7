/* TAP for unit tests: ok(condition, name...), plan at the end. A failed check prints file and line. A name reads alone
 * in a log: one that begins with "and" and the like has the last that did not in front of it. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned tap_count, tap_failed;

/* Whether a name goes on from the one before it. */
__attribute__((unused)) static bool tap_goes_on(const char *name)
{
    static const char *const words[] = {"and",  "as",   "but",  "in", "is",    "it",    "its", "nor",   "of",  "so",
                                        "that", "then", "they", "to", "where", "which", "who", "whole", "with"};
    size_t n = strcspn(name, " ");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i]) == n && strncmp(name, words[i], n) == 0)
            return true;
    return false;
}

__attribute__((format(printf, 4, 5), unused)) static bool tap_ok(bool pass, const char *file, int line, const char *fmt,
                                                                 ...)
{
    static char name[2048], context[2048];
    va_list ap;
    tap_count++;
    va_start(ap, fmt);
    vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    bool goes_on = *context && tap_goes_on(name);
    printf("%sok %u - %s%s%s\n", pass ? "" : "not ", tap_count, goes_on ? context : "", goes_on ? ": " : "", name);
    if (!goes_on) {
        memcpy(context, name, sizeof(context));
        context[strcspn(context, "#")] = '\0'; /* a directive is not the next one's */
    }
    if (!pass) {
        tap_failed++;
        printf("# at %s:%d\n", file, line);
    }
    fflush(stdout);
    return pass;
}
#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)

__attribute__((unused)) static const char *tap_folder_in(const char *parent)
{
    static char paths[32][256];
    static unsigned n;
    if (n == sizeof(paths) / sizeof(paths[0]))
        abort();
    char *path = paths[n++];
    snprintf(path, sizeof(paths[0]), "%s/unit.XXXXXX", parent);
    if (!mkdtemp(path))
        abort();
    return path;
}

/* Makes a folder for the test below the check's own, which goes with that where the test is killed. Its path,
 * which stays; the test removes it. */
__attribute__((unused)) static const char *tap_folder(void)
{
    const char *tmp = getenv("MVM_TEST_TMP");
    return tap_folder_in(tmp ? tmp : "/tmp");
}

/* One that another user reaches, as a test needs it that becomes one: the check's own folder is its user's alone. */
__attribute__((unused)) static const char *tap_open_folder(void)
{
    return tap_folder_in("/tmp");
}

/* One in memory, for a test that syncs often: what a killed process leaves is the same there. */
__attribute__((unused)) static const char *tap_memory_folder(void)
{
    return access("/dev/shm", W_OK) == 0 ? tap_folder_in("/dev/shm") : tap_folder();
}

/* How many rounds of what is random: a few in each run, many with MVM_TEST_LONG, which tools/nightly sets. */
__attribute__((unused)) static unsigned tap_rounds(unsigned few, unsigned many)
{
    const char *wanted = getenv("MVM_TEST_LONG");
    return wanted && *wanted ? many : few;
}

/* The last line of main: return tap_end(); */
__attribute__((unused)) static int tap_end(void)
{
    printf("1..%u\n", tap_count);
    return tap_failed ? 1 : 0;
}
