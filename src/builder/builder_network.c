#include "builder/builder_network.h"
#include "net/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A URL's host, and what follows it; the scheme may be left out. */
struct place {
    const char *host;
    size_t host_len;
    unsigned port;
};

static struct place place_of(const char *url)
{
    const char *host = strstr(url, "://");
    unsigned port = strncasecmp(url, "https:", 6) == 0 ? 443 : 80;
    host = host ? host + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *at = memchr(host, '@', authority);
    if (at) {
        authority -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    const char *bracket = *host == '[' ? memchr(host, ']', authority) : NULL;
    size_t n = bracket ? (size_t)(bracket + 1 - host) : strcspn(host, ":/?#");
    n = MIN_OF(n, authority);
    if (host[n] == ':' && n < authority)
        port = (unsigned)strtoul(host + n + 1, NULL, 10);
    return (struct place){host, n, port};
}

static bool is(const struct place *p, const char *host)
{
    return p->host_len == strlen(host) && strncasecmp(p->host, host, p->host_len) == 0;
}

static bool is_loopback(const struct place *p)
{
    return is(p, "127.0.0.1") || is(p, "localhost") || is(p, "[::1]");
}

char *builder_network_url(const char *url)
{
    struct place p = place_of(url);
    char *text = NULL;
    if (!is_loopback(&p))
        return strdup(url);
    return asprintf(&text, "%.*s" NET_GATEWAY "%s", (int)(p.host - url), url, p.host + p.host_len) < 0 ? NULL : text;
}

const char *builder_network_proxy(const struct config *c, const char *name)
{
    const char *own = strcmp(name, "https_proxy") == 0 ? c->https_proxy : c->http_proxy;
    return own ? own : getenv(name);
}

static int open_port(const char *url, char out[static BUILDER_NETWORK_MAX], struct mvm_error *err)
{
    struct place p = place_of(url);
    char rule[24];
    if (!is_loopback(&p) && !is(&p, NET_GATEWAY))
        return 0;
    if (p.port == 0 || p.port > UINT16_MAX)
        return mvm_error_set(err, -EINVAL, "'%s' has no port of this machine's", url);
    snprintf(rule, sizeof(rule), " host:%u", p.port);
    size_t n = strlen(out), len = strlen(rule);
    for (const char *at = out; (at = strstr(at, rule)); at += len)
        if (at[len] == ' ' || !at[len])
            return 0;
    if (n + len >= BUILDER_NETWORK_MAX)
        return mvm_error_set(err, -E2BIG, "too many ports of this machine's loopback");
    memcpy(out + n, rule, len + 1);
    return 0;
}

int builder_network(const struct config *c, char out[static BUILDER_NETWORK_MAX], struct mvm_error *err)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy"};
    int r = 0;
    snprintf(out, BUILDER_NETWORK_MAX, "@builder");
    for (size_t i = 0; r == 0 && i < c->substituters.n; i++)
        r = open_port(c->substituters.v[i], out, err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(proxies); i++) {
        const char *url = builder_network_proxy(c, proxies[i]);
        r = url && *url ? open_port(url, out, err) : 0;
    }
    return r;
}
