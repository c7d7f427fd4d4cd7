#include "cache/config.h"
#include "base/path.h"
#include "host/suggest.h"
#include "host/toml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind {
    URL,
    PATH, /* absolute */
    TEXT,
    LIST,
    PATHS, /* a list of absolute ones */
    SIZE,
    RATE,
    BOOLEAN,
    INTEGER,
    WORD, /* one of words */
    PUBLIC_KEYS,
};

static const char *const network_words[] = {
    [CONFIG_NETWORK_PUBLIC] = "public", [CONFIG_NETWORK_NONE] = "none", [CONFIG_NETWORK_FULL] = "full", NULL};
static const char *const confine_words[] = {[CONFINE_AUTO] = "auto", [CONFINE_REQUIRED] = "required", NULL};

static const struct setting {
    struct config_key key;
    enum kind kind;
    size_t field; /* offset in struct config */
    int64_t least, most;
    const char *const *words;
} settings[] = {
    {{"images", "dev_url", "URL", "where a published dev image is: the https:// or file:// URL of a release's folder"},
     URL,
     offsetof(struct config, dev_url)},
    {{"images", "builder_url", "URL", "the same for a builder image; an installed mvmctl alone uses it"},
     URL,
     offsetof(struct config, builder_url)},
    {{"images", "public_keys", "[KEY, ...]", "minisign public keys, one of which must have signed a published image"},
     PUBLIC_KEYS,
     offsetof(struct config, public_keys)},
    {{"images", "ca_file", "FILE", "certificates that https servers are checked against (default: the system's)"},
     PATH,
     offsetof(struct config, ca_file)},
    {{"images", "stall_seconds", "N", "a download that stands still for so long fails, 1 to 3600 (default: 60)"},
     INTEGER,
     offsetof(struct config, stall_seconds),
     1,
     3600},
    {{"builder", "memory", "SIZE", "memory of builder VMs, such as \"4G\" (default: 2G, or half of this machine's)"},
     SIZE,
     offsetof(struct config, builder_memory),
     256ll << 20,
     1ll << 42},
    {{"builder", "cpus", "N", "virtual processors of builder VMs (default: this machine's, 8 at most)"},
     INTEGER,
     offsetof(struct config, builder_cpus),
     1,
     64},
    {{"builder", "jobs", "N", "at most so many builds at once in one builder; others wait (default: 8)"},
     INTEGER,
     offsetof(struct config, builder_jobs),
     1,
     64},
    {{"builder", "store_size", "SIZE", "what the builder's store may take on the disk (default: 16G)"},
     SIZE,
     offsetof(struct config, store_size),
     128ll << 20,
     1ll << 46},
    {{"nix", "substituters", "[URL, ...]", "binary caches to ask besides Nix's own"},
     LIST,
     offsetof(struct config, substituters)},
    {{"nix", "trusted_public_keys", "[KEY, ...]",
      "keys whose signatures on fetched paths are trusted besides Nix's own"},
     LIST,
     offsetof(struct config, trusted_public_keys)},
    {{"nix", "access_tokens", "[HOST=TOKEN, ...]",
      "tokens for fetching flakes; they go to the builder over its channel, and the file must be readable by you "
      "alone"},
     LIST,
     offsetof(struct config, access_tokens)},
    {{"flake", "allow_inputs", "[PATH, ...]",
      "folders and files outside of a flake's tree that may be staged as its inputs, as with --allow-input"},
     PATHS,
     offsetof(struct config, allow_inputs)},
    {{"network", "http_proxy", "URL", "the proxy for the builder's fetches (default: the environment's http_proxy)"},
     TEXT,
     offsetof(struct config, http_proxy)},
    {{"network", "https_proxy", "URL", "the same for https (default: the environment's https_proxy)"},
     TEXT,
     offsetof(struct config, https_proxy)},
    {{"network", "no_proxy", "HOSTS", "hosts that are reached without (default: the environment's no_proxy)"},
     TEXT,
     offsetof(struct config, no_proxy)},
    {{"network", "policy", "public | none | full",
      "what VMs may reach that are started without --network and --allow (default: \"public\")"},
     WORD,
     offsetof(struct config, network_policy),
     .words = network_words},
    {{"network", "allow", "[RULE, ...]",
      "what those may reach besides, as with --allow; where there is no policy: nothing else"},
     LIST,
     offsetof(struct config, network_allow)},
    {{"network", "rate", "IN/OUT", "bytes a second to and from a VM, as with --net-rate (default: as fast as it goes)"},
     RATE,
     offsetof(struct config, network_rate)},
    {{"network", "connections", "N", "a VM has at most so many connections open, as with --net-connections"},
     INTEGER,
     offsetof(struct config, network_connections),
     1,
     CONFIG_MAX_CONNECTIONS},
    {{"network", "queries", "N", "a VM asks at most so many names a second, as with --net-queries"},
     INTEGER,
     offsetof(struct config, network_queries),
     1,
     CONFIG_MAX_QUERIES},
    {{"builder", "persistent", "BOOLEAN", "builds share a builder that stays between them (default: true)"},
     BOOLEAN,
     offsetof(struct config, persistent)},
    {{"builder", "idle_timeout", "SECONDS", "how long it stays with nothing to do; 0: for ever (default: 600)"},
     INTEGER,
     offsetof(struct config, idle_timeout),
     0,
     604800},
    {{"boot", "snapshots", "BOOLEAN",
      "VMs are restored from snapshots of their images' first boots; false: every VM boots (default: true)"},
     BOOLEAN,
     offsetof(struct config, boot_snapshots)},
    {{"boot", "hypervisor", "NAME", "the backend that runs VMs, as with --hypervisor (default: auto)"},
     TEXT,
     offsetof(struct config, hypervisor)},
    {{"boot", "confine", "auto | required",
      "\"required\": no VM starts unless its VMM is confined by namespaces or Landlock, and by seccomp; \"auto\": by "
      "what can be had, which doctor and inspect say (default: \"auto\")"},
     WORD,
     offsetof(struct config, confine),
     .words = confine_words},
};

const char *config_network(const struct config *c)
{
    if (c->network_policy < 0)
        return c->network_allow.n ? "listed" : network_words[CONFIG_NETWORK_PUBLIC];
    return network_words[c->network_policy];
}

const struct config_key *config_key(size_t i)
{
    return i < ARRAY_SIZE(settings) ? &settings[i].key : NULL;
}

/* ---- Values ---- */

static int as_text(const struct toml_value *v, const char **ret, struct mvm_error *err)
{
    if (v->type != TOML_STRING)
        return mvm_error_set(err, -EINVAL, "a string is wanted, not %s %s",
                             strchr("aeiou", toml_type_name(v->type)[0]) ? "an" : "a", toml_type_name(v->type));
    if (strlen(v->string.text) != v->string.len || v->string.len > 4000)
        return mvm_error_set(err, -EINVAL, "the text is too long, or has a NUL");
    *ret = v->string.text;
    return 0;
}

static int set_text(const struct setting *s, const struct toml_value *v, char **field, struct mvm_error *err)
{
    const char *text = NULL;
    int r = as_text(v, &text, err);
    if (r == 0 && s->kind == URL)
        r = config_check_url(text, err);
    if (r == 0 && s->kind == PATH && text[0] != '/')
        r = mvm_error_set(err, -EINVAL, "'%.200s' is no absolute path", text);
    if (r < 0)
        return r;
    *field = strdup(text);
    if (!*field)
        return mvm_error_errno(err, -ENOMEM, "config");
    size_t n = strlen(*field);
    while (s->kind == URL && n && (*field)[n - 1] == '/')
        (*field)[--n] = '\0';
    return 0;
}

static int set_size(const struct setting *s, const struct toml_value *v, uint64_t *field, struct mvm_error *err)
{
    uint64_t n = 0;
    int r = v->type == TOML_STRING ? config_parse_size(v->string.text, &n) : -EINVAL;
    if (r < 0 || n < (uint64_t)s->least || n > (uint64_t)s->most)
        return mvm_error_set(err, -EINVAL, "a size from \"%lldM\" to \"%lldG\" is wanted", (long long)s->least >> 20,
                             (long long)s->most >> 30);
    *field = n;
    return 0;
}

static int set_rate(const struct toml_value *v, struct config_rate *field, struct mvm_error *err)
{
    const char *text = NULL;
    int r = as_text(v, &text, err);
    return r < 0 ? r : config_parse_rate(text, field, err);
}

static int check_item(const struct setting *s, const char *text, struct mvm_error *err)
{
    if (s->kind == PATHS && text[0] != '/')
        return mvm_error_set(err, -EINVAL, "'%.200s' is no absolute path", text);
    if (s->kind == LIST && (!*text || strpbrk(text, " \t\r\n")))
        return mvm_error_set(err, -EINVAL, "'%.200s' is no word: it is empty, or has a space in it", text);
    return 0;
}

static int set_list(const struct setting *s, const struct toml_value *v, struct config_list *list, unsigned *ret_line,
                    struct mvm_error *err)
{
    if (v->type != TOML_ARRAY)
        return mvm_error_set(err, -EINVAL, "an array of strings is wanted");
    for (const struct toml_value *e = v->list.first; e; e = e->next) {
        const char *text = NULL;
        *ret_line = e->line;
        int r = as_text(e, &text, err);
        if (r == 0)
            r = check_item(s, text, err);
        if (r == 0 && list->n == CONFIG_MAX_LIST)
            r = mvm_error_set(err, -EINVAL, "at most %d are wanted", CONFIG_MAX_LIST);
        if (r == 0 && !(list->v[list->n] = strdup(text)))
            r = mvm_error_errno(err, -ENOMEM, "config");
        if (r < 0)
            return r;
        list->n++;
    }
    return 0;
}

static int set_boolean(const struct toml_value *v, bool *field, struct mvm_error *err)
{
    if (v->type != TOML_BOOL)
        return mvm_error_set(err, -EINVAL, "true or false is wanted");
    *field = v->boolean;
    return 0;
}

static int set_integer(const struct setting *s, const struct toml_value *v, int64_t *field, struct mvm_error *err)
{
    if (v->type != TOML_INTEGER || v->integer < s->least || v->integer > s->most)
        return mvm_error_set(err, -EINVAL, "an integer from %lld to %lld is wanted", (long long)s->least,
                             (long long)s->most);
    *field = v->integer;
    return 0;
}

static int set_word(const struct setting *s, const struct toml_value *v, int *field, struct mvm_error *err)
{
    const char *text = NULL;
    int r = as_text(v, &text, err);
    for (int i = 0; r == 0 && s->words[i]; i++) {
        if (strcmp(s->words[i], text) != 0)
            continue;
        *field = i;
        return 0;
    }
    return r < 0 ? r : mvm_error_set(err, -EINVAL, "'%.60s' is not %s", text, s->key.value);
}

/* Errors in the elements are those of their own lines: *ret_line. */
static int set_public_keys(const struct toml_value *v, struct config *c, unsigned *ret_line, struct mvm_error *err)
{
    if (v->type != TOML_ARRAY)
        return mvm_error_set(err, -EINVAL, "an array of public keys is wanted");
    for (const struct toml_value *e = v->list.first; e; e = e->next) {
        const char *text = NULL;
        *ret_line = e->line;
        if (c->n_public_keys == CONFIG_MAX_KEYS)
            return mvm_error_set(err, -EINVAL, "more than %d public keys", CONFIG_MAX_KEYS);
        int r = as_text(e, &text, err);
        if (r == 0)
            r = minisign_key_parse(&c->public_keys[c->n_public_keys], text, strlen(text), err);
        if (r < 0)
            return r;
        c->n_public_keys++;
    }
    return 0;
}

static int set_value(const struct setting *s, const struct toml_value *v, struct config *c, struct mvm_error *err)
{
    void *field = (char *)c + s->field;
    unsigned line = v->line;
    int r = 0;
    switch (s->kind) {
    case LIST:
    case PATHS:
        r = set_list(s, v, field, &line, err);
        break;
    case SIZE:
        r = set_size(s, v, field, err);
        break;
    case RATE:
        r = set_rate(v, field, err);
        break;
    case TEXT:
    case URL:
    case PATH:
        r = set_text(s, v, field, err);
        break;
    case BOOLEAN:
        r = set_boolean(v, field, err);
        break;
    case INTEGER:
        r = set_integer(s, v, field, err);
        break;
    case WORD:
        r = set_word(s, v, field, err);
        break;
    case PUBLIC_KEYS:
        r = set_public_keys(v, c, &line, err);
        break;
    }
    return r < 0 ? mvm_error_wrap(err, "line %u: %s", line, s->key.name) : 0;
}

/* ---- Keys ---- */

/* The names there are in a table, or (table NULL) the tables there are; -EINVAL for one that is none of them. */
static int unknown(const struct toml_value *v, const char *table, struct mvm_error *err)
{
    const char *names[ARRAY_SIZE(settings)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
        if (!table || strcmp(settings[i].key.table, table) == 0)
            names[n++] = table ? settings[i].key.name : settings[i].key.table;
    const char *near = suggest_word(v->key, names, n);
    mvm_error_set(err, -EINVAL, "line %u: there is no %s '%.60s'%s%s%s", v->line, table ? "key" : "table", v->key,
                  table ? " in [" : "", table ? table : "", table ? "]" : "");
    if (near)
        mvm_error_hint(err, "did you mean %s?", near);
    else
        mvm_error_hint(err, "the manual's section CONFIGURATION lists the keys");
    return -EINVAL;
}

static bool is_table_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
        if (strcmp(settings[i].key.table, name) == 0)
            return true;
    return false;
}

static int read_table(const struct toml_value *table, struct config *c, struct mvm_error *err)
{
    if (!is_table_name(table->key))
        return unknown(table, NULL, err);
    if (table->type != TOML_TABLE)
        return mvm_error_set(err, -EINVAL, "line %u: '%s' is a table: [%s]", table->line, table->key, table->key);
    for (const struct toml_value *v = table->list.first; v; v = v->next) {
        size_t i = 0;
        while (i < ARRAY_SIZE(settings) &&
               (strcmp(settings[i].key.table, table->key) != 0 || strcmp(settings[i].key.name, v->key) != 0))
            i++;
        int r = i == ARRAY_SIZE(settings) ? unknown(v, table->key, err) : set_value(&settings[i], v, c, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Settings decide what is trusted (keys, servers, folders): nobody else may have written them. */
static int check_owner(struct home *h, bool has_secrets, struct mvm_error *err)
{
    struct stat st;
    if (fstatat(h->state_fd, CONFIG_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return mvm_error_errno(err, -errno, "it cannot be looked at");
    if (st.st_uid != geteuid())
        return mvm_error_set(err, -EPERM, "it belongs to another user");
    if (!(st.st_mode & 022) && !(has_secrets && (st.st_mode & 077)))
        return 0;
    mvm_error_set(err, -EPERM,
                  st.st_mode & 022 ? "it can be written by others" : "it has access tokens and can be read by others");
    mvm_error_hint(err, "chmod 600 %s/" CONFIG_FILE, h->state);
    return -EPERM;
}

static int read_file(struct config *c, struct home *h, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(TOML_MAX_SIZE);
    CLEAN_TOML struct toml_value *root = NULL;
    struct mvm_error why = MVM_ERROR_INIT;
    int r = path_read_file(h->state_fd, CONFIG_FILE, &text, &why);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return mvm_error_set(err, r, "%s", why.msg);
    r = toml_parse(buf_cstr(&text), text.len, &root, err);
    if (text.data)
        explicit_bzero(text.data, text.cap); /* it may have secrets */
    for (const struct toml_value *t = r == 0 ? root->list.first : NULL; r == 0 && t; t = t->next)
        r = read_table(t, c, err);
    if (r == 0)
        r = check_owner(h, c->access_tokens.n > 0, err);
    return r < 0 ? mvm_error_wrap(err, "%s/" CONFIG_FILE, h->state) : 0;
}

int config_load(struct config *c, struct home *h, struct mvm_error *err)
{
    int r = read_file(c, h, err);
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        config_done(c);
    }
    return r;
}

static void list_done(struct config_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        explicit_bzero(l->v[i], strlen(l->v[i])); /* one of the lists has secrets */
        free(l->v[i]);
    }
    l->n = 0;
}

void config_done(struct config *c)
{
    list_done(&c->substituters);
    list_done(&c->trusted_public_keys);
    list_done(&c->access_tokens);
    list_done(&c->allow_inputs);
    list_done(&c->network_allow);
    free(c->http_proxy);
    free(c->https_proxy);
    free(c->no_proxy);
    free(c->dev_url);
    free(c->builder_url);
    free(c->ca_file);
    free(c->hypervisor);
    *c = (struct config)CONFIG_INIT;
}
