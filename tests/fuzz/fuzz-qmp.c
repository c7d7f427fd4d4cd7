/* Any bytes as what a VMM says over its control socket, in pieces of any size, while commands of every kind are under
 * way: each ends at most once, with a text where it failed, and none is left when the VMM has ended. */
#include "fuzz.h"

#include "vmm/qmp.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KINDS = 5 };
static unsigned ends[KINDS];

static void on_end(void *owner, int r, const char *problem)
{
    ++*(unsigned *)owner;
    MUST(r >= 0 ? !*problem : strlen(problem) < 64 * 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_config config = {.accel = {.name = "tcg"}};
    struct input in = {data, size};
    struct vmm *v;
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && qmp_open(pair[0], &config, &v) == 0);
    struct vmm_done done[KINDS];
    memset(ends, 0, sizeof(ends));
    for (size_t i = 0; i < KINDS; i++)
        done[i] = (struct vmm_done){.done = on_end, .owner = &ends[i]};
    MUST(qmp_pause(v, done[0]) == 0 && qmp_resume(v, done[1]) == 0 && qmp_save(v, 0, true, done[2]) == 0 &&
         qmp_restore(v, 0, true, done[3]) == 0 && qmp_ask_halted(v, done[4]) == 0);
    size_t piece = input_u8(&in) + 1u;
    bool reads = true;
    while (in.left && reads) {
        size_t n;
        const uint8_t *p = input_bytes(&in, piece, &n);
        reads = qmp_input(v, p, n);
    }
    qmp_ended(v);
    for (size_t i = 0; i < KINDS; i++)
        MUST(ends[i] == 1);
    qmp_free(v);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
