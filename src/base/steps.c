#include "base/steps.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void steps_span(struct steps *s, const char *name, uint64_t start, uint64_t end)
{
    if (!s || s->n == STEPS_MAX)
        return;
    struct step *step = &s->v[s->n++];
    snprintf(step->name, sizeof(step->name), "%s", name);
    step->start = start;
    step->end = end;
}

void steps_add(struct steps *s, const char *name, uint64_t start)
{
    steps_span(s, name, start, clock_now());
}

void steps_format(const struct steps *s, char *out, size_t size)
{
    size_t at = 0;
    *out = '\0';
    for (unsigned i = 0; i < s->n; i++) {
        int n = snprintf(out + at, size - at, "%s %" PRIu64 " %" PRIu64 "\n", s->v[i].name, s->v[i].start, s->v[i].end);
        if (n < 0 || (size_t)n >= size - at) {
            out[at] = '\0';
            return;
        }
        at += (size_t)n;
    }
}

void steps_parse(struct steps *s, const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char name[STEPS_MAX_NAME];
        uint64_t start, end;
        if (sscanf(line, "%23[a-z0-9-] %" SCNu64 " %" SCNu64, name, &start, &end) == 3 && end >= start)
            steps_span(s, name, start, end);
    }
}
