/* Any bytes as what a VMM answers over its API, in pieces of any size, while it is told its machine and asked to pause,
 * resume and save: each command ends at most once, with a text of one line where it failed, and none is left when the
 * VMM has ended. */
#include "folder.h"

#include "vmm/firecracker.h"
#include "vmm/http.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KINDS = 3 };
static unsigned ends[KINDS];

static void is_one_line(const char *text)
{
    for (; *text; text++)
        MUST((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void on_end(void *owner, int r, const char *problem)
{
    ++*(unsigned *)owner;
    MUST(r >= 0 ? !*problem : *problem && strlen(problem) < 256);
    is_one_line(problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct vmm_config c = {.kernel = "/k", .cmdline = "", .memory_mib = 16, .vcpus = 1, .memory_fd = -1};
    struct vmm *v;
    int pair[2];
    folder_enter();
    c.dir_fd = AT_FDCWD;
    c.incoming = input_u8(&in) & 1;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    if (firecracker_open(pair[0], &c, &v) < 0)
        abort();
    struct vmm_done done[KINDS];
    memset(ends, 0, sizeof(ends));
    for (size_t i = 0; i < KINDS; i++)
        done[i] = (struct vmm_done){.done = on_end, .owner = &ends[i]};
    CLEAN_FD int state = memfd_create("state", MFD_CLOEXEC);
    MUST(firecracker_pause(v, done[0]) == 0 && firecracker_resume(v, done[1]) == 0 &&
         firecracker_save(v, state, false, done[2]) == 0);
    size_t piece = input_u8(&in) + 1u;
    bool reads = true;
    while (in.left && reads) {
        size_t n;
        const uint8_t *p = input_bytes(&in, piece, &n);
        reads = firecracker_input(v, p, n);
        is_one_line(firecracker_facts(v)->problem);
    }
    MUST(reads || firecracker_facts(v)->problem[0]);
    firecracker_ended(v);
    for (size_t i = 0; i < KINDS; i++)
        MUST(ends[i] <= 1);
    firecracker_free(v);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
