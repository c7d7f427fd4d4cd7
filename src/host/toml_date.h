/* Dates and times of a TOML text (RFC 3339). */
#pragma once

#include <stddef.h>

/* How many characters the date, time or both at text have, behind which a value may end; 0: there is none. text ends
 * with a NUL. */
size_t toml_date_length(const char *text);
