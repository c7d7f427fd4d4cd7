/* What a command consisted of, step by step, in its own process and in the supervisor's: a table, JSON, or a trace. */
#pragma once

#include "cli/cli.h"
#include "machine/machine.h"

struct trace {
    struct steps own;        /* of this process */
    struct steps supervisor; /* of the VM's */
    pid_t supervisor_pid;
};

/* Takes over what a start consisted of. */
void trace_machine(struct trace *t, const struct machine_info *info);
/* Prints a table: each step with its process, when it began, counted from this process's start, and how long it took.
 */
void trace_print(const struct trace *t);
/* A list of {name, process, start_ms, ms}. */
json_object *trace_json(const struct trace *t);
/* Writes a Chrome trace, a JSON array of complete events in microseconds (the Trace Event Format), as one step. */
int trace_write(const struct trace *t, const char *file, struct mvm_error *err) MVM_MUST_CHECK;
