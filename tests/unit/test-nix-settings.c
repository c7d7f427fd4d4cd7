/* What config.toml and the environment say of Nix's fetches, and the flakes that a builder image provides. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "builder/builder_network.h"
#include "builder/nix_settings.h"
#include "flake/registry.h"
#include "image/ext4.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct home home = HOME_INIT;

static bool has(const struct msg_strings *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], text) == 0)
            return true;
    return false;
}

static int load(const char *config, struct nix_settings *n, struct mvm_error *e)
{
    (void)!unlinkat(home.state_fd, "config.toml", 0);
    if (config && path_write_file(home.state_fd, "config.toml", config, strlen(config), 0600, false, NULL) < 0)
        abort();
    return nix_settings_load(n, &home, e);
}

static void set(const char *http, const char *https, const char *none)
{
    const char *const all[][2] = {{"http_proxy", http}, {"https_proxy", https}, {"no_proxy", none}};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i][1])
            setenv(all[i][0], all[i][1], 1);
        else
            unsetenv(all[i][0]);
}

static void test_settings(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct nix_settings n;
    set(NULL, NULL, NULL);
    ok(load(NULL, &n, &e) == 0 && n.options.n == 0 && n.env.n == 0 && !n.secret && n.jobs == 0,
       "without a file and proxies nothing is said to Nix");
    nix_settings_done(&n);
    ok(load("[nix]\nsubstituters = [\"https://a\", \"https://b\"]\ntrusted_public_keys = "
            "[\"a-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n",
            &n, &e) == 0 &&
           has(&n.options, "extra-substituters=https://a https://b") && n.options.n == 2 && !n.secret,
       "substituters and keys are settings of nix.conf (%s)", e.msg);
    nix_settings_done(&n);
    ok(load("[nix]\naccess_tokens = [\"github.com=tok\"]\n", &n, &e) == 0 && n.options.n == 0 && n.secret &&
           has(&n.env, "NIX_CONFIG=access-tokens = github.com=tok"),
       "an access token is in the environment, not among the settings, and secret (%s)", e.msg);
    nix_settings_done(&n);
    ok(load("[nix]\nno-such-key = 1\n", &n, &e) < 0 && e.phase == MVM_PHASE_CONFIG && n.env.n == 0,
       "a file that is wrong is an error");
    nix_settings_done(&n);
}

static void proxy(const char *value, const char *want, bool secret)
{
    struct nix_settings n;
    char text[128];
    set(value, NULL, NULL);
    snprintf(text, sizeof(text), "http_proxy=%s", want);
    int r = load(NULL, &n, NULL);
    ok(r == 0 && n.env.n == 1 && strcmp(n.env.v[0], text) == 0 && n.secret == secret, "the proxy %s is %s for a VM%s",
       value, want, secret ? ", and secret" : "");
    if (r == 0 && n.env.n)
        printf("# %s\n", n.env.v[0]);
    nix_settings_done(&n);
}

static void test_proxies(void)
{
    proxy("http://127.0.0.1:3128", "http://10.0.2.2:3128", false);
    proxy("http://localhost:3128/", "http://10.0.2.2:3128/", false);
    proxy("http://[::1]:3128", "http://10.0.2.2:3128", false);
    proxy("http://localhost", "http://10.0.2.2", false);
    proxy("localhost:3128", "10.0.2.2:3128", false);
    proxy("http://user:word@127.0.0.1:1", "http://user:word@10.0.2.2:1", true);
    proxy("http://localhost.example:3128", "http://localhost.example:3128", false);
    proxy("http://127.0.0.10:3128", "http://127.0.0.10:3128", false);
    proxy("http://proxy:3128/localhost", "http://proxy:3128/localhost", false);
    proxy("http://localhost@proxy:3128", "http://localhost@proxy:3128", true);
    struct nix_settings n;
    struct mvm_error e = MVM_ERROR_INIT;
    set("", "http://two", "one,two");
    ok(load(NULL, &n, &e) == 0 && n.env.n == 2 && has(&n.env, "https_proxy=http://two") &&
           has(&n.env, "no_proxy=one,two"),
       "an empty variable is none");
    nix_settings_done(&n);
    set(NULL, NULL, NULL);
}

/* What of this machine's loopback a builder may reach for that config.toml. */
static void network(const char *config, const char *want)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    char got[BUILDER_NETWORK_MAX] = "";
    (void)!unlinkat(home.state_fd, "config.toml", 0);
    if (path_write_file(home.state_fd, "config.toml", config, strlen(config), 0600, false, NULL) < 0)
        abort();
    int r = config_load(&c, &home, &e);
    if (r == 0)
        r = builder_network(&c, got, &e);
    ok(r == 0 && strcmp(got, want) == 0, "T5: for %.60s a builder reaches '%s' (%s)", config, got, e.msg);
}

static void test_network(void)
{
    set(NULL, NULL, NULL);
    network("# nothing", "@builder");
    network("[nix]\nsubstituters = ['https://a', 'http://127.0.0.1:5000/x', 'http://localhost']\n",
            "@builder host:5000 host:80");
    network("[nix]\nsubstituters = ['https://[::1]/a', 'http://10.0.2.2:7', 'http://localhost.example:8']\n",
            "@builder host:443 host:7");
    network("[network]\nhttp_proxy = 'http://user:word@127.0.0.1:3128'\nhttps_proxy = 'http://localhost:3128/'\n",
            "@builder host:3128");
    set("http://127.0.0.1:1", NULL, NULL);
    network("# the environment's proxy", "@builder host:1");
    set(NULL, NULL, NULL);
}

/* ---- The registry of a builder image ---- */

static bool make_image(const char *path, const char *registry)
{
    struct fstree t;
    const struct ext4_opts opts = {.spare = 1 << 20};
    CLEAN_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good =
        fd >= 0 && fstree_init(&t) == 0 &&
        (!registry || fstree_add_memory(&t, "etc/nix/registry.json", 0644, registry, strlen(registry), NULL) == 0) &&
        ext4_write(fd, &t, &opts, NULL) == 0;
    fstree_done(&t);
    return good;
}

#define FLAKE(id, path) "{\"from\":{\"id\":\"" id "\"},\"to\":{\"path\":\"" path "\",\"narHash\":\"sha256-" id "\"}}"

static void test_registry(const char *folder)
{
    CLEAN_FREE char *image = path_join(folder, "rootfs", NULL);
    struct registry f;
    struct mvm_error e = MVM_ERROR_INIT;
    if (!make_image(image, "{\"flakes\":[1, {}, {\"from\":1}," FLAKE("nixpkgs", "/x") "," FLAKE(
                               "mvm", "/nix/mvm") "," FLAKE("mvm-tools", "/nix/tools") "],\"version\":2}"))
        abort();
    ok(registry_load(&f, image, &e) == 0 && strcmp(f.library.path, "/nix/mvm") == 0 &&
           strcmp(f.library.hash, "sha256-mvm") == 0 && strcmp(f.tools.path, "/nix/tools") == 0,
       "the library and the tools are found among other entries, and what is none is passed over (%s)", e.msg);
    static const struct {
        const char *text, *what;
    } bad[] = {{"{\"flakes\":[" FLAKE("mvm", "/a") "]}", "a registry without the tools"},
               {"{\"flakes\":{}}", "a registry that is no list"},
               {"{\"flakes\":[", "a registry that is no JSON"},
               {"", "an empty registry"},
               {NULL, "an image without a registry"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (!make_image(image, bad[i].text))
            abort();
        ok(registry_load(&f, image, &e) < 0 && !f.tools.hash[0] && strstr(e.msg, "flake registry"), "%s is an error",
           bad[i].what);
    }
    ok(registry_load(&f, "/dev/null", &e) < 0, "the registry of a file that is no image is an error");
}

int main(void)
{
    const char *folder = tap_folder();
    CLEAN_FREE char *cache = path_join(folder, "cache", NULL);
    CLEAN_FREE char *state = path_join(folder, "state", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (home_open(&home, NULL) < 0)
        return 1;
    test_settings();
    test_proxies();
    test_network();
    test_registry(folder);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
