/*
 * Counting mode: the VMM counts instructions and makes the guest's clock show them (`mvm.count` on the kernel command
 * line; docs/bench.md). This file writes down what the counter says at the steps of a start, and hands over what the
 * kernel has logged about its own steps. Lines go to the agent log as `(count) KEY VALUE...`: no service's line can
 * look like that, because a service's name has no bracket.
 */
#include "guest/count.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define MARK "(count) mark "

/* Since reset on x86 (the time stamp counter); elsewhere since the kernel has a clock. */
static uint64_t counter(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
#endif
}

bool count_wanted(void)
{
    char none[2];
    return boot_param(boot_cmdline(), "mvm.count", none, sizeof(none));
}

void count_note_instructions(struct count *c, const char *name)
{
    if (c->n == COUNT_STEPS)
        return;
    c->steps[c->n].name = name;
    c->steps[c->n++].at = counter();
}

static void log_line(const struct count_log *log, const char *fmt, ...) MVM_PRINTF(2, 3);
static void log_line(const struct count_log *log, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    log->line(NULL, line);
}

void count_report(struct count *c, const struct count_log *log)
{
    for (unsigned i = 0; i < c->n; i++)
        log_line(log, "(count) step %s %llu", c->steps[i].name, (unsigned long long)c->steps[i].at);
    c->n = 0;
}

/* One record of /dev/kmsg: "LEVEL,NUMBER,MICROSECONDS,FLAGS[,...];text" (kernel: Documentation/ABI/testing/dev-kmsg).
 */
static void report_record(char *record, const struct count_log *log)
{
    char *text = strchr(record, ';'), *at = record;
    if (!text)
        return;
    *text++ = '\0';
    text[strcspn(text, "\n")] = '\0';
    for (int commas = 0; commas < 2; commas++)
        if (!(at = strchr(at, ',')) || !*++at)
            return;
    if (strncmp(text, "initcall ", 9) == 0 || strncmp(text, "Run ", 4) == 0 || strncmp(text, MARK, strlen(MARK)) == 0)
        log_line(log, "(count) kernel %llu %.300s", strtoull(at, NULL, 10), text);
}

void count_report_kernel(const struct count_log *log)
{
    CLEAN_FD int fd = open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    char record[8192];
    if (fd < 0)
        return;
    /* What the counter and the kernel's log say at the same moment tells where the log's clock begins. Without a
     * newline the record could still be continued, and nobody could read it. */
    int n = snprintf(record, sizeof(record), "<6>" MARK "%llu\n", (unsigned long long)counter());
    (void)!write(fd, record, (size_t)n);
    for (;;) {
        ssize_t got = read(fd, record, sizeof(record) - 1);
        if (got < 0 && (errno == EPIPE || errno == EINTR)) /* EPIPE: older records were overwritten meanwhile */
            continue;
        if (got <= 0)
            break;
        record[got] = '\0';
        report_record(record, log);
    }
}
