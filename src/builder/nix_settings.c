#include "builder/nix_settings.h"
#include "base/buf.h"
#include "cache/config.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_TEXT 16384

static int add_joined(struct msg_strings *list, const char *head, const struct config_list *words)
{
    struct buf b = BUF_INIT(MAX_TEXT);
    int r = words->n ? buf_str(&b, head) : 0;
    for (size_t i = 0; r == 0 && i < words->n; i++)
        r = buf_printf(&b, "%s%s", i ? " " : "", words->v[i]);
    if (r == 0 && words->n)
        r = msg_strings_add(list, (char *)TAKE_PTR(b.data));
    if (b.data)
        explicit_bzero(b.data, b.cap);
    buf_done(&b);
    return r;
}

/* A proxy on this machine's loopback is at another address for a VM. */
static int add_proxy(struct msg_strings *env, const char *name, const char *value, const char *host_seen)
{
    static const char *const loopback[] = {"127.0.0.1", "localhost", "[::1]"};
    const char *host = strstr(value, "://");
    host = host ? host + 3 : value;
    const char *at = strpbrk(host, "@/");
    host = at && *at == '@' ? at + 1 : host;
    char *text = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) {
        size_t n = strlen(loopback[i]);
        if (*host_seen && strncmp(host, loopback[i], n) == 0 && (host[n] == ':' || host[n] == '/' || !host[n]))
            return asprintf(&text, "%s=%.*s%s%s", name, (int)(host - value), value, host_seen, host + n) < 0
                       ? -ENOMEM
                       : msg_strings_add(env, text);
    }
    return asprintf(&text, "%s=%s", name, value) < 0 ? -ENOMEM : msg_strings_add(env, text);
}

static int add_proxies(struct nix_settings *n, const struct config *c)
{
    const struct {
        const char *name, *value;
    } all[] = {
        {"http_proxy", c->http_proxy ? c->http_proxy : getenv("http_proxy")},
        {"https_proxy", c->https_proxy ? c->https_proxy : getenv("https_proxy")},
    };
    const char *none = c->no_proxy ? c->no_proxy : getenv("no_proxy");
    const struct vmm_ops *backend;
    struct vmm_net_plan plan;
    int r = vmm_find(NULL, &backend, NULL);
    if (r == 0)
        backend->net_plan(VMM_NET_USER, &plan);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(all); i++)
        if (all[i].value && *all[i].value) {
            n->secret |= strchr(all[i].value, '@') != NULL;
            r = add_proxy(&n->env, all[i].name, all[i].value, plan.host);
        }
    char *text = NULL;
    if (r == 0 && none && *none)
        r = asprintf(&text, "no_proxy=%s", none) < 0 ? -ENOMEM : msg_strings_add(&n->env, text);
    return r;
}

int nix_settings_load(struct nix_settings *n, struct home *h, struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    *n = (struct nix_settings){0};
    int r = config_load(&c, h, err);
    if (r < 0)
        return r;
    n->jobs = c.builder_jobs;
    n->secret = c.access_tokens.n > 0;
    r = add_joined(&n->options, "extra-substituters=", &c.substituters);
    if (r == 0)
        r = add_joined(&n->options, "extra-trusted-public-keys=", &c.trusted_public_keys);
    if (r == 0)
        r = add_joined(&n->env, "NIX_CONFIG=access-tokens = ", &c.access_tokens);
    if (r == 0)
        r = add_proxies(n, &c);
    return r < 0 ? mvm_error_errno(err, r, "settings of Nix") : 0;
}

void nix_settings_done(struct nix_settings *n)
{
    for (size_t i = 0; i < n->env.n; i++)
        explicit_bzero(n->env.v[i], strlen(n->env.v[i]));
    msg_strings_done(&n->options);
    msg_strings_done(&n->env);
}
