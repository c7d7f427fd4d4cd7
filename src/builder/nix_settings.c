#include "builder/nix_settings.h"
#include "base/buf.h"
#include "builder/builder_network.h"
#include "cache/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

static int add_proxies(struct nix_settings *n, const struct config *c)
{
    static const char *const names[] = {"http_proxy", "https_proxy"};
    const char *none = c->no_proxy ? c->no_proxy : getenv("no_proxy");
    char *text = NULL;
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
        const char *value = builder_network_proxy(c, names[i]);
        if (!value || !*value)
            continue;
        n->secret |= strchr(value, '@') != NULL;
        CLEAN_FREE char *seen = builder_network_url(value);
        r = !seen || asprintf(&text, "%s=%s", names[i], seen) < 0 ? -ENOMEM : msg_strings_add(&n->env, text);
        if (seen)
            explicit_bzero(seen, strlen(seen));
    }
    if (r == 0 && none && *none)
        r = asprintf(&text, "no_proxy=%s", none) < 0 ? -ENOMEM : msg_strings_add(&n->env, text);
    return r;
}

/* As the builder reaches them. */
static int add_substituters(struct nix_settings *n, const struct config *c)
{
    struct config_list seen = {.n = c->substituters.n};
    int r = 0;
    for (size_t i = 0; i < seen.n; i++)
        if (!(seen.v[i] = builder_network_url(c->substituters.v[i])))
            r = -ENOMEM;
    if (r == 0)
        r = add_joined(&n->options, "extra-substituters=", &seen);
    for (size_t i = 0; i < seen.n; i++)
        free(seen.v[i]);
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
    r = add_substituters(n, &c);
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
