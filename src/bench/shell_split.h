/*
 * A command line as words, without a shell: white space separates; '...' and "..." keep it, a backslash outside of
 * '...' keeps the next character (inside of "..." only before a quote or backslash). Nothing is expanded, and what
 * would be an operator of a shell is a character like any other.
 */
#pragma once

#include "base/error.h"

/* The words, NULL-terminated and freed in one with the list itself. -EINVAL: none, or a quote that is left open. */
int shell_split(const char *text, char ***ret, struct mvm_error *err) MVM_MUST_CHECK;
