#include "base/name_table.h"

#include <string.h>

size_t name_find(const char *const *names, size_t n, const char *text)
{
    size_t i = 0;
    while (i < n && strcmp(names[i], text) != 0)
        i++;
    return i;
}
