#include "cli/publish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int publish_parse(const char *text, struct port_spec *ret, size_t max, size_t *ret_n, struct mvm_error *err)
{
    static const char prefix[] = "unix:";
    const size_t n = sizeof(prefix) - 1;
    char full[4096 + 256];
    CLEAN_FREE char *cwd = NULL;
    if (strncmp(text, prefix, n) != 0 || text[n] == '/' || text[n] == ':' || !(cwd = getcwd(NULL, 0)))
        return port_spec_parse(text, ret, max, ret_n, err);
    const char *rest = text + n + (strncmp(text + n, "./", 2) == 0 ? 2 : 0);
    if ((size_t)snprintf(full, sizeof(full), "%s%s/%s", prefix, cwd, rest) >= sizeof(full))
        return mvm_error_set(err, -ENAMETOOLONG, "port '%.60s': the path is too long", text);
    return port_spec_parse(full, ret, max, ret_n, err);
}

int publish_specs(const struct args *a, const char *option, struct port_spec ret[static PORTS_MAX], size_t *ret_n,
                  struct mvm_error *err)
{
    char *texts[MAX_GIVEN];
    size_t n = arg_list(a, option, texts, ARRAY_SIZE(texts)), one = 0;
    int r = 0;
    *ret_n = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = publish_parse(texts[i], &ret[*ret_n], PORTS_MAX - *ret_n, &one, err);
        *ret_n += r == 0 ? one : 0;
    }
    return r == 0 ? port_specs_check(ret, *ret_n, err) : r;
}

int publish_check(const struct args *a, struct mvm_error *err)
{
    struct port_spec specs[PORTS_MAX];
    size_t n;
    return publish_specs(a, "publish", specs, &n, err);
}

int publish_open(const struct args *a, const struct image_metadata *m, struct home *h, struct port_sockets **ret,
                 struct mvm_error *err)
{
    struct port_spec specs[PORTS_MAX];
    size_t n = 0;
    int r = publish_specs(a, "publish", specs, &n, err);
    bool all = m && arg_flag(a, "publish-all");
    if (r == 0 && all && m->n_ports == 0) {
        r = mvm_error_set(err, -EINVAL, "the image names no ports to publish");
        mvm_error_hint(err, "give them: --publish HOST:GUEST, or name them in mkGuest: ports = [ 80 ];");
    }
    for (unsigned i = 0; r == 0 && all && i < m->n_ports; i++) {
        if (n == PORTS_MAX)
            r = mvm_error_set(err, -E2BIG, "a VM publishes at most %d ports", PORTS_MAX);
        else
            specs[n++] = (struct port_spec){.address = "127.0.0.1", .guest = m->ports[i], .protocol = IPPROTO_TCP};
    }
    return r < 0 || n == 0 ? r : port_sockets_open(h, specs, n, ret, err);
}

void publish_print(const struct msg_status *st, const char *before)
{
    struct port_spec specs[PORTS_MAX];
    size_t n = ports_of_status(st, specs);
    for (size_t i = 0; i < n; i++) {
        char host[PORT_SPEC_MAX_TEXT];
        port_spec_format_host(&specs[i], host);
        ui_line("%s%s -> %u/%s", before, host, specs[i].guest, port_spec_protocol(&specs[i]));
    }
}

json_object *publish_json_of(const struct port_spec *v, size_t n)
{
    json_object *list = json_object_new_array();
    for (const struct port_spec *p = v; p < v + n; p++) {
        json_object *o = json_object_new_object();
        json_add_string(o, "address", p->path[0] ? NULL : p->address);
        if (p->path[0])
            json_add(o, "host_port", NULL);
        else
            json_add_int(o, "host_port", p->host);
        json_add_int(o, "guest_port", p->guest);
        json_add_string(o, "protocol", port_spec_protocol(p));
        json_add_string(o, "path", p->path[0] ? p->path : NULL);
        json_object_array_add(list, o);
    }
    return list;
}

json_object *publish_json(const struct msg_status *st)
{
    struct port_spec specs[PORTS_MAX];
    return publish_json_of(specs, ports_of_status(st, specs));
}
