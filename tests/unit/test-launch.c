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

static int start(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err)
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
    char byte;
    ok(launch_make_card(&frames, &network) == 0 && launched_connect(&l, frames, ends) == 0,
       "a VMM gets four connections and its end of the card");
    ok(talks(l.channel_fd, ends[LAUNCH_CHANNEL]) && talks(l.console_fd, ends[LAUNCH_CONSOLE]) &&
           talks(l.control_fd, ends[LAUNCH_CONTROL]) && write(ends[LAUNCH_LOG], "x", 1) == 1 &&
           read(l.log_fd, &byte, 1) == 1,
       "each of its ends belongs to the one of that name");
    close(frames);
    ok(talks(ends[LAUNCH_FRAMES], network), "the card's end is that of the network process's, whoever else closes it");
    close(network);
    bool private_ends = true;
    for (int i = 0; i < LAUNCH_ENDS; i++)
        private_ends &= (fcntl(ends[i], F_GETFD) & FD_CLOEXEC) != 0;
    ok(private_ends, "no other program inherits them");
    launched_done(&l);
    ok(read(ends[LAUNCH_CONTROL], &byte, 1) == 0 && l.control_fd == -1,
       "when this side is done the VMM's ends have ended");
    for (int i = 0; i < LAUNCH_ENDS; i++)
        close(ends[i]);
}

static void test_start(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_started vmm = VMM_STARTED_INIT;
    struct runfile *run = calloc(1, sizeof(*run));
    const struct vmm_source source = {.memory_fd = -1, .dir_fd = 8, .cgroup_fd = 9};
    const int ends[LAUNCH_ENDS] = {
        [LAUNCH_CHANNEL] = 21, [LAUNCH_CONSOLE] = 22, [LAUNCH_CONTROL] = 23, [LAUNCH_LOG] = 24, [LAUNCH_FRAMES] = 25};
    const char *folder = tap_folder();
    *run = (struct runfile){.name = "web", .memory_mib = 64, .vcpus = 1};
    snprintf(run->image_path, sizeof(run->image_path), "%s", folder);
    ok(launch_vmm(&backend, run, &source, ends, &vmm, &e) == 0 && given.channel_fd == 21 && given.console_fd == 22 &&
           given.control_fd == 23 && given.log_fd == 24 && given.frames_fd == 25 && given.cgroup_fd == 9 &&
           given.dir_fd == 8,
       "the backend gets each connection in its place, the cgroup and the VM's folder");
    ok(given.sibling && given.memory_mib == 64 && strstr(given_cmdline, "mvm.root=vda"),
       "the VMM is the supervisor's child, and runs what run.json says");
    answer = -EXDEV;
    ok(launch_vmm(&backend, run, &source, ends, &vmm, &e) == -EXDEV && strstr(e.msg, "the backend"),
       "what the backend says of a start that fails is passed on");
    (void)!path_remove_tree(AT_FDCWD, folder);
    given.name = NULL;
    ok(launch_vmm(&backend, run, &source, ends, &vmm, &e) == -ENOENT && !given.name,
       "without an image the backend is not asked");
    free(run);
}

/* A VMM that makes its own sockets is reached there. */
static void test_take(void)
{
    CLEAN_LAUNCHED struct launched l = LAUNCHED_INIT;
    int ends[LAUNCH_ENDS] = {-1, -1, -1, -1, -1}, frames = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (launched_connect(&l, frames, ends) < 0)
        abort();
    struct vmm_started vmm = VMM_STARTED_INIT;
    vmm.process.pid = 7;
    const int control = l.control_fd;
    launched_take(&l, &vmm);
    ok(l.control_fd == control && l.listen_fd == -1 && l.process.pid == 7, "a VMM that takes its connections has them");
    vmm.control_fd = dup(frames);
    vmm.listen_fd = dup(frames);
    launched_take(&l, &vmm);
    char byte;
    ok(l.control_fd == vmm.control_fd && l.listen_fd == vmm.listen_fd && read(ends[LAUNCH_CONTROL], &byte, 1) == 0,
       "one that does not is spoken to where it says, and what was made for it has ended");
    for (int i = 0; i < LAUNCH_ENDS; i++)
        close(ends[i]);
    close(frames);
}

int main(void)
{
    test_connections();
    test_take();
    test_start();
    return tap_end();
}
