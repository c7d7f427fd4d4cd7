#include "fake.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int control = -1;
static bool halted;       /* what is said of the processors */
static const char *fault; /* see `migrates` */
static int state_fd = -1; /* the last descriptor that came */

static void say(const char *text)
{
    if (write(control, text, strlen(text)) < 0)
        exit(0);
}

/* ---- Saving, restoring, resuming ---- */

#define STATE "what a guest was\n"

static void die(void)
{
    kill(getpid(), SIGKILL);
    pause();
}

static void say_migration(const char *status)
{
    char event[128];
    snprintf(event, sizeof(event), "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"%s\"}}\r\n", status);
    say(event);
}

/* What has come to an end is said as the fault will have it: STEP-late, -twice, -never, -half, -dies. */
static void migrates(const char *step)
{
    size_t n = strlen(step);
    const char *how = strncmp(fault, step, n) == 0 ? fault + n : "";
    say_migration("active");
    if (strcmp(how, "-late") == 0)
        sleep(1);
    if (strcmp(how, "-half") == 0)
        say("{\"event\":\"MIGRA");
    if (strcmp(how, "-half") == 0 || strcmp(how, "-dies") == 0)
        die();
    if (strcmp(how, "-never") == 0)
        return;
    say_migration(strcmp(how, "-fails") == 0 ? "failed" : "completed");
    if (strcmp(how, "-twice") == 0)
        say_migration("completed");
}

/* A save that comes to nothing does so at 99 %: all but the last byte is there. */
static void save(void)
{
    const bool whole =
        strcmp(fault, "save-fails") != 0 && strcmp(fault, "save-dies") != 0 && strcmp(fault, "save-half") != 0;
    size_t n = sizeof(STATE) - (whole ? 1 : 2);
    if (write(state_fd, STATE, n) != (ssize_t)n)
        exit(1);
    migrates("save");
}

static void restore(void)
{
    char state[64];
    ssize_t n = pread(state_fd, state, sizeof(state), 0);
    if (strcmp(fault, "restore-refused") == 0 || n != sizeof(STATE) - 1 || memcmp(state, STATE, (size_t)n) != 0)
        exit(1);
    migrates("restore");
}

/* True where the VMM is not ready for it yet. */
static bool refuses_to_resume(void)
{
    static int times;
    return strcmp(fault, "resume-early") == 0 && times++ < 3;
}

/* One command: `{"execute":"NAME",...,"id":"ID"}`. */
static void answer(const char *command)
{
    char id[64] = "", reply[256];
    const bool saves = strstr(command, "\"execute\":\"migrate\"");
    const char *at = strstr(command, "\"id\":\"");
    if (at)
        snprintf(id, sizeof(id), ",\"id\":\"%.*s\"", (int)strcspn(at + 6, "\""), at + 6);
    if (strstr(command, "info registers")) {
        snprintf(reply, sizeof(reply),
                 "{\"return\":\"\\r\\nCPU#0\\r\\nRIP=0 RFL=%08x [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\\r\\n\"%s}\r\n",
                 halted ? 0x46u : 0x246u, id);
        say(reply);
        return;
    }
    if ((saves && strcmp(fault, "save-refused") == 0) ||
        (strstr(command, "\"execute\":\"cont\"") && refuses_to_resume())) {
        snprintf(reply, sizeof(reply), "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not now\"}%s}\r\n", id);
        say(reply);
        return;
    }
    if (strstr(command, "\"execute\":\"stop\""))
        say("{\"event\":\"STOP\",\"timestamp\":{\"seconds\":0,\"microseconds\":0}}\r\n");
    snprintf(reply, sizeof(reply), "{\"return\":{}%s}\r\n", id);
    say(reply);
    if (strstr(command, "\"execute\":\"quit\""))
        exit(0);
    if (saves)
        save();
    if (strstr(command, "\"execute\":\"migrate-incoming\""))
        restore();
}

/* As read(2), with a descriptor that came along. */
static ssize_t receive(void *p, size_t size)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } c = {0};
    struct iovec iov = {.iov_base = p, .iov_len = size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n = recvmsg(control, &m, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (h && h->cmsg_type == SCM_RIGHTS)
        memcpy(&state_fd, CMSG_DATA(h), sizeof(state_fd));
    return n;
}

/* Commands come one behind the other, without anything between them. */
static void *serve_control(void *data)
{
    static char text[65536];
    size_t n = 0;
    ssize_t got;
    say("{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7},\"package\":\"\"},\"capabilities\":[]}}"
        "\r\n");
    while ((got = receive(text + n, sizeof(text) - n - 1)) > 0) {
        size_t begin = 0;
        int depth = 0;
        n += (size_t)got;
        for (size_t i = 0; i < n; i++) {
            depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
            if (text[i] != '}' || depth)
                continue;
            char after = text[i + 1];
            text[i + 1] = '\0';
            answer(text + begin);
            text[i + 1] = after;
            begin = i + 1;
        }
        memmove(text, text + begin, n - begin);
        n -= begin;
    }
    exit(0);
}

static int descriptor(const char *arg, const char *id)
{
    char prefix[64];
    int n = snprintf(prefix, sizeof(prefix), "socket,id=%s,fd=", id);
    return strncmp(arg, prefix, (size_t)n) == 0 ? atoi(arg + n) : -1;
}

int main(int argc, char **argv)
{
    int channel = -1;
    bool incoming = false;
    char behaviour[128] = "honest"; /* where there is no command line: of one that is restored */
    fault = getenv("FAKE_VMM") ? getenv("FAKE_VMM") : "";
    for (int i = 1; i < argc; i++) {
        const char *fake = strstr(argv[i], "fake=");
        if (strcmp(argv[i], "--version") == 0) {
            puts("QEMU emulator version 0 (stand-in)");
            return 0;
        }
        control = descriptor(argv[i], "control") >= 0 ? descriptor(argv[i], "control") : control;
        channel = descriptor(argv[i], "channel") >= 0 ? descriptor(argv[i], "channel") : channel;
        incoming |= strcmp(argv[i], "-incoming") == 0;
        if (fake)
            snprintf(behaviour, sizeof(behaviour), "%.*s", (int)strcspn(fake + 5, " "), fake + 5);
    }
    halted = strcmp(behaviour, "halted") == 0;
    pthread_t thread;
    fcntl(control, F_SETFL, 0);
    fcntl(channel, F_SETFL, 0);
    if (control < 0 || channel < 0 || pthread_create(&thread, NULL, serve_control, NULL) != 0)
        return 1;
    agent_run(channel, behaviour, incoming);
    close(channel);
    pthread_join(thread, NULL);
    return 0;
}
