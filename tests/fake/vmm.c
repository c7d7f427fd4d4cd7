#include "fake.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int control = -1;
static bool halted; /* what is said of the processors */

static void say(const char *text)
{
    if (write(control, text, strlen(text)) < 0)
        exit(0);
}

/* One command: `{"execute":"NAME",...,"id":"ID"}`. */
static void answer(const char *command)
{
    char id[64] = "", reply[256];
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
    if (strstr(command, "\"execute\":\"stop\""))
        say("{\"event\":\"STOP\",\"timestamp\":{\"seconds\":0,\"microseconds\":0}}\r\n");
    snprintf(reply, sizeof(reply), "{\"return\":{}%s}\r\n", id);
    say(reply);
    if (strstr(command, "\"execute\":\"quit\""))
        exit(0);
}

/* Commands come one behind the other, without anything between them. */
static void *serve_control(void *data)
{
    static char text[65536];
    size_t n = 0;
    ssize_t got;
    say("{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7},\"package\":\"\"},\"capabilities\":[]}}"
        "\r\n");
    while ((got = read(control, text + n, sizeof(text) - n - 1)) > 0) {
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
    char behaviour[128] = "";
    for (int i = 1; i < argc; i++) {
        const char *fake = strstr(argv[i], "fake=");
        if (strcmp(argv[i], "--version") == 0) {
            puts("QEMU emulator version 0 (stand-in)");
            return 0;
        }
        control = descriptor(argv[i], "control") >= 0 ? descriptor(argv[i], "control") : control;
        channel = descriptor(argv[i], "channel") >= 0 ? descriptor(argv[i], "channel") : channel;
        if (fake)
            snprintf(behaviour, sizeof(behaviour), "%.*s", (int)strcspn(fake + 5, " "), fake + 5);
    }
    halted = strcmp(behaviour, "halted") == 0;
    pthread_t thread;
    fcntl(control, F_SETFL, 0);
    fcntl(channel, F_SETFL, 0);
    if (control < 0 || channel < 0 || pthread_create(&thread, NULL, serve_control, NULL) != 0)
        return 1;
    agent_run(channel, behaviour);
    close(channel);
    pthread_join(thread, NULL);
    return 0;
}
