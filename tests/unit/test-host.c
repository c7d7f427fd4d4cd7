/*
 * Signals that ask mvmctl to end, and where its own files are. Both belong to a whole process, so each case is a child
 * of this one: for the files a copy of this program, which then says what it found.
 */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "host/install_paths.h"
#include "host/interrupt.h"
#include "host/library.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Signals ---- */

/* Runs what a process does; its wait status. */
static int in_child(void (*f)(void))
{
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        f();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return status;
}

static bool exits(void (*f)(void), int code)
{
    int status = in_child(f);
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static void want(bool good)
{
    if (!good)
        _exit(1);
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* Longer than the grace; a signal does not end it. */
static void hang(void)
{
    for (uint64_t until = clock_deadline(INTERRUPT_GRACE_MS + 8000); clock_now() < until;)
        (void)!poll(NULL, 0, 100);
}

static void not_installed(void)
{
    want(interrupt_fd() == -1 && interrupt_pending() == 0);
    raise(SIGTERM);
}

static void becomes_pending(void)
{
    interrupt_install();
    interrupt_install();
    want(interrupt_pending() == 0 && interrupt_fd() >= 0 && !is_readable(interrupt_fd()));
    raise(SIGINT);
    want(interrupt_pending() == SIGINT && is_readable(interrupt_fd()));
    want(fcntl(interrupt_fd(), F_GETFD) & FD_CLOEXEC);
}

static void first_one_counts(void)
{
    interrupt_install();
    raise(SIGHUP);
    raise(SIGINT);
    want(interrupt_pending() == SIGHUP && is_readable(interrupt_fd()));
}

static void one_interrupt_waits(void)
{
    interrupt_install();
    raise(SIGINT);
    for (uint64_t until = clock_deadline(INTERRUPT_GRACE_MS + 500); clock_now() < until;)
        (void)!poll(NULL, 0, 100);
}

static void two_interrupts(void)
{
    interrupt_install();
    raise(SIGINT);
    raise(SIGINT);
    hang();
}

static void one_term(void)
{
    uint64_t start = clock_now();
    interrupt_install();
    raise(SIGTERM);
    want(clock_now() - start < (INTERRUPT_GRACE_MS - 100) * NSEC_PER_MSEC);
    hang();
}

static void forwarded(void)
{
    static const int all[] = {SIGINT, SIGUSR1, SIGWINCH, SIGQUIT};
    uint8_t bytes[8];
    int fd = interrupt_forward(NULL);
    want(fd >= 0 && interrupt_forward(NULL) == fd);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        raise(all[i]);
    want(read(fd, bytes, sizeof(bytes)) == 4);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        want(bytes[i] == all[i]);
    want(interrupt_pending() == 0 && read(fd, bytes, 1) < 0 && errno == EAGAIN);
}

static void say_goodbye(void)
{
    (void)!write(STDOUT_FILENO, "# put back\n", 11);
    _exit(77);
}

static void forwarded_term(void)
{
    (void)!interrupt_forward(say_goodbye);
    raise(SIGTERM);
    hang();
}

static void test_signals(void)
{
    int status = in_child(not_installed);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
       "a command that does not wait is ended by a signal as any program");
    ok(exits(becomes_pending, 0), "a signal becomes pending and readable, and no program inherits that");
    ok(exits(first_one_counts, 0), "of two signals the first one counts");
    ok(exits(forwarded, 0), "signals for a program elsewhere come as bytes, and none is pending");
}

/* These take the grace each: at once. */
static void test_grace(void)
{
    static const struct {
        void (*f)(void);
        int code;
        const char *what;
    } cases[] = {{one_interrupt_waits, 0, "one SIGINT leaves a process all the time it needs"},
                 {two_interrupts, 128 + SIGINT, "two end a process that hangs, with the signal's status"},
                 {one_term, 128 + SIGTERM, "one SIGTERM ends it after its grace, and not before"},
                 {forwarded_term, 77, "before that ends it, what was asked for is done"}};
    pid_t pids[ARRAY_SIZE(cases)];
    fflush(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            cases[i].f();
            _exit(0);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int status = -1;
        waitpid(pids[i], &status, 0);
        ok(WIFEXITED(status) && WEXITSTATUS(status) == cases[i].code, "%s (%x)", cases[i].what, (unsigned)status);
    }
}

/* ---- Where mvmctl's own files are ---- */

static char *top;

static void put(const char *name)
{
    CLEAN_FD int dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (path_make_parents(dir, name, 0700) < 0)
        abort();
    CLEAN_FD int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    if (fd < 0)
        abort();
}

static void copy_self(const char *name)
{
    put(name);
    CLEAN_FREE char *path = path_join(top, name, NULL);
    CLEAN_FD int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CLEAN_FD int out = open(path, O_WRONLY | O_CLOEXEC);
    if (fd_copy_file(in, out) < 0 || fchmod(out, 0700) < 0)
        abort();
}

/* Whether such a copy says that: see find(). */
static bool says(const char *program, const char *words)
{
    CLEAN_FREE char *path = path_join(top, program, NULL);
    const char *const argv[] = {path, "find", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_BUF struct buf out = BUF_INIT(64 * 1024);
    int r = process_capture(&o, &out, NULL, clock_deadline(30000), NULL);
    bool same = r == 0 && strcmp(buf_cstr(&out), words) == 0;
    if (!same)
        printf("# %d: %s", r, buf_cstr(&out));
    return same;
}

/* ...: its files are in those folders below top; examples NULL: it has none. */
static bool finds(const char *program, const char *kind, const char *nix, const char *examples)
{
    char words[1024];
    snprintf(words, sizeof(words), "%s %s/%s %s%s%s\n", kind, top, nix, examples ? top : "", examples ? "/" : "",
             examples ? examples : "none");
    return says(program, words);
}

static int find(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_INSTALL_PATHS struct install_paths i = {0};
    if (install_paths_find(&i, &e) < 0) {
        printf("%s: %s\n", mvm_phase_name(e.phase), e.hint);
        return i.nix || i.mvm_init ? 1 : 0;
    }
    CLEAN_FREE char *examples = install_paths_examples(&i);
    printf("%s %s %s\n", i.checkout ? "checkout" : "installed", i.nix, examples ? examples : "none");
    return 0;
}

static void test_install(void)
{
    static const char missing[] =
        "builder-bootstrap: run mvmctl from its build folder, or install it with meson install\n";
    copy_self("usr/bin/mvmctl");
    ok(says("usr/bin/mvmctl", missing), "a program alone says what it lacks, and what to do");
    put("usr/libexec/mvm/mvm-init");
    put("usr/libexec/mvm/mvm-mkrootfs");
    put("usr/libexec/mvm/mvm-nixdb");
    ok(says("usr/bin/mvmctl", missing), "a half of an installation is none");
    put("usr/share/mvm/nix/flake.nix");
    ok(finds("usr/bin/mvmctl", "installed", "usr/share/mvm/nix", NULL), "an installed program finds its files");
    put("usr/share/mvm/examples/hello");
    ok(finds("usr/bin/mvmctl", "installed", "usr/share/mvm/nix", "usr/share/mvm/examples"),
       "and the examples, where they are");

    copy_self("src/build/mvmctl");
    put("src/build/mvm-init");
    put("src/build/src/image/mvm-mkrootfs");
    put("src/build/src/image/mvm-nixdb");
    put("src/nix/flake.nix");
    put("src/examples/hello");
    CLEAN_FREE char *link = path_join(top, "src/build/nix-source", NULL);
    if (symlink("../nix", link) < 0)
        abort();
    ok(finds("src/build/mvmctl", "checkout", "src/nix", "src/examples"),
       "one in a build folder finds those of its checkout");
    CLEAN_FREE char *elsewhere = path_join(top, "link", NULL);
    if (symlink("src/build/mvmctl", elsewhere) < 0)
        abort();
    ok(finds("link", "checkout", "src/nix", "src/examples"), "a symlink to the program finds them as well");
}

static void test_library(void)
{
    size_t (*length)(const char *) = NULL;
    void *nothing = NULL;
    const struct library_function functions[] = {{"strlen", &length}, {"mvm_no_such_function", &nothing}};
    ok(library_load("libc.so.6", functions, 1) == 0 && length && length("four") == 4,
       "a function is found in a library that is loaded when it is needed");
    ok(library_load("libc.so.6", functions, 2) == -ENOENT, "a library without one of the functions is none");
    ok(library_load("libmvm-none.so.1", functions, 1) == -ENOENT, "one that is not there neither");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return find();
    top = realpath(tap_folder(), NULL);
    test_signals();
    test_grace();
    test_install();
    test_library();
    (void)!path_remove_tree(AT_FDCWD, top);
    free(top);
    return tap_end();
}
