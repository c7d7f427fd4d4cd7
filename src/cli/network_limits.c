#include "cli/network_limits.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/options.h"
#include "net/answerer.h"
#include "net/flows.h"
#include "net/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct option_spec opt_net_rate = {
    .name = "net-rate",
    .argument = "IN/OUT",
    .help =
        "let so many bytes a second to and from the VM pass: 10M/1M; one side may be empty or 0: no limit (default: "
        "config.toml's network.rate, or none)"};

const struct option_spec opt_net_connections = {
    .name = "net-connections",
    .argument = "N",
    .help = "let the VM have at most so many connections open (default: config.toml's network.connections, or 4096)"};

const struct option_spec opt_net_queries = {
    .name = "net-queries",
    .argument = "N",
    .help = "let the VM look up at most so many names a second (default: config.toml's network.queries, or 100)"};

const struct option_spec opt_pcap = {
    .name = "pcap",
    .argument = "FILE",
    .help =
        "write what passes the VM's network card to this new file, for tcpdump and Wireshark (4096 bytes of a frame, "
        "64 MiB in all)"};

static int number(const struct args *a, const char *option, uint32_t most, uint32_t *ret, struct mvm_error *err)
{
    const char *text = arg_value(a, option);
    char *end = NULL;
    unsigned long n = text && *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    if (!text)
        return 0;
    if (n == 0 || *end || n > most) {
        mvm_error_set(err, -EINVAL, "--%s %.60s", option, text);
        mvm_error_hint(err, "it is a number from 1 to %u", most);
        return -EINVAL;
    }
    *ret = (uint32_t)n;
    return 0;
}

static int take_options(const struct args *a, struct limits *l, struct mvm_error *err)
{
    const char *text = arg_value(a, "net-rate");
    struct config_rate rate;
    int r = text ? config_parse_rate(text, &rate, err) : 0;
    if (r < 0)
        mvm_error_wrap(err, "--net-rate");
    if (r == 0 && text) {
        l->rate[RATE_IN] = rate.in;
        l->rate[RATE_OUT] = rate.out;
    }
    if (r == 0)
        r = number(a, "net-connections", LIMITS_MAX_CONNECTIONS, &l->connections, err);
    if (r == 0)
        r = number(a, "net-queries", LIMITS_MAX_QUERIES, &l->queries, err);
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_USAGE);
    return r;
}

int network_limits_check(const struct args *a, struct mvm_error *err)
{
    struct limits l = {0};
    return take_options(a, &l, err);
}

int network_limits(const struct args *a, struct home *h, const char *saved, char out[static NETWORK_LIMITS_MAX],
                   struct mvm_error *err)
{
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    int r = config_load(&c, h, err);
    struct limits l = {.rate = {[RATE_IN] = c.network_rate.in, [RATE_OUT] = c.network_rate.out},
                       .connections = (uint32_t)c.network_connections,
                       .queries = (uint32_t)c.network_queries};
    if (r == 0)
        r = limits_add_words(&l, saved, err);
    if (r == 0)
        r = take_options(a, &l, err);
    if (r == 0)
        limits_format(&l, out);
    return r;
}

int network_pcap(const struct args *a, char **ret, struct mvm_error *err)
{
    const char *file = arg_value(a, "pcap");
    if (!file)
        return 0;
    CLEAN_FREE char *cwd = getcwd(NULL, 0);
    char *path = *file == '/' ? strdup(file) : cwd ? path_join(cwd, file, NULL) : NULL;
    if (!path)
        return mvm_error_errno(err, -errno, "--pcap %.200s", file);
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && strlen(path) < sizeof(((struct runfile *)0)->pcap)) {
        *ret = path;
        return 0;
    }
    int r = fd < 0 ? -errno : -ENAMETOOLONG;
    mvm_error_errno(err, r, "--pcap: cannot make the file %.200s", path);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    if (r == -EEXIST)
        mvm_error_hint(err, "nothing is written over: remove it, or name another");
    free(path);
    return r;
}

json_object *network_limits_json(const char *text)
{
    json_object *o = json_object_new_object();
    struct limits l = {0};
    if (limits_add_words(&l, text, NULL) < 0)
        l = (struct limits){0};
    json_add_int(o, "rate_in", (int64_t)l.rate[RATE_IN]);
    json_add_int(o, "rate_out", (int64_t)l.rate[RATE_OUT]);
    json_add_int(o, "connections", l.connections ? l.connections : FLOWS_MAX);
    json_add_int(o, "queries", l.queries ? l.queries : ANSWERER_RATE);
    return o;
}
