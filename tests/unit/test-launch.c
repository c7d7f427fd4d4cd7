/* From a plan to a running VMM (supervisor/launch.h), with a backend that only looks at what it is given. */
#include "tap.h"

#include "base/path.h"
#include "supervisor/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct vmm_config given;
static char given_cmdline[64];
static int answer;

static int start(const struct vmm_config *c, struct process *ret, struct jail_report *ret_jail, struct mvm_error *err)
{
    given = *c;
    snprintf(given_cmdline, sizeof(given_cmdline), "%s", c->cmdline);
    return answer < 0 ? mvm_error_errno(err, answer, "the backend") : 0;
}

static const struct vmm_ops backend = {.name = "test", .start = start};

static bool talks(int a, int b)
{
    char byte = 0;
    return write(a, "x", 1) == 1 && read(b, &byte, 1) == 1 && byte == 'x' && write(b, "y", 1) == 1 &&
           read(a, &byte, 1) == 1 && byte == 'y';
}

static void test_connections(void)
{
    CLEAN_LAUNCHED struct launched l = LAUNCHED_INIT;
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1, -1}, frames = -1, network = -1;
    ok(launch_make_card(&frames, &network) == 0 && launched_connect(&l, frames, ends) == 0,
       "a VMM gets four connections and its end of the card");
    ok(talks(l.channel_fd, ends[LAUNCH_CHANNEL]) && talks(l.console_fd, ends[LAUNCH_CONSOLE]) &&
           talks(l.control_fd, ends[LAUNCH_CONTROL]) && talks(l.log_fd, ends[LAUNCH_LOG]),
       "each of its ends belongs to the one of that name");
    close(frames);
    ok(talks(ends[LAUNCH_FRAMES], network), "the card's end is that of the network process's, whoever else closes it");
    close(network);
    bool private_ends = true;
    for (int i = 0; i < LAUNCH_ENDS; i++)
        private_ends &= (fcntl(ends[i], F_GETFD) & FD_CLOEXEC) != 0;
    ok(private_ends, "no other program inherits them");
    launched_done(&l);
    char byte;
    ok(read(ends[LAUNCH_CONTROL], &byte, 1) == 0 && l.control_fd == -1,
       "when this side is done the VMM's ends have ended");
    for (int i = 0; i < LAUNCH_ENDS; i++)
        close(ends[i]);
}

static void test_start(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct process p = PROCESS_INIT;
    struct jail_report jail;
    struct runfile *run = calloc(1, sizeof(*run));
    const struct vmm_source source = {.memory_fd = -1, .cgroup_fd = 9};
    const int ends[LAUNCH_ENDS] = {
        [LAUNCH_CHANNEL] = 21, [LAUNCH_CONSOLE] = 22, [LAUNCH_CONTROL] = 23, [LAUNCH_LOG] = 24, [LAUNCH_FRAMES] = 25};
    const char *folder = tap_folder();
    *run = (struct runfile){.name = "web", .memory_mib = 64, .vcpus = 1};
    snprintf(run->image_path, sizeof(run->image_path), "%s", folder);
    ok(launch_vmm(&backend, run, &source, ends, &p, &jail, &e) == 0 && given.channel_fd == 21 &&
           given.console_fd == 22 && given.control_fd == 23 && given.log_fd == 24 && given.frames_fd == 25 &&
           given.cgroup_fd == 9,
       "the backend gets each connection in its place, and the cgroup");
    ok(given.sibling && given.memory_mib == 64 && strstr(given_cmdline, "mvm.root=vda"),
       "the VMM is the supervisor's child, and runs what run.json says");
    answer = -EXDEV;
    ok(launch_vmm(&backend, run, &source, ends, &p, &jail, &e) == -EXDEV && strstr(e.msg, "the backend"),
       "what the backend says of a start that fails is passed on");
    (void)!path_remove_tree(AT_FDCWD, folder);
    given.name = NULL;
    ok(launch_vmm(&backend, run, &source, ends, &p, &jail, &e) == -ENOENT && !given.name,
       "without an image the backend is not asked");
    free(run);
}

int main(void)
{
    test_connections();
    test_start();
    return tap_end();
}
