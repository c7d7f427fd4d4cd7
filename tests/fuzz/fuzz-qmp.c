/* Any bytes as what a VMM says over its control socket, in pieces of any size: each line is used up once, and what is
 * told of a failure is a text. */
#include "fuzz.h"

#include "vmm/qmp.h"

#include <string.h>

static void read_all(struct vmm_control *c)
{
    char problem[64];
    enum vmm_event e;
    do {
        size_t before = c->in.len;
        memset(problem, 'x', sizeof(problem));
        e = qmp_read(c, problem, sizeof(problem));
        MUST(e >= VMM_NOTHING && e <= VMM_NOT_YET && c->in.len <= before);
        MUST(e == VMM_NOTHING || c->in.len < before);
        if (e == VMM_FAILED)
            MUST(strnlen(problem, sizeof(problem)) < sizeof(problem));
    } while (e != VMM_NOTHING);
    MUST(c->in.len == 0 || !memchr(c->in.data, '\n', c->in.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_control c = VMM_CONTROL_INIT;
    struct input in = {data, size};
    size_t piece = input_u8(&in) + 1u;
    while (in.left) {
        size_t n;
        const uint8_t *p = input_bytes(&in, piece, &n);
        MUST(buf_append(&c.in, p, n) == 0);
        read_all(&c);
    }
    buf_done(&c.in);
    return 0;
}
