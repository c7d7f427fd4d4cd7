/* What is published, as it is written, bound and asked for (vmdir/port_spec.h, machine/ports.h, host/port_owner.h). */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "cache/home.h"
#include "host/port_owner.h"
#include "machine/ports.h"
#include "vmdir/port_spec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Texts ---- */

static void test_forms(void)
{
    static const char *const forms[][2] = {
        {"8080:80", "127.0.0.1:8080:80/tcp"},
        {"0:80", "127.0.0.1:0:80/tcp"},
        {"0.0.0.0:53:53/udp", "0.0.0.0:53:53/udp"},
        {"[::1]:8080:80/tcp", "[::1]:8080:80/tcp"},
        {"[0:0::1]:8080:80", "[::1]:8080:80/tcp"},
        {"65535:65535", "127.0.0.1:65535:65535/tcp"},
        {"unix:/run/a:b/web:80", "unix:/run/a:b/web:80/tcp"},
        {"unix:/run/web:80/tcp", "unix:/run/web:80/tcp"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct port_spec p, again;
        size_t n = 0;
        char text[PORT_SPEC_MAX_TEXT] = "";
        int r = port_spec_parse(forms[i][0], &p, 1, &n, NULL);
        if (r == 0)
            port_spec_format(&p, text);
        ok(r == 0 && n == 1 && strcmp(text, forms[i][1]) == 0 && port_spec_parse(text, &again, 1, &n, NULL) == 0,
           "port %s is %s", forms[i][0], text);
    }
}

static void test_malformed(void)
{
    static const char *const forms[][2] = {
        {"", "it names one port only"},
        {"80", "it names one port only"},
        {"a:80", "not a port number"},
        {"8080:", "not a port number"},
        {":80", "not a port number"},
        {"8080:80x", "not a port number"},
        {"-1:80", "not a port number"},
        {"8080:0", "port 0 of the guest"},
        {"8080:70000", "no such port"},
        {"70000:80", "no such port"},
        {"99999999999999999999:80", "no such port"},
        {"8080:80/sctp", "no such protocol"},
        {"8080:80/", "no such protocol"},
        {"localhost:8080:80", "no such address"},
        {"::1:8080:80", "no such address"},
        {"[127.0.0.1]:8080:80", "no such address"},
        {"1.2.3.256:8080:80", "no such address"},
        {"8000-8002:80-81", "ranges of different lengths"},
        {"8002-8000:80-82", "no range"},
        {"0-2:80-82", "no range"},
        {"1-65535:1-65535", "too many ports"},
        {"unix:web:80", "no path"},
        {"unix:/:80", "no path"},
        {"unix:/run/web:80/udp", "not over a path"},
        {"unix:/run/web:80-81", "a range of ports"},
        {"unix:/run/web:0", "port 0 of the guest"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct port_spec p[PORTS_MAX];
        size_t n = 0;
        struct mvm_error err = MVM_ERROR_INIT;
        int r = port_spec_parse(forms[i][0], p, PORTS_MAX, &n, &err);
        ok(r == -EINVAL && err.phase == MVM_PHASE_USAGE && strstr(err.msg, forms[i][1]) && err.hint[0],
           "'%s' is refused: %s", forms[i][0], err.msg);
    }
    char path[200] = "unix:/", long_text[400];
    memset(path + 6, 'x', 110);
    snprintf(long_text, sizeof(long_text), "%s:80", path);
    struct port_spec p;
    size_t n;
    struct mvm_error err = MVM_ERROR_INIT;
    ok(port_spec_parse(long_text, &p, 1, &n, &err) == -EINVAL && strstr(err.msg, "the path is too long"),
       "a path that no socket can have is refused");
}

static void test_ranges(void)
{
    struct port_spec p[4];
    size_t n = 0;
    struct mvm_error err = MVM_ERROR_INIT;
    ok(port_spec_parse("8000-8002:9000-9002/udp", p, 4, &n, NULL) == 0 && n == 3 && p[2].host == 8002 &&
           p[2].guest == 9002 && p[2].protocol == IPPROTO_UDP,
       "a range is a port each");
    ok(port_specs_check(p, 3, &err) == 0, "whose ports differ");
    p[1].host = 8000;
    ok(port_specs_check(p, 3, &err) == -EINVAL && strstr(err.msg, "it is given twice"),
       "a port given twice is refused");
    p[1].protocol = IPPROTO_TCP;
    ok(port_specs_check(p, 3, &err) == 0, "TCP and UDP have ports of their own");
    p[0].host = p[1].host = 0;
    p[1].protocol = IPPROTO_UDP;
    ok(port_specs_check(p, 3, &err) == 0, "two free ports are two");
}

static void test_status(void)
{
    static struct msg_status st;
    struct port_spec p[PORTS_MAX];
    snprintf(st.ports, sizeof(st.ports), "127.0.0.1:8080:80/tcp\nnonsense\nunix:/run/web:80/tcp\n");
    ok(ports_of_status(&st, p) == 2 && p[0].host == 8080 && strcmp(p[1].path, "/run/web") == 0,
       "a VM's account of itself has its ports");
}

/* ---- Sockets ---- */

static struct home home = HOME_INIT;

static int open_text(const char *text, struct port_sockets **ret, struct mvm_error *err)
{
    struct port_spec p;
    size_t n;
    *err = (struct mvm_error)MVM_ERROR_INIT;
    if (port_spec_parse(text, &p, 1, &n, err) < 0)
        abort();
    return port_sockets_open(&home, &p, n, ret, err);
}

static void test_addresses(void)
{
    struct port_sockets *a = NULL, *b = NULL;
    struct mvm_error err;
    char text[64], name[64] = "", want[64];
    ok(open_text("0:80", &a, &err) == 0 && a->n == 1 && a->specs[0].host, "port 0 takes a free port, and says which");
    if (!a)
        return;
    uint16_t port = a->specs[0].host;
    ok(port_owner(port, false, name, sizeof(name)) == getpid() && name[0], "its owner is found: %s", name);
    ok(port_owner(port, true, name, sizeof(name)) == 0, "as UDP it has none");
    snprintf(text, sizeof(text), "%u:80", port);
    snprintf(want, sizeof(want), "process %d (", (int)getpid());
    ok(open_text(text, &b, &err) == -EADDRINUSE && !b && strstr(err.msg, want) && err.hint[0] &&
           err.phase == MVM_PHASE_RUNTIME_BACKEND,
       "a port in use is refused, with the process that has it: %s", err.msg);
    ok(open_text("192.0.2.1:0:80", &b, &err) == -EADDRNOTAVAIL && strstr(err.hint, "has that address"),
       "an address that is not here is refused: %s", err.msg);
    snprintf(text, sizeof(text), "%u:53/udp", port);
    ok(open_text(text, &b, &err) == 0, "the same port as UDP is another");
    port_sockets_free(b);
    b = NULL;
    port_sockets_free(a);
    snprintf(text, sizeof(text), "%u:80", port);
    ok(open_text(text, &b, &err) == 0, "what was freed can be had again");
    port_sockets_free(b);
}

static void test_paths(const char *folder)
{
    char path[300], text[320];
    struct port_sockets *a = NULL, *b = NULL;
    struct mvm_error err;
    struct stat st;
    snprintf(path, sizeof(path), "%s/web", folder);
    snprintf(text, sizeof(text), "unix:%s:80", path);
    ok(open_text(text, &a, &err) == 0 && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600,
       "a socket in the file system is its user's alone");
    ok(open_text(text, &b, &err) == -EADDRINUSE && !b && lstat(path, &st) == 0, "one that is in use stays: %s",
       err.msg);
    a->given = true; /* as if its supervisor had been killed */
    port_sockets_free(a);
    ok(lstat(path, &st) == 0 && open_text(text, &b, &err) == 0, "a stale one is replaced");
    port_sockets_free(b);
    ok(lstat(path, &st) < 0, "what was not given to a VM is removed");
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    b = NULL;
    ok(open_text(text, &b, &err) == -EADDRINUSE && lstat(path, &st) == 0 && S_ISREG(st.st_mode),
       "another program's file is never replaced");
    unlink(path);
    snprintf(text, sizeof(text), "unix:%s/nosuch/web:80", folder);
    ok(open_text(text, &b, &err) == -ENOENT && strstr(err.msg, "cannot listen on"), "a folder that is not there: %s",
       err.msg);
}

int main(void)
{
    const char *folder = tap_folder();
    test_forms();
    test_malformed();
    test_ranges();
    test_status();
    if (setenv("MVM_HOME", folder, 1) < 0 || setenv("MVM_CACHE_DIR", folder, 1) < 0 || home_open(&home, NULL) < 0)
        abort();
    test_addresses();
    test_paths(folder);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
