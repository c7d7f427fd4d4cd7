#include "host/progress.h"
#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void progress_end(struct progress *p)
{
    if (!p || p->current < 0)
        return;
    struct progress_phase *phase = &p->phases[p->current];
    uint64_t ns = clock_now() - p->started;
    phase->ns += ns;
    steps_add(p->steps, phase->name, p->started);
    p->current = -1;
    if (p->ops && p->ops->end)
        p->ops->end(p->data, phase->name, ns);
}

void progress_phase(struct progress *p, const char *name)
{
    if (!p || (p->current >= 0 && strcmp(p->phases[p->current].name, name) == 0))
        return;
    progress_end(p);
    unsigned i = 0;
    while (i < p->n_phases && strcmp(p->phases[i].name, name) != 0)
        i++;
    if (i == PROGRESS_MAX_PHASES)
        i--;
    if (i == p->n_phases) {
        snprintf(p->phases[i].name, sizeof(p->phases[i].name), "%s", name);
        p->phases[i].ns = 0;
        p->n_phases++;
    }
    p->current = (int)i;
    p->started = clock_now();
    if (p->ops && p->ops->update)
        p->ops->update(p->data, name, "");
}

#define FORMAT(line, fmt)                                                                                              \
    char line[2048];                                                                                                   \
    va_list ap;                                                                                                        \
    va_start(ap, fmt);                                                                                                 \
    vsnprintf(line, sizeof(line), fmt, ap);                                                                            \
    va_end(ap)

void progress_detail(struct progress *p, const char *fmt, ...)
{
    if (!p || !p->ops || !p->ops->update || p->current < 0)
        return;
    FORMAT(line, fmt);
    p->ops->update(p->data, p->phases[p->current].name, line);
}

void progress_note(struct progress *p, const char *fmt, ...)
{
    if (!p || !p->ops || !p->ops->note)
        return;
    FORMAT(line, fmt);
    p->ops->note(p->data, line);
}

void progress_verbose(struct progress *p, const char *fmt, ...)
{
    if (!p || !p->ops || !p->ops->verbose)
        return;
    FORMAT(line, fmt);
    p->ops->verbose(p->data, line);
}

void progress_verbose_lines(struct progress *p, const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        progress_verbose(p, "%.*s", (int)n, text);
    }
}

void progress_build(struct progress *p, const struct progress_build *b)
{
    if (p && p->ops && p->ops->build && p->current >= 0)
        p->ops->build(p->data, p->phases[p->current].name, b);
}
