/* URLs, sizes and rates, as config.toml and options have them. */
#include "cache/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_RATE 4096
#define MOST_RATE  (1ull << 40)

int config_check_url(const char *url, struct mvm_error *err)
{
    const char *host = strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
    const char *path = strncmp(url, "file:///", 8) == 0 ? url + 7 : NULL;
    if ((!host || !*host || *host == '/') && !path)
        return mvm_error_set(err, -EINVAL, "'%.200s' is no https:// or file:/// URL", url);
    for (const char *s = url; *s; s++)
        if (*s <= 0x20 || *s == 0x7f || *s == '?' || *s == '#')
            return mvm_error_set(err, -EINVAL, "'%.200s' is no folder's URL", url);
    return 0;
}

int config_parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long n = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (n == 0 || errno)
        return -EINVAL;
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    end += unit != NULL;
    if (unit && strcmp(end, "iB") == 0)
        end += 2;
    if (*end || n > UINT64_MAX >> shift)
        return -EINVAL;
    *ret = (uint64_t)n << shift;
    return 0;
}

/* One side of a rate, of n characters. */
static int parse_side(const char *text, size_t n, uint64_t *ret)
{
    char side[24];
    *ret = 0;
    if (n == 0 || (n == 1 && *text == '0'))
        return 0;
    if (n >= sizeof(side))
        return -EINVAL;
    memcpy(side, text, n);
    side[n] = '\0';
    int r = config_parse_size(side, ret);
    return r == 0 && (*ret < LEAST_RATE || *ret > MOST_RATE) ? -EINVAL : r;
}

int config_parse_rate(const char *text, struct config_rate *ret, struct mvm_error *err)
{
    const char *slash = strchr(text, '/');
    if (slash && parse_side(text, (size_t)(slash - text), &ret->in) == 0 &&
        parse_side(slash + 1, strlen(slash + 1), &ret->out) == 0)
        return 0;
    mvm_error_set(err, -EINVAL, "'%.60s' is no rate: IN/OUT is wanted", text);
    mvm_error_hint(err, "bytes a second to and from the VM, at least 4K each: 10M/1M; /1M or 0/1M limits one of them");
    return -EINVAL;
}
