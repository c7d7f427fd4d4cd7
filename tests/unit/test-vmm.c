/* What is said to QEMU over its control socket, and what is made of its answers, whatever they are: every command ends
 * once. */
#include "tap.h"

#include "base/fd.h"
#include "vmm/qmp.h"
#include "vmm/registers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int ours = -1, theirs = -1;
static struct vmm *vmm;
static struct {
    unsigned times;
    int r;
    char problem[200];
} ended;

static void on_end(void *owner, int r, const char *problem)
{
    ended.times++;
    ended.r = r;
    snprintf(ended.problem, sizeof(ended.problem), "%s", problem);
}

static const struct vmm_done done = {.done = on_end};

static void open_vmm(const char *accel)
{
    struct vmm_config c = {0};
    int pair[2];
    snprintf(c.accel.name, sizeof(c.accel.name), "%s", accel);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || qmp_open(pair[0], &c, &vmm) < 0)
        abort();
    ours = pair[0];
    theirs = pair[1];
    memset(&ended, 0, sizeof(ended));
}

static void close_vmm(void)
{
    qmp_free(vmm);
    fd_closep(&ours);
    fd_closep(&theirs);
}

static void says(const char *text)
{
    if (!qmp_input(vmm, text, strlen(text)))
        abort();
}

/* What it was told, into a static buffer. */
static const char *heard(void)
{
    static char text[8192];
    ssize_t n = recv(theirs, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static bool is_over(unsigned times, int r)
{
    return ended.times == times && ended.r == r;
}

static void test_pause(void)
{
    open_vmm("tcg");
    ok(qmp_pause(vmm, done) == 0 && strstr(heard(), "\"execute\":\"stop\",\"id\":\"pause-1\""),
       "to pause is to stop, with an id");
    ok(qmp_pause(vmm, done) == -EBUSY, "a second command of the kind is not taken meanwhile");
    says("{\"QMP\": {}}\r\n{\"return\": {}}\r\n{\"event\": \"ST");
    ok(ended.times == 0, "greeting, the answer to another command and half a line end nothing");
    says("OP\"}\r\n");
    ok(ended.times == 0 && qmp_facts(vmm)->stopped_at, "the event notes since when the processors stand still");
    says("{\"return\": {}, \"id\": \"pause-1\"}\n");
    ok(is_over(1, 0), "the answer ends the command");
    says("{\"return\": {}, \"id\": \"pause-1\"}\n{\"error\": {\"desc\": \"x\"}, \"id\": \"pause-1\"}\n");
    ok(ended.times == 1, "a second answer ends nothing");
    ok(qmp_resume(vmm, done) == 0, "resuming is taken");
    says("{\"return\": {}, \"id\": \"pause-1\"}\n");
    ok(ended.times == 1, "a late answer to an earlier command ends no later one");
    says("{\"return\": {}, \"id\": \"resume-1\"}\n");
    ok(is_over(2, 0) && !qmp_facts(vmm)->stopped_at, "and its own answer ends it: the processors run");
    close_vmm();
}

static void test_resume_too_early(void)
{
    open_vmm("tcg");
    (void)!qmp_resume(vmm, done);
    (void)heard();
    says("{\"error\": {\"desc\": \"Migration is not finalized yet\"}, \"id\": \"resume-1\"}\n");
    ok(ended.times == 0 && strstr(heard(), "\"execute\":\"cont\""), "a resume that comes too early is sent again");
    says("{\"return\": {}, \"id\": \"resume-1\"}\n");
    ok(is_over(1, 0), "until it is taken, and ends once");
    close_vmm();
}

static void test_save(const char *accel, bool stops)
{
    open_vmm(accel);
    CLEAN_FD int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)!qmp_save(vmm, file, true, done);
    const char *text = heard(), *stop = strstr(text, "\"execute\":\"stop\"");
    ok((stop != NULL) == stops && strstr(text, "\"execute\":\"migrate\""), "with %s a guest %s", accel,
       stops ? "is stopped before it is saved" : "is saved while it runs");
    says("{\"return\": {}, \"id\": \"save-1\"}\n"
         "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\n");
    ok(ended.times == 0, "answers to the parts of a save do not end it (%s)", accel);
    says("{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n"
         "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n");
    ok(is_over(1, 0), "the event does, once (%s)", accel);
    close_vmm();
}

static void test_save_fails(void)
{
    open_vmm("kvm");
    (void)!qmp_save(vmm, -1, true, done);
    says("{\"error\": {\"desc\": \"no such fd\"}, \"id\": \"save-1\"}\n"
         "{\"error\": {\"desc\": \"no migration\"}, \"id\": \"save-1\"}\n"
         "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\n");
    ok(is_over(1, -EIO) && strcmp(ended.problem, "no such fd") == 0,
       "of a save that fails in several ways the first counts");
    (void)!qmp_save(vmm, -1, true, done);
    says("{\"event\": \"MIGRATION\", \"data\": {\"status\": \"cancelled\"}}\n");
    ok(is_over(2, -EIO) && ended.problem[0], "one that is cancelled has failed, with a reason");
    close_vmm();
}

static void test_restore(bool whole)
{
    open_vmm("tcg");
    CLEAN_FD int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ok(qmp_restore(vmm, file, whole, done) == 0, "a restore is asked for, memory %s",
       whole ? "in the state" : "in its file");
    char text[4096] = "", control[CMSG_SPACE(sizeof(int))] = "";
    struct iovec iov = {text, sizeof(text) - 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    CLEAN_FD int got = -1;
    if (recvmsg(theirs, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&m))
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
    struct stat a, b;
    ok(got >= 0 && fstat(got, &a) == 0 && fstat(file, &b) == 0 && a.st_ino == b.st_ino,
       "the state's descriptor goes along with the first byte");
    ok(strstr(text, whole ? "\"x-ignore-shared\",\"state\":false" : "\"x-ignore-shared\",\"state\":true") &&
           strstr(text, "migrate-incoming"),
       "x-ignore-shared says where the memory is");
    says("{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n");
    ok(is_over(1, 0) && qmp_facts(vmm)->stopped_at, "and afterwards the guest stands still");
    close_vmm();
}

/* QEMU takes a guest that `stop` is stopping for stopped, and would save it torn. */
static void test_hurry(void)
{
    open_vmm("kvm");
    int r = qmp_hurry(vmm);
    const char *text = heard();
    ok(r == 0 && strstr(text, "\"downtime-limit\":2000000"),
       "a guest that writes too fast to be saved is given all the time to stand still");
    ok(!strstr(text, "stop"), "and is not stopped while it is saved");
    close_vmm();
}

static void test_ends(void)
{
    open_vmm("tcg");
    (void)!qmp_pause(vmm, done);
    (void)!qmp_ask_halted(vmm, done);
    qmp_ended(vmm);
    ok(is_over(2, -EPIPE), "whatever is under way when the VMM ends has failed");
    qmp_ended(vmm);
    says("{\"return\": {}, \"id\": \"pause-1\"}\n");
    ok(ended.times == 2, "once");
    (void)!qmp_pause(vmm, done);
    qmp_mute(vmm);
    qmp_ended(vmm);
    ok(ended.times == 2, "of one that is not to be heard any more nothing ends");
    close_vmm();
    open_vmm("tcg");
    says("{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\r\n");
    ok(!qmp_facts(vmm)->ended_by_host, "R6: a reset by the guest is the guest's end");
    says("{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-signal\"}}\r\n");
    ok(qmp_facts(vmm)->ended_by_host, "R6: a signal to the VMM is not");
    close_vmm();
}

static void test_odd(void)
{
    static const char *const odd[] = {"\n",
                                      "no json\n",
                                      "[1, 2]\n",
                                      "{\"event\": 3}\n",
                                      "{\"error\": 3}\n",
                                      "{\"return\": {}, \"id\": 3}\n",
                                      "{\"return\": {}, \"id\": \"pause-0\"}\n",
                                      "{\"return\": {}, \"id\": \"pause-01\"}\n",
                                      "{\"event\": \"MIGRATION\"}\n",
                                      "{\"event\": \"MIGRATION\", \"data\": []}\n"};
    open_vmm("tcg");
    (void)!qmp_pause(vmm, done);
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        says(odd[i]);
        ok(ended.times == 0, "odd line %zu ends nothing", i);
    }
    static char line[300 * 1024];
    memset(line, 'x', sizeof(line));
    ok(!qmp_input(vmm, line, sizeof(line)), "a line without an end is not read for ever");
    close_vmm();
}

static void test_halted(void)
{
#define CPU(n, flags, hlt)                                                                                             \
    "CPU#" n "\r\nRIP=ffffffff81a00000 RFL=" flags " [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=" hlt "\r\n"
    ok(registers_all_halted("\r\n" CPU("0", "00000046", "1") CPU("1", "00000006", "1")),
       "R6: processors that halted with interrupts off have halted for good");
    ok(!registers_all_halted(CPU("0", "00000046", "1") CPU("1", "00000246", "1")),
       "R6: one that an interrupt wakes has not");
    ok(!registers_all_halted(CPU("0", "00000046", "0")), "R6: nor has one that runs with interrupts off");
    ok(!registers_all_halted("") && !registers_all_halted("CPU#0\r\n PC=0 X00=0"), "R6: other words tell nothing");
#undef CPU
}

static void test_names(void)
{
    CLEAN_BUF struct buf names = BUF_INIT(256);
    for (size_t i = 0; vmm_all[i]; i++)
        if (buf_printf(&names, "%s%s", i ? "|" : "", vmm_all[i]->name) < 0)
            abort();
    ok(strcmp(buf_cstr(&names), VMM_BACKENDS) == 0, "the names of the backends are those that the command line offers");
    struct vmm_accel a = {0};
    ok(vmm_choose_accel(-1, "none", &a, NULL) == -EINVAL && strstr(VMM_ACCELS, vmm_emulation),
       "software emulation is one of the accelerations that are offered, and none is not");
}

static void test_sets(void)
{
    char plain[VMM_SET_SIZE], one[VMM_SET_SIZE], three[VMM_SET_SIZE], four[VMM_SET_SIZE], other[VMM_SET_SIZE];
    struct vmm_config c = {.net = VMM_NET_FRAMES};
    const struct vmm_ops another = {.name = "another"};
    vmm_device_set(vmm_all[0], &c, plain);
    vmm_device_set(&another, &c, other);
    ok(!plain[0] && strncmp(other, "-another-", 9) == 0,
       "another backend has another set of devices, the plain one has no name");
    c.volume_slots = vmm_volume_slots(1);
    vmm_device_set(vmm_all[0], &c, one);
    c.volume_slots = vmm_volume_slots(3);
    vmm_device_set(vmm_all[0], &c, three);
    c.volume_slots = vmm_volume_slots(4);
    vmm_device_set(vmm_all[0], &c, four);
    ok(one[0] && strcmp(one, three) != 0 && strcmp(three, four) == 0,
       "three and four volumes are one set, one is another (%s, %s)", one, three);
    ok(vmm_volume_slots(0) == 0 && vmm_volume_slots(2) == 2 && vmm_volume_slots(5) == 8, "no volume has no slot");
}

int main(void)
{
    test_names();
    test_sets();
    test_pause();
    test_resume_too_early();
    test_save("tcg", true);
    test_save("kvm", false);
    test_save_fails();
    test_restore(false);
    test_restore(true);
    test_hurry();
    test_ends();
    test_odd();
    test_halted();
    return tap_end();
}
