/* A program in a VM as if it ran here (cli/exec_io.c): its output, errors, input and status, with a guest that is
 * played. */
#include "captured.h"
#include "played.h"
#include "tap.h"

#include "cli/cli.h"
#include "machine/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

static struct buf out = BUF_INIT(1 << 20), errors = BUF_INIT(1 << 20);

static void send_bytes(uint8_t channel, const char *text)
{
    send_frame(FRAME_DATA, channel, text, strlen(text));
}

/* Takes frames up to that message in the stream; how many bytes of input came before it. */
static size_t take_message(uint8_t wanted, uint64_t *ret_number)
{
    static uint8_t bytes[1 << 20];
    static size_t len;
    size_t input = 0;
    for (;;) {
        struct frame f;
        const char *why;
        struct msg_reader m;
        ssize_t n = frame_parse(bytes, len, &f, &why);
        bool found = n > 0 && f.type == FRAME_DATA && f.channel == CHAN_MSG && msg_open(&m, f.payload, f.len) == 0 &&
                     m.type == wanted;
        if (n > 0) {
            struct msg_signal s = {0};
            if (found && wanted == MSG_SIGNAL && msg_signal_decode(&s, f.payload, f.len) == 0)
                *ret_number = s.number;
            input += f.type == FRAME_DATA && f.channel == CHAN_OUT ? f.len : 0;
            len -= (size_t)n;
            memmove(bytes, bytes + n, len);
            if (found)
                return input;
            continue;
        }
        ssize_t got = n < 0 ? -1 : read(guest_fd, bytes + len, sizeof(bytes) - len);
        if (got <= 0)
            _exit(1);
        len += (size_t)got;
    }
}

static void writes(void)
{
    uint64_t none;
    if (take_message(MSG_EOF, &none) != 0)
        _exit(1);
    send_bytes(CHAN_OUT, "out\033[31m");
    send_bytes(CHAN_ERR, "err\n");
    send_bytes(CHAN_OUT, "more\n");
    send_exit(7, "");
}

static void reads(void)
{
    uint64_t none;
    if (take_message(MSG_EOF, &none) != 100000)
        _exit(1);
    send_exit(0, "");
}

static void is_signalled(void)
{
    uint64_t number = 0;
    (void)take_message(MSG_EOF, &number);
    kill(getppid(), SIGUSR1);
    (void)take_message(MSG_SIGNAL, &number);
    send_exit(number, "");
}

static void is_not_there(void)
{
    send_exit(127, "no-such-program: not found\033[2J");
}

static void cannot_run(void)
{
    send_exit(125, "the guest has no memory");
}

static void resets(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_EXEC, &n);
    send_frame(FRAME_RESET, 0, "the guest powered off", 21);
}

static void closes(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_EXEC, &n);
    send_frame(FRAME_CLOSE, 0, NULL, 0);
}

static void goes(void)
{
    size_t n = 0;
    (void)take_until(FRAME_OPEN, MSG_EXEC, &n);
    _exit(0);
}

static void babbles(void)
{
    send_bytes(CHAN_MSG, "\xff");
}

/* Runs a program there; what it printed here is in out and errors. */
static int run(const char *vm, void (*guest)(void), bool input, int *ret_code, struct mvm_error *e)
{
    CLEAN_CLIENT struct client *c = NULL;
    char program[] = "program";
    char *argv[] = {program, NULL};
    const struct msg_exec m = {.argv = {.v = argv, .n = 1}};
    pid_t pid = play(vm, guest);
    *ret_code = -1;
    struct captured o = capture(STDOUT_FILENO), f = capture(STDERR_FILENO);
    int r = client_connect(&home, vm, &c, e);
    if (r == 0)
        r = exec_in_vm(c, &m, input, ret_code, e);
    capture_end(&f, &errors);
    capture_end(&o, &out);
    client_free(TAKE_PTR(c));
    return served(pid) || r < 0 ? r : -EBADMSG;
}

static void test_output(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    int code = -1;
    ok(run("writes", writes, false, &code, &e) == 0 && code == 7 && strcmp(buf_cstr(&out), "out\033[31mmore\n") == 0 &&
           strcmp(buf_cstr(&errors), "err\n") == 0,
       "a program's output and errors come byte by byte and apart, and its status");
    ok(run("missing", is_not_there, false, &code, &e) == 0 && code == 127 && out.len == 0 &&
           strcmp(buf_cstr(&errors), "mvmctl: no-such-program: not found?[2J\n") == 0,
       "what the guest says of a program that is not there is one clean line");
}

static void test_input(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    int code = -1;
    CLEAN_FREE char *path = path_join(root, "input", NULL);
    CLEAN_FREE char *much = calloc(1, 100000);
    CLEAN_FD int saved = dup(STDIN_FILENO);
    CLEAN_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, much, 100000) < 0 || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, STDIN_FILENO) < 0)
        abort();
    int r = run("reads", reads, true, &code, &e);
    if (dup2(saved, STDIN_FILENO) < 0)
        abort();
    ok(r == 0 && code == 0, "all of standard input goes to the program, and its end");
    ok(run("signalled", is_signalled, false, &code, &e) == 0 && code == SIGUSR1, "a signal goes to the program (%d)",
       code);
}

static void test_failures(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    int code = -1;
    ok(run("cannot", cannot_run, false, &code, &e) == -ECHILD && strstr(e.msg, "the guest has no memory"),
       "a guest that cannot run a program is an error, not the program's status");
    ok(run("resets", resets, false, &code, &e) == -EPIPE && strstr(e.msg, "the guest powered off"),
       "a guest that ends meanwhile is told with its reason");
    ok(run("closes", closes, false, &code, &e) == -EPIPE && strstr(e.msg, "without an exit status"),
       "a stream that ends without a status is an error");
    ok(run("goes", goes, false, &code, &e) < 0, "so is a supervisor that is gone");
    ok(run("babbles", babbles, false, &code, &e) < 0, "so is an answer that cannot be understood");
}

int main(void)
{
    root = strdup(tap_folder());
    CLEAN_FREE char *state = path_join(root, "state", NULL);
    CLEAN_FREE char *cache = path_join(root, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    signal(SIGPIPE, SIG_IGN);
    ui_init(false, false);
    if (home_open(&home, NULL) < 0)
        return 1;
    test_output();
    test_input();
    test_failures();
    home_done(&home);
    buf_done(&out);
    buf_done(&errors);
    (void)!path_remove_tree(AT_FDCWD, root);
    free((char *)(uintptr_t)root);
    return tap_end();
}
