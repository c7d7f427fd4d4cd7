#include "supervisor/launch_network.h"
#include "base/fd.h"
#include "base/os.h"
#include "net/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Words of run.json, which are separated by spaces, behind what every network process is told. */
#define NETWORK_WORDS 160

static void network_words(char *text, const char *first[static 5], const char *words[static NETWORK_WORDS + 1])
{
    size_t n = 0;
    for (; n < 5; n++)
        words[n] = first[n];
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w && n < NETWORK_WORDS; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    words[n] = NULL;
}

/* What it is given: -1 where there is none. */
#define NETWORK_FDS 5

static void say(int report_fd, const char *file, const char *why)
{
    char line[512];
    int n = snprintf(line, sizeof(line), "frames are not written to %.400s: %s\n", file, why);
    (void)!send(report_fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The file that its frames are added to (machine_config.pcap). What is in the way is said in the VM's log: it goes on
 * without. */
static int open_pcap(const struct runfile *run, int report_fd)
{
    struct stat st;
    int fd = run->pcap[0] ? open(run->pcap, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    bool good = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid();
    if (run->pcap[0] && !good)
        say(report_fd, run->pcap, "it is gone, or no file of ours");
    if (!good)
        fd_closep(&fd);
    return fd;
}

/* Where it cannot be confined, and need not be. */
static int launch_plain(const char *const *argv, const int fds[static NETWORK_FDS], int log_fd, bool sibling,
                        struct process *ret, struct mvm_error *err)
{
    int keep[NETWORK_FDS];
    struct process_opts o = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = log_fd,
        .keep_fds = keep,
        .die_with_parent = true,
        .sibling = sibling,
    };
    for (size_t i = 0; i < NETWORK_FDS; i++)
        if (fds[i] >= 0)
            keep[o.n_keep_fds++] = fds[i];
    return process_start(&o, ret, err);
}

int launch_network(const struct runfile *run, const struct network_ends *e, bool sibling, struct process *ret,
                   struct jail_report *jail, struct mvm_error *err)
{
    char program[4096], numbers[3][12], place[192] = "", file[32] = "";
    char text[sizeof(place) + sizeof(run->network) + sizeof(run->network_limits) + sizeof(file)];
    const char *words[NETWORK_WORDS + 1];
    CLEAN_FD int pcap = open_pcap(run, e->report_fd);
    const int fds[NETWORK_FDS] = {e->frames_fd, e->report_fd, e->resolv_fd, pcap, e->members_fd};
    struct jail_fd keep[NETWORK_FDS];
    for (size_t i = 0; i < NETWORK_FDS; i++)
        keep[i] = (struct jail_fd){.fd = fds[i]};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%d", fds[i]);
    if (e->members_fd >= 0)
        snprintf(place, sizeof(place), "+%d:%u:%s:%s ", e->members_fd, (unsigned)run->member, run->member_of,
                 run->name);
    if (pcap >= 0)
        snprintf(file, sizeof(file), " pcap=%d", pcap);
    snprintf(text, sizeof(text), "%s%s %s%s", place, run->network[0] ? run->network : RUNFILE_NETWORK,
             run->network_limits, file);
    int r = os_self_path(program, sizeof(program));
    if (r < 0)
        return mvm_error_errno(err, r, "the path of mvmctl");
    const char *first[] = {program, "--network", numbers[0], numbers[1], numbers[2]};
    network_words(text, first, words);
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    const struct jail_spec spec = {
        .program = program,
        .argv = words,
        .envp = env,
        .fds = keep,
        .n_fds = NETWORK_FDS,
        .log_fd = e->report_fd,
        .network = true,
        .file_bytes = pcap >= 0 ? PCAP_CAP : 1, /* else it writes none */
        .sibling = sibling,
        .required = run->confine,
    };
    r = jail_start(&spec, ret, jail, err);
    return r == -ENOEXEC && !run->confine ? launch_plain(words, fds, e->report_fd, sibling, ret, err) : r;
}
