/*
 * What some work consisted of and when: named steps on the monotonic clock (clock.h), which all processes of a host
 * share. A step that finds no room is left out. A NULL object takes nothing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define STEPS_MAX      48
#define STEPS_MAX_NAME 24
#define STEPS_MAX_TEXT 2048

struct step {
    char name[STEPS_MAX_NAME];
    uint64_t start, end; /* ns */
};

struct steps {
    struct step v[STEPS_MAX];
    unsigned n;
};

/* A step that began at start and ends now. Names are lower case with dashes. */
void steps_add(struct steps *s, const char *name, uint64_t start);
void steps_span(struct steps *s, const char *name, uint64_t start, uint64_t end);
/* As a text that travels, one "name start end" a line: cut at a line's end where out is too small. */
void steps_format(const struct steps *s, char *out, size_t size);
/* Appends what such a text has; lines that are none are skipped. */
void steps_parse(struct steps *s, const char *text);
