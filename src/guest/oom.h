/* What the kernel has ended for want of memory. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Reads the kernel's log: true where that process was. */
bool oom_killed(pid_t pid);
/* This process is not ended when memory runs out; what it starts is not either, until it says so: */
void oom_spare_this(void);
/* This process and what it starts may be ended when memory runs out: pid 1, which they come from, is spared. */
void oom_spare_no_more(void);
/* True for a record of the log that says so of that process. */
bool oom_names(const char *record, pid_t pid);
