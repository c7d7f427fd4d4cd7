#include "net/rule.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_SHORT "host"
#define OUR_ZONE   "mvm.internal"

static int bad(struct mvm_error *err, const char *text, const char *why)
{
    return mvm_error_set(err, -EINVAL, "--allow %s: %s", text, why);
}

static bool is_digits(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

/* Digits only, no leading zero, at most max: the number, -1 for others. */
static long number(const char *s, long max)
{
    if (!is_digits(s) || strlen(s) > 5 || (s[0] == '0' && s[1]))
        return -1;
    long v = strtol(s, NULL, 10);
    return v <= max ? v : -1;
}

/* Cuts "/tcp" off the end; a range's "/24" stays. */
static int take_protocol(const char *text, char *s, struct rule *r, struct mvm_error *err)
{
    char *slash = strrchr(s, '/');
    if (!slash || (slash[1] >= '0' && slash[1] <= '9'))
        return 0;
    if (strcmp(slash, "/tcp") == 0)
        r->protocol = NET_TCP;
    else if (strcmp(slash, "/udp") == 0)
        r->protocol = NET_UDP;
    else
        return bad(err, text, "behind the '/' stands 'tcp' or 'udp', or how many bits a range has");
    *slash = '\0';
    return 0;
}

/* Cuts the port off: what is left is the host, without brackets. */
static int take_port(const char *text, char **s, struct rule *r, struct mvm_error *err)
{
    char *colon = strchr(*s, ':'), *end = *s;
    if (**s == '[') {
        end = strchr(*s, ']');
        if (!end || (end[1] && end[1] != ':'))
            return bad(err, text, "an IPv6 address with a port is written [ADDRESS]:PORT");
        *end = '\0';
        (*s)++;
        colon = end[1] ? end + 1 : NULL;
    } else if (colon && strchr(colon + 1, ':')) {
        return 0; /* an IPv6 address without a port */
    }
    if (!colon)
        return 0;
    *colon = '\0';
    long port = number(colon + 1, 65535);
    if (port <= 0)
        return bad(err, text, "a port is a number from 1 to 65535");
    r->port = (uint16_t)port;
    return 0;
}

static int parse_host(const char *text, struct rule *r, struct mvm_error *err)
{
    r->kind = RULE_HOST;
    if (!r->port) {
        bad(err, text, "the host's loopback is opened port by port");
        mvm_error_hint(err, "say which: --allow " HOST_SHORT ":PORT; the guest reaches it as " HOST_NAME ":PORT");
        return -EINVAL;
    }
    if (r->protocol == NET_UDP) {
        bad(err, text, "the host's loopback is reached over TCP only");
        mvm_error_hint(err, "--allow " HOST_SHORT ":%u allows TCP", r->port);
        return -EINVAL;
    }
    r->protocol = NET_TCP;
    return 0;
}

/* Clears what is behind the prefix; false where there is something. */
static bool cut_base(struct prefix *p)
{
    struct address whole = p->base;
    for (unsigned i = p->bits; i < 128; i++)
        p->base.b[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
    return address_equal(&whole, &p->base);
}

static int judge_range(const char *text, struct rule *r, struct mvm_error *err)
{
    char name[RULE_TEXT];
    if (!cut_base(&r->range)) {
        bad(err, text, "the address has bits behind those of the range");
        mvm_error_hint(err, "did you mean %s?", rule_format(r, name));
        return -EINVAL;
    }
    r->class = prefix_class(&r->range);
    if (r->class == ADDRESS_LOOPBACK) {
        bad(err, text, "that is a loopback address, and the guest has one of its own");
        mvm_error_hint(err, "for a service on the host's loopback: --allow " HOST_SHORT ":PORT");
        return -EINVAL;
    }
    return r->class == ADDRESS_MULTICAST ? bad(err, text, "multicast is not carried") : 0;
}

static int parse_range(const char *text, char *s, struct rule *r, struct mvm_error *err)
{
    char *slash = strchr(s, '/');
    if (slash)
        *slash++ = '\0';
    if (address_parse(s, &r->range.base) < 0)
        return bad(err, text, slash ? "before the '/' stands no address" : "that is no address");
    /* One that wraps an IPv4 address has become that: its bits would be others than those meant. */
    bool four = address_is4(&r->range.base);
    if (four && strchr(s, ':')) {
        char plain[ADDRESS_TEXT];
        bad(err, text, "that address stands for an IPv4 address");
        mvm_error_hint(err, "say that one: %s", address_format(&r->range.base, plain));
        return -EINVAL;
    }
    unsigned most = four ? 32 : 128;
    long bits = slash ? number(slash, most) : (long)most;
    if (bits < 0)
        return bad(err, text,
                   four ? "a range of IPv4 addresses has 0 to 32 bits" : "a range of IPv6 addresses has 0 to 128 bits");
    r->kind = RULE_RANGE;
    r->range.bits = (uint8_t)(128 - most + (unsigned)bits);
    return judge_range(text, r, err);
}

/* What is wrong with a name that is to be; NULL where nothing is. labels: how many there are. */
static const char *name_fault(const char *s, unsigned *ret_labels)
{
    unsigned labels = 1, len = 0;
    if (strlen(s) > RULE_MAX_NAME - 1)
        return "a name has at most 253 characters";
    for (; *s; s++) {
        if (*s == '.') {
            if (!len)
                return "the name has an empty part between two dots";
            labels++;
            len = 0;
            continue;
        }
        if (*s == '*')
            return "'*' stands only for the whole beginning: *.example.org";
        if ((unsigned char)*s >= 0x80)
            return "letters other than ASCII's are written as DNS has them: xn--...";
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *s))
            return "a name is made of letters, digits, '-', '_' and dots";
        if (++len > 63)
            return "a part of the name has more than 63 characters";
    }
    *ret_labels = labels;
    return len ? NULL : "the name has an empty part";
}

static int parse_name(const char *text, char *s, struct rule *r, struct mvm_error *err)
{
    size_t n = strlen(s);
    if (n > 1 && s[n - 1] == '.')
        s[n - 1] = '\0';
    for (char *c = s; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c += 'a' - 'A';
    if (strcmp(s, HOST_SHORT) == 0 || strcmp(s, HOST_NAME) == 0)
        return parse_host(text, r, err);
    if (strcmp(s, "*") == 0) {
        bad(err, text, "that would be every name there is");
        mvm_error_hint(err, "--network public opens every public address");
        return -EINVAL;
    }
    r->kind = strncmp(s, "*.", 2) == 0 ? RULE_BELOW : RULE_NAME;
    if (r->kind == RULE_BELOW)
        s += 2;
    unsigned labels = 0;
    const char *why = name_fault(s, &labels);
    if (!why && r->kind == RULE_BELOW && labels < 2)
        why = "behind '*.' stand at least two parts: *.example.org";
    size_t zone = strlen(OUR_ZONE);
    n = strlen(s);
    if (!why && n >= zone && strcmp(s + n - zone, OUR_ZONE) == 0 && (n == zone || s[n - zone - 1] == '.'))
        why = "names of " OUR_ZONE " are mvmctl's own";
    if (why)
        return bad(err, text, why);
    memcpy(r->name, s, n + 1);
    return 0;
}

int rule_parse(const char *text, struct rule *ret, struct mvm_error *err)
{
    char copy[RULE_TEXT + 1], *s = copy;
    struct rule r = {0};
    if (!*text)
        return bad(err, "''", "HOST[:PORT][/tcp|udp] is wanted");
    if (strlen(text) >= sizeof(copy))
        return mvm_error_set(err, -EINVAL, "--allow %.40s...: a name has at most 253 characters", text);
    memcpy(copy, text, strlen(text) + 1);
    int e = take_protocol(text, s, &r, err);
    if (e == 0)
        e = take_port(text, &s, &r, err);
    if (e < 0)
        return e;
    if (!*s)
        return bad(err, text, "before the ':' or '/' stands a name or an address");
    bool range = strchr(s, '/') || strchr(s, ':') || s[strspn(s, "0123456789.")] == '\0' || *text == '[';
    e = range ? parse_range(text, s, &r, err) : parse_name(text, s, &r, err);
    if (e == 0)
        *ret = r;
    return e;
}

const char *rule_format(const struct rule *r, char text[RULE_TEXT])
{
    char host[RULE_MAX_NAME + 8], address[ADDRESS_TEXT], port[8] = "";
    if (r->kind == RULE_RANGE) {
        bool four = address_is4(&r->range.base), brackets = !four && r->port;
        unsigned bits = r->range.bits - (four ? 96u : 0);
        char range[8] = "";
        if (r->range.bits < 128)
            snprintf(range, sizeof(range), "/%u", bits);
        snprintf(host, sizeof(host), "%s%s%s%s", brackets ? "[" : "", address_format(&r->range.base, address), range,
                 brackets ? "]" : "");
    } else {
        snprintf(host, sizeof(host), "%s%s", r->kind == RULE_BELOW ? "*." : "",
                 r->kind == RULE_HOST ? HOST_SHORT : r->name);
    }
    if (r->port)
        snprintf(port, sizeof(port), ":%u", r->port);
    bool said = r->protocol && r->kind != RULE_HOST;
    snprintf(text, RULE_TEXT, "%s%s%s", host, port, !said ? "" : r->protocol == NET_TCP ? "/tcp" : "/udp");
    return text;
}

bool rule_names(const struct rule *r, const char *name)
{
    if (r->kind == RULE_NAME)
        return strcmp(name, r->name) == 0;
    if (r->kind != RULE_BELOW)
        return false;
    size_t n = strlen(name), below = strlen(r->name);
    return n > below + 1 && name[n - below - 1] == '.' && strcmp(name + n - below, r->name) == 0;
}

bool rule_takes(const struct rule *r, uint8_t protocol, uint16_t port)
{
    return (!r->port || (r->port == port && protocol != NET_ICMP)) && (!r->protocol || r->protocol == protocol);
}
