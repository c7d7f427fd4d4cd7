/* What a start costs, in counting mode. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COUNT_STEPS 4

/* What the instruction counter said at the steps of a start. */
struct count {
    struct {
        const char *name;
        uint64_t at;
    } steps[COUNT_STEPS];
    unsigned n;
};

struct count_log {
    void (*line)(void *data, const char *line);
};

/* True where the kernel command line has `mvm.count`. */
bool count_wanted(void);
/* Takes the counter down; the name is kept. */
void count_note_instructions(struct count *c, const char *name);
/* Writes the steps to the log and forgets them. */
void count_report(struct count *c, const struct count_log *log);
/* What the kernel has logged about its initcalls and about starting init, with the log's own clock in microseconds. */
void count_report_kernel(const struct count_log *log);
