/* What somebody may have meant: hints for names that were mistyped. */
#pragma once

#include <stddef.h>

/* The known word nearest to what was typed, NULL where none is near. */
const char *suggest_word(const char *typed, const char *const *words, size_t n);
