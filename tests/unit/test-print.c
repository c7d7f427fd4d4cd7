/* The way out: text that others wrote, objects, files, and what a command consisted of. */
#include "captured.h"
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static struct buf out = BUF_INIT(4 << 20);
static const char *folder;

static bool printed(const char *want)
{
    bool same = strcmp(buf_cstr(&out), want) == 0;
    if (!same)
        printf("# printed: %s\n", buf_cstr(&out));
    return same;
}

static void test_text(void)
{
    struct captured c = capture(STDOUT_FILENO);
    ui_out("a\tb\n%s\n", "\033[31mred\r\n\xff");
    capture_end(&c, &out);
    ok(printed("a\tb\n?[31mred\n?\n"), "of text line breaks and tabs are printed; nothing that a terminal obeys");
    c = capture(STDOUT_FILENO);
    ui_line("one\nline\t%s", "\xc2\x9b"
                             "2J \xe2\x80\xae"
                             "evil \xf0\x9f\x98\x80");
    capture_end(&c, &out);
    ok(printed("one line ?2J ?evil \xf0\x9f\x98\x80\n"),
       "a line stays one: no breaks, no control characters of two bytes, no other order");
    c = capture(STDOUT_FILENO);
    ui_colored("\033[32m", "%s", "name");
    capture_end(&c, &out);
    ok(printed("name"), "what is no terminal gets no colors");
    c = capture(STDERR_FILENO);
    ui_say("a\n%s", "b");
    ui_say_detail("%s", "x\033]0;title\a");
    ui_say_error("%s", "c");
    capture_end(&c, &out);
    ok(printed("mvmctl: a b\n  | x?]0;title?\nmvmctl: c\n"),
       "messages begin with the program's name, details with a bar");
    c = capture(STDOUT_FILENO);
    ui_line("%s", "");
    ui_out("%s", "");
    capture_end(&c, &out);
    ok(printed("\n"), "an empty line is a line, an empty text nothing");
}

static void test_json(void)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "text",
                    "a/\"b\033\n\xc2\x85\xe2\x80\xae\xff"
                    "c");
    struct captured c = capture(STDOUT_FILENO);
    ui_print_json(o);
    capture_end(&c, &out);
    ok(printed("{\"text\":\"a/\\\"b\\u001b\\n\\u0085\\u202e\\ufffdc\"}\n"),
       "in an object what a terminal obeys is escaped, and what is no UTF-8 replaced");
    json_object *back = json_tokener_parse(buf_cstr(&out));
    ok(back && json_object_object_get(back, "text"), "it is JSON all the same");
    json_object_put(back);
    c = capture(STDOUT_FILENO);
    int r = ui_print_json_part("[", json_object_new_int(1), "]\n");
    capture_end(&c, &out);
    ok(r == 0 && printed("[1]\n"), "a part of a list stands between what the command prints itself");
    c = capture(STDERR_FILENO);
    ui_event(json_object_new_int(2));
    capture_end(&c, &out);
    ok(printed("2\n"), "an event is a line on standard error");
}

static void test_full_disk(void)
{
    fflush(stdout);
    CLEAN_FD int saved = dup(STDOUT_FILENO);
    CLEAN_FD int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int r = 0;
    unsigned lines = 0;
    if (saved < 0 || full < 0 || dup2(full, STDOUT_FILENO) < 0)
        abort();
    for (; r == 0 && lines < 1000; lines++)
        r = ui_line("%0200d", 0);
    int json = ui_print_json_part("", json_object_new_int(1), "");
    (void)!freopen("/dev/null", "w", stdout);
    if (dup2(saved, STDOUT_FILENO) < 0)
        abort();
    ok(r == -EPIPE && json == -EPIPE, "a standard output that cannot be written is told (after %u lines)", lines);
}

static char *path_of(const char *name)
{
    return path_join(folder, name, NULL);
}

static void test_files(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FREE char *file = path_of("file");
    CLEAN_FREE char *link = path_of("link");
    CLEAN_FREE char *missing = path_of("missing/file");
    CLEAN_BUF struct buf text = BUF_INIT(4096);
    struct stat st;
    ok(ui_write_file(file, "one", 3, &e) == 0 && ui_write_file(file, "two", 3, &e) == 0 &&
           path_read_file(AT_FDCWD, file, &text, &e) == 0 && strcmp(buf_cstr(&text), "two") == 0,
       "a file is replaced");
    buf_clear(&text);
    ok(symlink("file", link) == 0 && ui_write_file(link, "3", 1, &e) == 0 && lstat(link, &st) == 0 &&
           S_ISLNK(st.st_mode) && path_read_file(AT_FDCWD, file, &text, &e) == 0 && strcmp(buf_cstr(&text), "3") == 0,
       "what a symlink leads to is written, and the symlink stays");
    ok(ui_write_file("/dev/null", "x", 1, &e) == 0 && lstat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode),
       "a device is written and not replaced");
    ok(ui_write_file(missing, "x", 1, &e) == -ENOENT && strstr(e.msg, "missing/file"),
       "a file in a folder that is not there is an error which names it");
    ok(ui_write_file(folder, "x", 1, &e) < 0 && lstat(folder, &st) == 0 && S_ISDIR(st.st_mode), "a folder is no file");
}

/* ---- Trace ---- */

static void test_trace(void)
{
    static struct trace t;
    static struct machine_info info = {.supervisor = 77, .own_steps = 1};
    struct mvm_error e = MVM_ERROR_INIT;
    ui.born = 1000 * NSEC_PER_SEC;
    steps_span(&t.own, "boot", ui.born + 10 * NSEC_PER_MSEC, ui.born + 60 * NSEC_PER_MSEC);
    steps_span(&info.steps, "spawn", ui.born + 20 * NSEC_PER_MSEC, ui.born + 30 * NSEC_PER_MSEC);
    steps_span(&info.steps, "restore", ui.born + 10 * NSEC_PER_MSEC, ui.born + 20 * NSEC_PER_MSEC);
    steps_span(&info.steps, "early", ui.born - 5 * NSEC_PER_MSEC, ui.born + 1 * NSEC_PER_MSEC);
    trace_machine(&t, &info);
    ok(t.own.n == 2 && t.supervisor.n == 2 && t.supervisor_pid == 77, "a start's steps are divided by their process");
    struct captured c = capture(STDOUT_FILENO);
    trace_print(&t);
    capture_end(&c, &out);
    ok(printed("step                 process           at ms         ms\n"
               "early                supervisor         0.00       6.00\n"
               "boot                 mvmctl            10.00      50.00\n"
               "restore              supervisor        10.00      10.00\n"
               "spawn                mvmctl            20.00      10.00\n"),
       "steps are shown in the order in which they began; what contains another one before it");
    json_object *list = trace_json(&t);
    ok(json_object_array_length(list) == 4 &&
           strcmp(json_object_to_json_string_ext(json_object_array_get_idx(list, 1), JSON_C_TO_STRING_PLAIN),
                  "{\"name\":\"boot\",\"process\":\"mvmctl\",\"start_ms\":10.000,\"ms\":50.000}") == 0,
       "and so they are in JSON, to the microsecond");
    json_object_put(list);

    CLEAN_FREE char *file = path_of("trace");
    CLEAN_BUF struct buf text = BUF_INIT(1 << 20);
    int r = trace_write(&t, file, &e);
    json_object *events =
        r == 0 && path_read_file(AT_FDCWD, file, &text, &e) == 0 ? json_tokener_parse(buf_cstr(&text)) : NULL;
    ok(events && json_object_array_length(events) == 4 && strstr(buf_cstr(&text), "\"ph\":\"X\"") &&
           strstr(buf_cstr(&text), "\"pid\":77"),
       "a trace's file is a list of complete events, each of its process");
    json_object_put(events);
    static const struct trace none;
    buf_clear(&text);
    ok(trace_write(&none, file, &e) == 0 && path_read_file(AT_FDCWD, file, &text, &e) == 0 &&
           strcmp(buf_cstr(&text), "[\n]\n") == 0,
       "a trace without steps is an empty list");
    ok(trace_write(&t, "/no/such/folder/trace", &e) == -ENOENT, "a trace that cannot be written is an error");
}

static void test_status(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    mvm_error_set(&e, -EIO, "it broke");
    mvm_error_phase(&e, MVM_PHASE_NIX_BUILD);
    mvm_error_hint(&e, "mend it");
    mvm_error_detail(&e, "one\ntwo", 7);
    struct captured c = capture(STDERR_FILENO);
    int status = ui_fail(&e);
    capture_end(&c, &out);
    ok(status == EXIT_NIX_BUILD && printed("mvmctl: [nix-build] it broke\n  | one\n  | two\nmvmctl: hint: mend it\n"),
       "an error is a line, its details and a hint");
    mvm_error_set(&e, -EINTR, "interrupted");
    ok(exit_status_of(&e) == 130, "what was interrupted exits as a shell says it");
}

int main(void)
{
    folder = tap_folder();
    setenv("NO_COLOR", "1", 1);
    ui_init(false, false);
    test_text();
    test_json();
    test_files();
    test_trace();
    test_status();
    test_full_disk();
    (void)!path_remove_tree(AT_FDCWD, folder);
    buf_done(&out);
    return tap_end();
}
