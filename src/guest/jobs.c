#include "guest/jobs.h"

#include <string.h>

static size_t find(const struct jobs *j, unsigned id)
{
    size_t i = 0;
    while (i < j->n && j->v[i].id != id)
        i++;
    return i;
}

unsigned jobs_add(struct jobs *j, uint64_t limit)
{
    if (j->n == JOBS_MAX)
        return 0;
    if (limit == 0)
        limit = JOBS_DEFAULT_LIMIT;
    j->v[j->n++] = (struct jobs_entry){.id = ++j->last_id, .limit = limit};
    return j->last_id;
}

void jobs_remove(struct jobs *j, unsigned id)
{
    size_t i = find(j, id);
    if (i == j->n)
        return;
    j->n_running -= j->v[i].running;
    j->n--;
    memmove(&j->v[i], &j->v[i + 1], (j->n - i) * sizeof(j->v[0]));
}

unsigned jobs_start(struct jobs *j)
{
    size_t i = 0;
    while (i < j->n && j->v[i].running)
        i++;
    if (i == j->n || j->n_running >= j->v[i].limit)
        return 0;
    j->v[i].running = true;
    j->n_running++;
    return j->v[i].id;
}

unsigned jobs_before(const struct jobs *j, unsigned id)
{
    size_t at = find(j, id), waiting = 0;
    if (at == j->n || j->v[at].running)
        return 0;
    for (size_t i = 0; i < at; i++)
        waiting += !j->v[i].running;
    size_t slots = j->v[at].limit < j->n_running ? (size_t)j->v[at].limit : j->n_running;
    return (unsigned)(j->n_running - slots + waiting + 1);
}
