#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/boot.h"
#include "guest/cgroup.h"
#include "guest/conf.h"
#include "guest/dhcp.h"
#include "guest/jobs.h"
#include "guest/nix_store.h"
#include "guest/ready.h"
#include "guest/service.h"
#include "guest/servicelog.h"
#include "tap.h"
#include "wire/msg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- guest.conf, users, kernel parameters ---- */

static int conf(struct guest_conf *c, const char *text, struct mvm_error *e)
{
    return conf_parse(c, text, strlen(text), e);
}

static void test_conf(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct guest_conf c;
    ok(conf(&c,
            "# made by mkGuest\nhostname web\nnetwork dhcp\nenv A=b c\n\nservice one\narg /bin/sh\narg echo%0Ahi "
            "%25\nuser nobody\n"
            "cwd /tmp\nrestart always\nenv X=1\nservice two\narg true\n",
            &e) == 0,
       "guest.conf is understood");
    ok(strcmp(c.hostname, "web") == 0 && c.dhcp && c.env.n == 1 && strcmp(c.env.v[0], "A=b c") == 0,
       "what holds for all");
    ok(c.n_services == 2 && c.services[0].argv.n == 2 && strcmp(c.services[0].argv.v[1], "echo\nhi %") == 0 &&
           c.services[0].restart == RESTART_ALWAYS && strcmp(c.services[0].user, "nobody") == 0 &&
           c.services[0].env.n == 1 && c.services[1].restart == RESTART_NO,
       "and for each service");
    conf_done(&c);
    static const char *const bad[] = {"hostname",     "what ever",    "arg lost",       "service a/b",
                                      "env A",        "hostname a%0", "hostname a%00b", "service a\nrestart maybe",
                                      "network maybe"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(conf(&c, bad[i], &e) == -EINVAL && strstr(e.msg, strchr(bad[i], '\n') ? "guest.conf:2" : "guest.conf:1"),
           "'%s' is refused with its line", strchr(bad[i], '\n') ? strchr(bad[i], '\n') + 1 : bad[i]);
}

static void test_ready(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct guest_conf c;
    ok(conf(&c,
            "service a\nready port 8080\nservice b\nready command\nready-arg test\nready-arg -e\nservice c\nready "
            "notify\n",
            &e) == 0 &&
           c.services[0].ready == READY_PORT && c.services[0].ready_port == 8080 &&
           c.services[1].ready == READY_COMMAND && c.services[1].ready_argv.n == 2 &&
           c.services[2].ready == READY_NOTIFY && c.services[2].env.n == 1 &&
           strcmp(c.services[2].env.v[0], "NOTIFY_SOCKET=/run/mvm/notify/c") == 0,
       "G3: a service says by what it is ready");
    conf_done(&c);
    ok(conf(&c, "service a\nready port 70000", &e) == -EINVAL && conf(&c, "service a\nready soon", &e) == -EINVAL,
       "G3: what is neither a port nor a word for it is refused");
    static const char tcp[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 21 1\n"
        "   1: 0F02000A:0051 0202000A:C350 01 00000000:00000000 00:00000000 00000000  1000        0 22 1\n";
    static const char tcp6[] =
        "  sl  local_address\n"
        "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000\n";
    ok(ready_listens(tcp, "", 8080) && ready_listens(tcp, tcp6, 443), "G3: a port is listened on, by IPv4 or IPv6");
    ok(!ready_listens(tcp, tcp6, 81) && !ready_listens(tcp, tcp6, 80) && !ready_listens("", "", 0) &&
           !ready_listens("garbage\n0: zz", "\n", 8080),
       "G3: a connection at that port is no listener");
    static const char with_status[] = "STATUS=warm\nREADY=1\nMAINPID=3";
    ok(ready_notify_says("READY=1", 7) && ready_notify_says(with_status, sizeof(with_status) - 1) &&
           !ready_notify_says("READY=0", 7) && !ready_notify_says("XREADY=1", 8) && !ready_notify_says("", 0),
       "G3: READY=1 is a line of a message");
}

/* As a service does it. */
static void test_notify_socket(void)
{
    const char *folder = tap_folder();
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int ours = ready_notify_open(folder, "web");
    snprintf(a.sun_path, sizeof(a.sun_path), "%.100s/web", folder);
    int theirs = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ok(ours >= 0 && !ready_notify_read(ours), "G3: a socket for a service's messages");
    sendto(theirs, "STATUS=1", 8, 0, (const struct sockaddr *)&a, sizeof(a));
    ok(!ready_notify_read(ours), "G3: another message is not taken for it");
    sendto(theirs, "STATUS=2", 8, 0, (const struct sockaddr *)&a, sizeof(a));
    sendto(theirs, "READY=1", 7, 0, (const struct sockaddr *)&a, sizeof(a));
    ok(ready_notify_read(ours) && !ready_notify_read(ours), "G3: READY=1 is read, once");
    close(ours);
    close(theirs);
    unlink(a.sun_path);
    rmdir(folder);
}

/* ---- What services print ---- */

static struct {
    size_t lines, bytes;
    char last[1024];
} heard;

static void on_heard(void *data, const char *line)
{
    heard.lines++;
    heard.bytes += strlen(line);
    snprintf(heard.last, sizeof(heard.last), "%s", line);
}

static void log_done(struct servicelog *l)
{
    fd_closep(&l->fd);
    buf_done(&l->line);
}

/* A service prints that many lines of that many bytes at once. What is said of them is at most `most` and what comes in
 * the time it takes; the rest is counted. */
static bool flood_is_bounded(size_t services, size_t lines, size_t bytes, size_t most)
{
    struct servicelog l;
    char line[1024];
    memset(&heard, 0, sizeof(heard));
    memset(line, 'x', bytes);
    line[bytes] = '\n';
    uint64_t since = clock_now();
    servicelog_open(&l, "noisy", services, on_heard, NULL);
    for (size_t i = 0; i < lines; i++)
        servicelog_take(&l, line, bytes + 1);
    size_t said = heard.lines, more = (clock_now() - since) * l.share.rate / NSEC_PER_SEC + 1, left_out = l.left_out;
    servicelog_settle(&l);
    bool good = said >= most && said <= most + more && said + left_out == lines && heard.lines == said + 1 &&
                strtoull(heard.last + strlen("noisy: "), NULL, 10) == left_out;
    servicelog_settle(&l);
    log_done(&l);
    return good && heard.lines == said + 1;
}

static void test_service_logs(void)
{
    struct servicelog l;
    char longest[1500];
    ok(flood_is_bounded(1, 200000, 5, 10000), "T4: of a service that floods its log a bounded number of lines is sent");
    ok(strstr(heard.last, " lines left out: it prints more than 5000 a second"), "T4: the rest is counted");
    ok(flood_is_bounded(4, 100000, 5, 2500), "T4: services share what the host takes");
    ok(flood_is_bounded(1, 20000, 600, 5000), "T4: long lines count more");

    memset(&heard, 0, sizeof(heard));
    servicelog_open(&l, "quiet", 1, on_heard, NULL);
    servicelog_take(&l, "one\n\ntwo\0 words\nth", 18);
    servicelog_take(&l, "ree", 3);
    ok(heard.lines == 2 && strcmp(heard.last, "quiet: two words") == 0, "a service's line is sent when it is whole");
    servicelog_end(&l);
    ok(heard.lines == 3 && strcmp(heard.last, "quiet: three") == 0, "its last one when it has closed its output");
    memset(longest, 'y', sizeof(longest));
    heard.bytes = 0;
    servicelog_take(&l, longest, sizeof(longest));
    servicelog_end(&l);
    servicelog_settle(&l);
    ok(heard.lines == 5 && heard.bytes == sizeof(longest) + 2 * strlen("quiet: "), "a long line is sent in pieces");
    log_done(&l);

    const char *name = "a-service-with-the-longest-name-that-guest.conf-may-give-one.63";
    heard.bytes = 0;
    servicelog_open(&l, name, 1, on_heard, NULL);
    servicelog_take(&l, longest, sizeof(longest));
    servicelog_end(&l);
    ok(strlen(name) == 63 && heard.bytes == sizeof(longest) + 2 * strlen(": ") + 2 * strlen(name),
       "whole, whatever the service's name");
    log_done(&l);
}

/* ---- Services, as the agent's loop runs them ---- */

static struct msg_services said;
static unsigned started; /* times */

static void on_said(void *data, const struct msg_services *m)
{
    said = *m;
}

static void on_service(void *data, const char *name, const char *state, int code)
{
    started += strcmp(state, "started") == 0;
}

static void on_line(void *data, const char *line)
{
}

/* proc_pid_children(5); each is in a session of its own. */
static void end_children(void)
{
    FILE *f = fopen("/proc/thread-self/children", "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        kill(pid, SIGKILL);
    if (f)
        fclose(f);
}

/* Runs the services of a guest.conf until their state is that, for at most ten seconds. In a child: there is one set of
 * them in a process. */
static bool services_get(const char *text, const char *state, const char *problem, unsigned times)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        static const struct service_ops ops = {.log = on_line, .state = on_service, .all = on_said};
        struct mvm_error e = MVM_ERROR_INIT;
        static struct guest_conf c;
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        services_prepare(&ops, conf(&c, text, &e) < 0 ? e.msg : "");
        services_start(&c, epoll);
        services_report(true);
        bool got = false;
        for (uint64_t end = clock_deadline(10000); !got && clock_left_ms(end) > 0;) {
            struct epoll_event ev;
            int status;
            if (epoll_wait(epoll, &ev, 1, 20) == 1)
                services_event(ev.data.ptr);
            for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
                services_reaped(ended, status);
            got = strcmp(said.state, state) == 0 && strstr(said.problem, problem) && started >= times;
        }
        if (!got)
            printf("# %s: %s, started %u times\n", said.state, said.problem, started);
        fflush(stdout);
        end_children();
        _exit(got ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status == 0;
}

static void test_services(void)
{
    if (getuid() != 0)
        return;
    ok(services_get("service a\narg sleep\narg 15\n", "ready", "", 1), "G3: a service is ready when it was executed");
    ok(services_get("service a\narg true\nrestart no\n", "ready", "", 1), "G3: one that has done its work is");
    ok(services_get("service a\narg false\nrestart no\n", "failed", "service a ended with status 1", 1),
       "G3: one that ends with another status has failed");
    ok(services_get("service a\narg false\nrestart on-failure\nservice b\narg sleep\narg 15\n", "failed",
                    "service a ended with status 1, and is started again", 2),
       "G3: one that will be started again has, too");
    ok(services_get("service a\narg false\nrestart always\n", "failed",
                    "service a ended with status 1, 5 times in a row", 5),
       "G3: it is given up after five times");
    ok(services_get("service a\narg /no/such/program\nrestart no\n", "failed",
                    "service a cannot be started: /no/such/program: no such program in the guest", 0),
       "G3: what cannot be executed has failed");
    ok(services_get("service a\narg true\nuser nobody-here\nrestart no\n", "failed",
                    "no user 'nobody-here' in the guest", 0),
       "G2: a user that is not there is named");
    ok(services_get("service a\narg sleep\narg 15\nready command\nready-arg false\n", "starting",
                    "service a: its command says that it is not ready", 1),
       "G3: a service waits for what `ready` says");
    ok(services_get("service a\narg sleep\narg 15\nready command\nready-arg true\n", "ready", "", 1),
       "G3: and is ready when that says so");
    ok(services_get("service a\narg true\nrestart no\nready port 1\n", "failed",
                    "ended with status 0 before it was ready", 1),
       "G3: one that ends before has failed");
    ok(services_get("service a\narg true\nfrobnicate x\n", "failed", "guest.conf:3: 'frobnicate' is not understood", 0),
       "G3: a guest.conf that cannot be read is a failure");
}

static void test_refused_services(void)
{
    const char *folder = getenv("MVM_TEST_TMP");
    char script[300], text[700], why[400];
    if (getuid() != 0)
        return;
    ok(services_get("service a\narg true\ncwd /no/such\nrestart no\n", "failed",
                    "service a cannot be started: the working folder /no/such: No such file", 0),
       "R11: a service without its working folder is told as that");
    ok(services_get("service a\narg /proc\nrestart no\n", "failed", "service a cannot be started: /proc: Permission",
                    0),
       "R11: one whose program is a folder, too");
    snprintf(script, sizeof(script), "%.200s/script-without-interpreter", folder ? folder : "/tmp");
    int fd = open(script, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ok(fd >= 0 && write(fd, "#!/no/such/sh\n", 14) == 14 && close(fd) == 0, "a script");
    snprintf(text, sizeof(text), "service a\narg %s\nrestart no\n", script);
    snprintf(why, sizeof(why), "%.100s: its interpreter /no/such/sh is not", script);
    ok(services_get(text, "failed", why, 0), "R11: one whose interpreter is missing, too");
    unlink(script);
    ok(services_get("service a\narg sleep\narg 15\nready command\nready-arg /no/such\n", "starting",
                    "service a: its `ready` command cannot be started: /no/such: no such program", 1),
       "R11: a `ready` command that cannot be started is told as that");
}

/* This process stands for pid 1: what its own number is must not be what its services have. Another than the agent's,
 * which not every root may take. */
static void test_service_may_be_ended(void)
{
    int status = 0;
    if (getuid() != 0)
        return;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "500", 3) != 3)
            _exit(2);
        _exit(!services_get("service a\narg sleep\narg 15\nready command\nready-arg grep\nready-arg -qx\n"
                            "ready-arg 0\nready-arg /proc/self/oom_score_adj\n",
                            "ready", "", 1));
    }
    waitpid(pid, &status, 0);
    ok(status == 0, "R15: a service is not spared when memory runs out, as the agent is");
}

static void test_users(void)
{
    static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
    static const char group[] = "root:x:0:\nvideo:x:44:bob,ann\naudio:x:29:joann\n";
    struct user u;
    ok(user_find(&u, "ann", passwd, group) == 0 && u.uid == 1000 && u.gid == 100 && strcmp(u.home, "/home/ann") == 0,
       "a user by name");
    bool video = false, audio = false;
    for (int i = 0; i < u.n_groups; i++) {
        video |= u.groups[i] == 44;
        audio |= u.groups[i] == 29;
    }
    ok(video && !audio, "with the groups that list that name");
    ok(user_find(&u, "1000", passwd, group) == 0 && strcmp(u.name, "ann") == 0, "by number");
    ok(user_find(&u, "77", passwd, group) == 0 && u.uid == 77 && u.gid == 77, "a number that is not listed");
    ok(user_find(&u, "bob", passwd, group) == -ENOENT && user_find(&u, "-1", passwd, group) == -ENOENT &&
           user_find(&u, "", passwd, group) == -ENOENT,
       "a name that is not listed");
    ok(user_find(&u, "root", "", "") == 0 && u.uid == 0, "root needs no file");
}

static void test_params(void)
{
    static const char cmdline[] = "quiet mvm.root=vda mvm.rootfs=no mvm.flag";
    char v[8];
    ok(boot_param(cmdline, "mvm.root", v, sizeof(v)) && strcmp(v, "vda") == 0, "a parameter of the command line");
    ok(boot_param(cmdline, "mvm.flag", v, sizeof(v)) && !*v, "one without a value");
    ok(!boot_param(cmdline, "mvm", v, sizeof(v)) && !boot_param(cmdline, "root", v, sizeof(v)),
       "not one that is called alike");
    ok(!boot_param("a=123456789", "a", v, sizeof(v)), "a value that is too long");
}

static void test_store_paths(void)
{
    ok(nix_store_is_path("/nix/store/0123-x.drv"), "a store path");
    static const char *const bad[] = {
        "/nix/store/", "/nix/store/..", "/nix/store/a/b", "/nix/store", "/etc/a", "x", ""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(!nix_store_is_path(bad[i]) && nix_store_protect(bad[i]) == -EINVAL, "'%s' is none", bad[i]);
}

/* ---- DHCP ---- */

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

/* A server's message with the options given. */
static size_t message(uint8_t *out, const uint8_t *request, const char *address, const uint8_t *options, size_t n)
{
    memset(out, 0, 240);
    out[0] = 2;
    memcpy(out + 4, request + 4, 4);
    inet_pton(AF_INET, address, out + 16);
    memcpy(out + 28, request + 28, 6);
    memcpy(out + 236, "\x63\x82\x53\x63", 4);
    memcpy(out + 240, options, n);
    return 240 + n;
}

static void test_dhcp_parse(void)
{
    static const uint8_t options[] = {0, 53, 1, 5, 1, 4, 255, 255, 240, 0, 3, 4, 10, 1, 0,  1, 6, 8, 10, 1,
                                      0, 2,  9, 9, 9, 9, 51,  4,   0,   0, 1, 0, 54, 4, 10, 1, 0, 3, 255};
    uint8_t request[240] = {0}, m[400], type;
    const uint32_t transaction = 77;
    struct dhcp_lease l;
    memcpy(request + 4, &transaction, 4);
    memcpy(request + 28, mac, 6);
    size_t n = message(m, request, "10.1.2.3", options, sizeof(options));
    ok(dhcp_parse(m, n, mac, transaction, &type, &l) == 0 && type == 5, "an answer is understood");
    ok(l.address.s_addr == inet_addr("10.1.2.3") && l.prefix == 20 && l.router.s_addr == inet_addr("10.1.0.1") &&
           l.dns.s_addr == inet_addr("10.1.0.2") && l.server.s_addr == inet_addr("10.1.0.3") && l.seconds == 256,
       "with all that it says");
    ok(dhcp_parse(m, n, mac, transaction + 1, &type, &l) < 0, "another transaction's is not ours");
    ok(dhcp_parse(m, n, (const uint8_t[6]){9}, transaction, &type, &l) < 0, "nor another card's");
    bool safe = true;
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* of the exact size, so that sanitizers see a read beyond it */
        memcpy(copy, m, cut);
        int r = dhcp_parse(copy, cut, mac, transaction, &type, &l);
        safe &= r == 0 || r == -EBADMSG;
        free(copy);
    }
    ok(safe, "a message cut anywhere is refused or understood");
}

/* A server on this namespace's loopback: the first DISCOVER is lost, an unknown address refused. */
static void serve(int fd)
{
    for (int seen = 0;; seen++) {
        uint8_t in[1500], out[400],
            options[] = {53, 1, 2, 54, 4, 127, 0, 0, 1, 51, 4, 0, 0, 0, 60, 1, 4, 255, 0, 0, 0, 255};
        const struct sockaddr_in all = {
            .sin_family = AF_INET, .sin_port = htons(68), .sin_addr.s_addr = INADDR_BROADCAST};
        if (recv(fd, in, sizeof(in), 0) < 250 || seen == 0)
            continue;
        uint8_t type = in[242];
        uint32_t wanted;
        memcpy(&wanted, in + 245, 4);
        options[2] = type == 1 ? 2 : wanted == inet_addr("10.9.8.7") ? 5 : 6;
        size_t n = message(out, in, "10.9.8.7", options, sizeof(options));
        (void)!sendto(fd, out, n, 0, (const struct sockaddr *)&all, sizeof(all));
    }
}

static int loopback_up(void)
{
    CLEAN_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq q = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    return ioctl(fd, SIOCSIFFLAGS, &q);
}

static void test_dhcp_conversation(void)
{
    if (unshare(getuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) < 0 || loopback_up() < 0) {
        printf("ok %u - DHCP with a server # SKIP no network namespaces here (%s)\n", ++tap_count, strerror(errno));
        return;
    }
    struct dhcp_lease l = {0};
    ok(dhcp_request("lo", mac, NULL, clock_deadline(300), &l) == -ETIMEDOUT, "without a server there is no lease");
    CLEAN_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(67)};
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        abort();
    pid_t server = fork();
    if (server == 0)
        serve(fd);
    ok(dhcp_request("lo", mac, NULL, clock_deadline(10000), &l) == 0 && l.address.s_addr == inet_addr("10.9.8.7") &&
           l.prefix == 8 && l.seconds == 60,
       "a lease is obtained, though a packet is lost");
    struct dhcp_lease next = {0};
    ok(dhcp_request("lo", mac, &l, clock_deadline(10000), &next) == 0 && next.address.s_addr == l.address.s_addr,
       "and renewed");
    l.address.s_addr = inet_addr("10.1.1.1");
    ok(dhcp_request("lo", mac, &l, clock_deadline(10000), &next) == -EACCES, "an address that is gone is refused");
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

/* ---- Build jobs ---- */

static void test_jobs(void)
{
    struct jobs j = {0};
    unsigned a = jobs_add(&j, 2), b = jobs_add(&j, 2), c = jobs_add(&j, 2), d = jobs_add(&j, 1), e = jobs_add(&j, 8);
    ok(a && jobs_start(&j) == a && jobs_start(&j) == b && jobs_start(&j) == 0, "as many jobs run as may");
    ok(jobs_before(&j, a) == 0 && jobs_before(&j, c) == 1, "the first that waits waits for one");
    ok(jobs_before(&j, d) == 3, "one that wants less company for more");
    jobs_remove(&j, b);
    ok(jobs_start(&j) == c && jobs_start(&j) == 0, "the first to come is the first to start");
    ok(jobs_before(&j, d) == 2 && jobs_before(&j, e) == 2, "the others have moved up");
    jobs_remove(&j, a);
    ok(jobs_start(&j) == 0, "nobody overtakes one that waits, not even one that might start");
    jobs_remove(&j, d);
    ok(jobs_start(&j) == e && j.n_running == 2, "unless that one gives up");
    jobs_remove(&j, d);
    jobs_remove(&j, c);
    jobs_remove(&j, e);
    ok(j.n == 0 && j.n_running == 0, "in the end nothing is left");
    unsigned last = 0, n = 0;
    while (n <= JOBS_MAX && (last = jobs_add(&j, 0)) != 0)
        n++;
    ok(n == JOBS_MAX && j.v[0].limit == JOBS_DEFAULT_LIMIT, "the queue has an end");
    jobs_remove(&j, j.v[0].id);
    last = j.last_id;
    ok(jobs_add(&j, 0) == last + 1, "numbers are never used twice");
}

static void test_cgroup(void)
{
    static const char text[] = "low 0\nmax 31\noom 2\noom_kill 1\n";
    ok(cgroup_count(text, "oom") == 2 && cgroup_count(text, "oom_kill") == 1 && cgroup_count(text, "max") == 31,
       "a cgroup's events by name");
    ok(cgroup_count(text, "kill") == 0 && cgroup_count("", "max") == 0 && cgroup_count("max", "max") == 0,
       "what is not there is 0");
}

int main(void)
{
    test_conf();
    test_ready();
    test_notify_socket();
    test_service_logs();
    test_services();
    test_refused_services();
    test_service_may_be_ended();
    test_users();
    test_params();
    test_store_paths();
    test_dhcp_parse();
    test_dhcp_conversation();
    test_jobs();
    test_cgroup();
    return tap_end();
}
