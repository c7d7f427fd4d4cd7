/* Any bytes as a port to publish: what is taken reads as it is written, and each of a range is a place of its own. */
#include "fuzz.h"

#include "vmdir/port_spec.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define MANY 64

static void check_one(const struct port_spec *p, size_t max)
{
    struct mvm_error err = MVM_ERROR_INIT;
    struct port_spec again = {0};
    struct sockaddr_storage a;
    char text[PORT_SPEC_MAX_TEXT], text_again[PORT_SPEC_MAX_TEXT];
    size_t n = 0;
    MUST(p->guest != 0 && (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP));
    MUST(!p->path[0] == !!p->address[0] && (!p->path[0] || (p->path[0] == '/' && p->protocol == IPPROTO_TCP)));
    MUST(port_spec_address(p, &a) > 0 && (a.ss_family == AF_UNIX) == !!p->path[0]);
    port_spec_format(p, text);
    MUST(port_spec_parse(text, &again, max, &n, &err) == 0 && n == 1);
    MUST(again.host == p->host && again.guest == p->guest && again.protocol == p->protocol &&
         strcmp(again.address, p->address) == 0 && strcmp(again.path, p->path) == 0);
    port_spec_format(&again, text_again);
    MUST(strcmp(text, text_again) == 0);
    MUST(port_spec_same_host(p, &again) == (p->host != 0 || p->path[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct port_spec specs[MANY];
    struct mvm_error err = MVM_ERROR_INIT;
    size_t max = input_u8(&in) % MANY + 1, n = SIZE_MAX;
    char *text = strndup((const char *)in.at, in.left);
    MUST(text);
    int r = port_spec_parse(text, specs, max, &n, &err);
    MUST(r == 0 || (r == -EINVAL && err.phase == MVM_PHASE_USAGE && err.msg[0] && err.hint[0]));
    if (r == 0) {
        MUST(n >= 1 && n <= max && port_specs_check(specs, n, &err) == 0);
        for (size_t i = 0; i < n; i++) {
            MUST(specs[i].guest == specs[0].guest + i);
            check_one(&specs[i], max);
        }
    }
    free(text);
    return 0;
}
