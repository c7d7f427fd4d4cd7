/* Points in time as people write them: what docker's and journalctl's --since take. */
#include "base/clock.h"
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY 86400.0

/* "1h30m", "90s", "2d": seconds. */
static bool parse_ago(const char *s, double *ret)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", DAY}, {"w", 7 * DAY}};
    double sum = 0;
    if (!*s)
        return false;
    while (*s) {
        char *unit = NULL;
        double v = isdigit((unsigned char)*s) ? strtod(s, &unit) : -1;
        size_t n = v < 0 ? 0 : strspn(unit, "abcdefghijklmnopqrstuvwxyz"), i = 0;
        while (i < ARRAY_SIZE(units) && (strlen(units[i].name) != n || strncmp(unit, units[i].name, n) != 0))
            i++;
        if (n == 0 || i == ARRAY_SIZE(units))
            return false;
        sum += v * units[i].seconds;
        s = unit + n;
    }
    *ret = sum;
    return true;
}

/* "", "Z" or "+02:00" at the end: seconds east of Greenwich, in *ret_local whether it is this machine's own zone. */
static bool parse_zone(const char *s, long *ret_east, bool *ret_local)
{
    int hours, minutes, n = 0;
    char sign;
    *ret_local = !*s;
    *ret_east = 0;
    if (!*s || strcmp(s, "Z") == 0)
        return true;
    if (sscanf(s, "%c%2d:%2d%n", &sign, &hours, &minutes, &n) != 3 || s[n] || !strchr("+-", sign))
        return false;
    *ret_east = (sign == '-' ? -1 : 1) * (hours * 3600L + minutes * 60L);
    return true;
}

/* "12:30", "12:30:59.5" and a zone, on the day that tm has. */
static bool parse_clock(const char *s, struct tm *tm, double *ret)
{
    int n = 0;
    double seconds = 0;
    long east;
    bool local;
    if (sscanf(s, "%2d:%2d%n", &tm->tm_hour, &tm->tm_min, &n) != 2)
        return false;
    s += n;
    if (*s == ':' && isdigit((unsigned char)s[1])) {
        char *end;
        seconds = strtod(s + 1, &end);
        s = end;
    }
    if (!parse_zone(s, &east, &local) || tm->tm_hour > 23 || tm->tm_min > 59 || seconds >= 61)
        return false;
    tm->tm_sec = 0;
    tm->tm_isdst = -1;
    time_t t = local ? mktime(tm) : timegm(tm);
    *ret = (double)t - (double)east + seconds;
    return true;
}

/* "2026-11-27", and behind it a T or a blank with the time of day. */
static bool parse_date(const char *s, double *ret)
{
    struct tm tm = {0};
    int n = 0;
    if (sscanf(s, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &n) != 3 || tm.tm_year < 1970 ||
        tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    if (s[n] == 'T' || s[n] == ' ')
        return parse_clock(s + n + 1, &tm, ret);
    return !s[n] && parse_clock("00:00", &tm, ret);
}

static bool parse_today(const char *s, double now, double *ret)
{
    static const struct {
        const char *word;
        int days;
    } words[] = {{"today", 0}, {"yesterday", 1}};
    time_t t = (time_t)now;
    struct tm tm;
    localtime_r(&t, &tm);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(s, words[i].word) == 0) {
            tm.tm_mday -= words[i].days;
            return parse_clock("00:00", &tm, ret);
        }
    }
    return parse_clock(s, &tm, ret);
}

int parse_since(const char *text, uint64_t now, uint64_t *ret, struct mvm_error *err)
{
    double at = 0, ago = 0, present = (double)now / 1e9;
    size_t digits = strspn(text, "0123456789.");
    bool ok = true;
    if (strcmp(text, "now") == 0)
        at = present;
    else if (digits && !text[digits]) /* seconds since 1970 */
        at = strtod(text, NULL);
    else if (parse_ago(text + (*text == '-'), &ago))
        at = present - ago;
    else
        ok = parse_date(text, &at) || parse_today(text, present, &at);
    if (!ok || at > 1e10) {
        mvm_error_set(err, -EINVAL, "time '%.60s'", text);
        mvm_error_phase(err, MVM_PHASE_USAGE);
        mvm_error_hint(err, "give how long ago it is (10m, 1h30m, 2d), or when it was: 2026-11-27T16:00:00Z, "
                            "'2026-11-27 16:00' or 16:00 (this machine's time), today, or seconds since 1970");
        return -EINVAL;
    }
    *ret = at > 0 ? (uint64_t)(at * 1e6) * 1000 : 0;
    return 0;
}
