/* A VM's table (vm.c) at work: what happens to it, and what follows. */
#include "supervisor/vm_boot.h"

#include <stdarg.h>
#include <stdio.h>

void vm_say(struct vm *v, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->ops->log(v->owner, line);
}

static const struct vm_row *find_row(const struct vm *v, enum vm_event e)
{
    for (const struct vm_row *r = v->rows; r < v->rows + v->n_rows; r++)
        if (r->stage == v->stage && r->event == e && (!r->when || r->when(v)))
            return r;
    return NULL;
}

static int take(struct vm *v, const struct vm_row *row, const char *why)
{
    v->taken |= UINT64_C(1) << (row - v->rows);
    v->stage = row->next;
    v->why = why;
    return row->act ? row->act(v) : 0;
}

bool vm_happens(struct vm *v, enum vm_event e, const char *why)
{
    const struct vm_row *row = find_row(v, e);
    if (!row)
        return false;
    if (take(v, row, why) < 0) {
        vm_say(v, "%s", v->error.msg);
        v->stage = VM_ENDED;
        v->end_status = -1;
        v->ops->ended(v->owner, -1);
    }
    return true;
}

int vm_begin(struct vm *v, enum vm_event e, struct mvm_error *err)
{
    int r = take(v, find_row(v, e), "");
    if (r == 0)
        return 0;
    v->stage = VM_NEW;
    if (err)
        *err = v->error;
    return r;
}
