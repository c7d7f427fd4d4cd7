/* Addresses as tests write them. */
#pragma once

#include "net/address.h"

#include <stdlib.h>

static struct address ip(const char *text)
{
    struct address a;
    if (address_parse(text, &a) < 0)
        abort();
    return a;
}
