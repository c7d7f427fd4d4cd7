#include "cli/trace.h"
#include "base/buf.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_TRACE ((size_t)1 << 20)

/* A step of either process. */
struct row {
    const struct step *step;
    const char *process;
    pid_t pid;
};

void trace_machine(struct trace *t, const struct machine_info *info)
{
    t->supervisor_pid = info->supervisor;
    for (unsigned i = 0; i < info->steps.n; i++) {
        const struct step *s = &info->steps.v[i];
        steps_span(i < info->own_steps ? &t->own : &t->supervisor, s->name, s->start, s->end);
    }
}

static int by_start(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->step->start != y->step->start)
        return x->step->start < y->step->start ? -1 : 1;
    return (x->step->end < y->step->end) - (x->step->end > y->step->end); /* what contains the other comes first */
}

/* All steps in the order they began: how many. */
static unsigned collect(const struct trace *t, struct row rows[static 2 * STEPS_MAX])
{
    unsigned n = 0;
    for (unsigned i = 0; i < t->own.n; i++)
        rows[n++] = (struct row){&t->own.v[i], "mvmctl", getpid()};
    for (unsigned i = 0; i < t->supervisor.n; i++)
        rows[n++] = (struct row){&t->supervisor.v[i], "supervisor", t->supervisor_pid};
    if (n)
        qsort(rows, n, sizeof(rows[0]), by_start);
    return n;
}

static double since_born(uint64_t at)
{
    return at > ui.born ? (double)(at - ui.born) : 0;
}

void trace_print(const struct trace *t)
{
    struct row rows[2 * STEPS_MAX];
    unsigned n = collect(t, rows);
    ui_line("%-20s %-12s %10s %10s", "step", "process", "at ms", "ms");
    for (unsigned i = 0; i < n; i++)
        ui_line("%-20s %-12s %10.2f %10.2f", rows[i].step->name, rows[i].process, since_born(rows[i].step->start) / 1e6,
                (double)(rows[i].step->end - rows[i].step->start) / 1e6);
}

/* To the microsecond. */
static json_object *number(double v)
{
    char text[64];
    snprintf(text, sizeof(text), "%.3f", v);
    return json_object_new_double_s(v, text);
}

json_object *trace_json(const struct trace *t)
{
    struct row rows[2 * STEPS_MAX];
    json_object *list = json_object_new_array();
    unsigned n = collect(t, rows);
    for (unsigned i = 0; i < n; i++) {
        json_object *o = json_object_new_object();
        json_add_string(o, "name", rows[i].step->name);
        json_add_string(o, "process", rows[i].process);
        json_add(o, "start_ms", number(since_born(rows[i].step->start) / 1e6));
        json_add(o, "ms", number((double)(rows[i].step->end - rows[i].step->start) / 1e6));
        if (json_object_array_add(list, o) < 0)
            abort();
    }
    return list;
}

int trace_write(const struct trace *t, const char *file, struct mvm_error *err)
{
    struct row rows[2 * STEPS_MAX];
    CLEAN_BUF struct buf text = BUF_INIT(MAX_TRACE);
    unsigned n = collect(t, rows);
    int r = buf_str(&text, "[");
    for (unsigned i = 0; r == 0 && i < n; i++) {
        const struct step *s = rows[i].step;
        r = buf_printf(&text,
                       "%s{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":%d,\"tid\":%d}",
                       i ? ",\n" : "\n", s->name, rows[i].process, (double)s->start / 1e3,
                       (double)(s->end - s->start) / 1e3, (int)rows[i].pid, (int)rows[i].pid);
    }
    if (r == 0)
        r = buf_str(&text, "\n]\n");
    return r < 0 ? mvm_error_errno(err, r, "the trace") : ui_write_file(file, text.data, text.len, err);
}
