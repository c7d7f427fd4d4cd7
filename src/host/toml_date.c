#include "host/toml_date.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DIGITS "0123456789"

/* Two or more digits at *p with a value in the range; moves *p behind them. */
static bool take_number(const char **p, size_t digits, unsigned least, unsigned most, unsigned *ret)
{
    unsigned n = 0;
    if (strspn(*p, DIGITS) < digits)
        return false;
    for (size_t i = 0; i < digits; i++)
        n = n * 10 + (unsigned)(*(*p)++ - '0');
    *ret = n;
    return n >= least && n <= most;
}

static bool take_char(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool take_date(const char **p)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day;
    if (!take_number(p, 4, 0, 9999, &year) || !take_char(p, '-') || !take_number(p, 2, 1, 12, &month) ||
        !take_char(p, '-') || !take_number(p, 2, 1, 31, &day))
        return false;
    bool leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day <= (unsigned)days[month - 1] + leap;
}

static bool take_time(const char **p)
{
    unsigned n;
    if (!take_number(p, 2, 0, 23, &n) || !take_char(p, ':') || !take_number(p, 2, 0, 59, &n) || !take_char(p, ':') ||
        !take_number(p, 2, 0, 60, &n))
        return false;
    if (!take_char(p, '.'))
        return true;
    size_t fraction = strspn(*p, DIGITS);
    *p += fraction;
    return fraction > 0;
}

static bool take_offset(const char **p)
{
    unsigned n;
    if (take_char(p, 'Z') || take_char(p, 'z'))
        return true;
    if (!take_char(p, '+') && !take_char(p, '-'))
        return true; /* a local one has none */
    return take_number(p, 2, 0, 23, &n) && take_char(p, ':') && take_number(p, 2, 0, 59, &n);
}

size_t toml_date_length(const char *text)
{
    const char *p = text;
    bool good;
    if (p[2] == ':') {
        good = take_time(&p);
    } else {
        good = take_date(&p);
        /* Between date and time: T, or a single blank where a time follows it. */
        bool blank = *p == ' ' && strspn(p + 1, DIGITS) == 2 && p[3] == ':';
        if (good && (blank || *p == 'T' || *p == 't')) {
            p++;
            good = take_time(&p) && take_offset(&p);
        }
    }
    return good && (!*p || strchr(" \t\r\n,]}#", *p)) ? (size_t)(p - text) : 0;
}
