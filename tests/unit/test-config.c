#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "cache/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQh"

static struct home home = HOME_INIT;

static int load(const char *text, struct config *c, struct mvm_error *err)
{
    if (path_write_file(home.state_fd, CONFIG_FILE, text, strlen(text), 0600, false, NULL) < 0)
        abort();
    return config_load(c, &home, err);
}

/* Refused in phase config, with the file, the line, the words, and the words of the hint. */
static bool refused(const char *text, const char *line, const char *words, const char *hint)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    int r = load(text, &c, &e);
    if (r < 0 && e.phase == MVM_PHASE_CONFIG && strstr(e.msg, "/config.toml: ") && strstr(e.msg, line) &&
        strstr(e.msg, words) && strstr(e.hint, hint) && !c.dev_url)
        return true;
    printf("# %d: %s (%s)\n", r, e.msg, e.hint);
    return false;
}

static void test_good(void)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(config_load(&c, &home, &e) == 0 && !c.dev_url && c.stall_seconds == 60, "no file: defaults");
    ok(load(
           "[images]\ndev_url = 'https://host/x//'\nbuilder_url = 'file:///y'\nca_file = '/ca'\n"
           "stall_seconds = 5\npublic_keys = [\n '" KEY "', # mine\n]\n"
           "[boot]\nsnapshots = false\nhypervisor = 'other'\nconfine = 'required'\n[builder]\npersistent = false\nidle_timeout = 0\nmemory "
           "= '3G'\ncpus = 3\njobs "
           "= 2\n"
           "store_size = '512MiB'\n[nix]\nsubstituters = ['https://a', 'https://b']\n"
           "trusted_public_keys = ['k:1']\n[flake]\nallow_inputs = ['/src/lib']\n[network]\nhttp_proxy = "
           "'http://127.0.0.1:3128'\n"
           "https_proxy = 'http://proxy:1'\nno_proxy = 'local'\npolicy = 'none'\n"
           "allow = ['example.org']\nrate = '10M/'\nconnections = 100\nqueries = 5\n",
           &c, &e) == 0,
       "every key");
    ok(c.dev_url && strcmp(c.dev_url, "https://host/x") == 0, "a URL without its last slashes");
    ok(c.builder_url && strcmp(c.builder_url, "file:///y") == 0 && strcmp(c.ca_file, "/ca") == 0, "a path");
    ok(c.stall_seconds == 5 && c.n_public_keys == 1 && c.public_keys[0].key[0] == 0x60, "a number and a public key");
    ok(!c.persistent && !c.boot_snapshots && c.idle_timeout == 0, "booleans, and a number that is zero");
    ok(c.hypervisor && strcmp(c.hypervisor, "other") == 0, "a name");
    ok(c.confine == CONFINE_REQUIRED && strcmp(config_network(&c), "none") == 0, "one of several words");
    ok(c.builder_memory == 3ull << 30 && c.builder_cpus == 3 && c.builder_jobs == 2 && c.store_size == 512ull << 20,
       "sizes and numbers");
    ok(c.substituters.n == 2 && strcmp(c.substituters.v[1], "https://b") == 0 && c.trusted_public_keys.n == 1 &&
           c.allow_inputs.n == 1 && strcmp(c.allow_inputs.v[0], "/src/lib") == 0 && c.network_allow.n == 1 &&
           strcmp(c.https_proxy, "http://proxy:1") == 0 && strcmp(c.no_proxy, "local") == 0,
       "lists and texts");
    ok(c.network_rate.in == 10 << 20 && c.network_rate.out == 0 && c.network_connections == 100 &&
           c.network_queries == 5,
       "limits");
    size_t n = 0;
    while (config_key(n))
        n++;
    ok(n == 26 && strcmp(config_key(0)->name, "dev_url") == 0, "the manual has them all");
}

static void test_bad(void)
{
    ok(refused("\n[images]\ndevurl = ''", "line 3:", "'devurl' in [images]", "mean dev_url"), "a key mistyped");
    ok(refused("[image]", "line 1:", "no table 'image'", "mean images"), "a table mistyped");
    ok(refused("x = 1", "line 1:", "'x'", "CONFIGURATION"), "a key in no table");
    ok(refused("[boot]\nconfine = 'never'", "line 2: confine", "auto | required", ""), "none of several words");
    ok(refused("images = 1", "line 1:", "is a table", ""), "a table that is none");
    ok(refused("[images]\ndev_url = 'file:///x'\nstall_seconds = 'x'", "line 3: stall_seconds", "1 to 3600", ""),
       "another type");
    ok(refused("[images]\nstall_seconds = 0", "line 2: stall_seconds", "1 to 3600", ""), "too small");
    ok(refused("[images]\nstall_seconds = 3601", "line 2: stall_seconds", "1 to 3600", ""), "too large");
    ok(refused("[images]\ndev_url = 1", "line 2: dev_url", "not an integer", ""), "a URL that is a number");
    static const char *const urls[] = {
        "http://host/x", "ftp://host",  "https://",        "https:///x", "file://host/x", "/x", "",
        "https://a b",   "https://a?b", "HTTPS://x\\u0000"};
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        char text[100];
        snprintf(text, sizeof(text), "[images]\n\nbuilder_url = \"%s\"", urls[i]);
        ok(refused(text, "line 3: builder_url", "", ""), "no URL: %s", urls[i]);
    }
    static const char *const rates[] = {"10M",   "",         "4095/", "/-1",
                                        "1T/2T", "1M/1M/1M", "x/1M",  "99999999999999999999999999/"};
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        char text[100];
        snprintf(text, sizeof(text), "[network]\nrate = '%s'", rates[i]);
        ok(refused(text, "line 2: rate", "IN/OUT", "10M/1M"), "no rate: '%s'", rates[i]);
    }
    struct config_rate rate;
    uint64_t size;
    ok(config_parse_rate("0/1.5M", &rate, NULL) == -EINVAL && config_parse_rate("/", &rate, NULL) == 0 && !rate.in &&
           config_parse_size("2GiB", &size) == 0 && size == 2ull << 30,
       "sizes are whole, a rate of nothing is none");
    ok(refused("[network]\nqueries = 0", "line 2: queries", "1 to 10000", ""), "too few queries");
    ok(refused("[images]\nca_file = 'ca.pem'", "line 2: ca_file", "absolute", ""), "a relative path");
    ok(refused("[flake]\nallow_inputs = ['/a', 'b/c']", "line 2: allow_inputs", "'b/c' is no absolute path", "") &&
           refused("[flake]\nallow_inputs = ['~/a']", "line 2: allow_inputs", "'~/a' is no absolute path", "") &&
           refused("[flake]\nallow_inputs = ['']", "line 2: allow_inputs", "absolute", ""),
       "T2: inputs are allowed by absolute paths alone");
    CLEAN_CONFIG struct config spaced = CONFIG_INIT;
    ok(load("[flake]\nallow_inputs = ['/a b']", &spaced, NULL) == 0 && strcmp(spaced.allow_inputs.v[0], "/a b") == 0,
       "T2: an input that is allowed may have a space in its name");
    ok(refused("[nix]\nsubstituters = ['a b']", "line 2: substituters", "'a b' is no word", ""), "a word with a space");
    ok(refused("[images]\npublic_keys = '" KEY "'", "line 2: public_keys", "array", ""), "a key outside an array");
    ok(refused("[images]\npublic_keys = [\n'" KEY "',\n'RWQ']", "line 4: public_keys", "not a minisign", ""),
       "a public key that is none: the line it is on");
    ok(refused("[images]\nx", "line 2:", "'='", ""), "no TOML");
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    char many[4096] = "[images]\npublic_keys = [";
    for (int i = 0; i <= CONFIG_MAX_KEYS; i++)
        strcat(many, "'" KEY "',");
    strcat(many, "]");
    ok(load(many, &c, &e) == -EINVAL && strstr(e.msg, "more than 16") && c.n_public_keys == 0, "too many public keys");
    unlinkat(home.state_fd, CONFIG_FILE, 0);
    ok(mkfifoat(home.state_fd, CONFIG_FILE, 0600) == 0 && config_load(&c, &home, &e) == -EINVAL, "a fifo is no file");
}

int main(void)
{
    const char *folder = tap_folder();
    setenv("MVM_HOME", folder, 1);
    setenv("MVM_CACHE_DIR", folder, 1);
    if (home_open(&home, NULL) < 0)
        return 1;
    test_good();
    test_bad();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
