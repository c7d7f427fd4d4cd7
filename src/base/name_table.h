/* Tables of names, as enums have them. */
#pragma once

#include <stddef.h>

/* The place of text among n names; n where it is none of them. */
size_t name_find(const char *const *names, size_t n, const char *text);
