#include "tap.h"

#include "base/bucket.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/name_table.h"
#include "base/os.h"
#include "base/path.h"
#include "base/process.h"
#include "base/text.h"
#include "host/json.h"
#include "host/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int folder = -1; /* a temporary one */

static void test_buf(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(8);
    ok(buf_append(&b, "12345678", 8) == 0, "a buffer takes its maximum");
    ok(buf_append(&b, "9", 1) == -EMSGSIZE && b.len == 8, "and no byte more");
    ok(strcmp(buf_cstr(&b), "12345678") == 0, "there is a NUL behind");
    buf_drop(&b, 6);
    ok(buf_printf(&b, "%d", 123456) == 0 && strcmp(buf_cstr(&b), "78123456") == 0, "printing appends");
    ok(buf_printf(&b, "x") == -EMSGSIZE && strcmp(buf_cstr(&b), "78123456") == 0, "printing too much changes nothing");
}

static void test_error(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    ok(mvm_error_errno(&e, -ENOENT, "cannot open '%s'", "a\nb") == -ENOENT, "an error gives its code");
    ok(strcmp(e.msg, "cannot open 'a b': No such file or directory") == 0 || !strchr(e.msg, '\n'),
       "a message is one line");
    mvm_error_phase(&e, MVM_PHASE_NIX_EVAL);
    mvm_error_phase(&e, MVM_PHASE_CONFIG);
    ok(e.phase == MVM_PHASE_NIX_EVAL, "the deepest phase stays");
    mvm_error_wrap(&e, "outside");
    ok(strncmp(e.msg, "outside: cannot open", 20) == 0, "wrapping reads from the outside in");
    bool all = true;
    for (int p = 1; p < MVM_PHASE_COUNT; p++)
        all &= mvm_phase_parse(mvm_phase_name((enum mvm_phase)p)) == (enum mvm_phase)p;
    ok(all && mvm_phase_parse("nothing") == MVM_PHASE_NONE, "phases have names");
    char lines[8192];
    memset(lines, 'x', sizeof(lines));
    memcpy(lines + sizeof(lines) - 10, "\nlast line", 10);
    mvm_error_detail(&e, lines, sizeof(lines));
    ok(strstr(e.detail, "last line") != NULL, "of long details the last lines are kept");
}

/* T11: what a terminal would obey, and what it gets instead. */
static void test_text(void)
{
    static const struct {
        const char *name, *text, *line, *lines;
    } table[] = {
        {"plain text", "hello, world", "hello, world", "hello, world"},
        {"letters of other scripts", "gr\xc3\xbc\xc3\x9f \xe6\xbc\xa2 \xf0\x9f\x9a\x80 \xc2\xa0",
         "gr\xc3\xbc\xc3\x9f \xe6\xbc\xa2 \xf0\x9f\x9a\x80 \xc2\xa0", NULL},
        {"line breaks and tabs", "a\n\tb\r\nc\r", "a  b  c ", "a\n\tb\nc"},
        {"a return in a line", "a\rb", "a b", "a b"},
        {"an OSC sequence", "\033]0;title\a", "?]0;title?", NULL},
        {"a CSI sequence", "\033[2Jgone", "?[2Jgone", NULL},
        {"DEL and C0", "\x01\b\x1f\x7f", "????", NULL},
        {"U+009B, CSI as one character",
         "\xc2\x9b"
         "2J",
         "?2J", NULL},
        {"U+0080 and U+009F", "\xc2\x80\xc2\x9f", "??", NULL},
        {"C1 as single bytes",
         "\x9b"
         "2J\x9d",
         "?2J?", NULL},
        {"overrides of direction", "\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac\xe2\x80\xad\xe2\x80\xae", "?????", NULL},
        {"isolates of direction", "\xe2\x81\xa6\xe2\x81\xa7\xe2\x81\xa8\xe2\x81\xa9", "????", NULL},
        {"their neighbours", "\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa",
         "\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa", NULL},
        {"an overlong ESC", "\xc0\x9b\xe0\x80\x9b\xf0\x80\x80\x9b", "?????????", NULL},
        {"surrogates", "\xed\xa0\x80", "???", NULL},
        {"more than U+10FFFF", "\xf4\x90\x80\x80\xf5\x80\x80\x80", "????????", NULL},
        {"the last character there is", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf", NULL},
        {"a character cut at the end", "ab\xe6\xbc", "ab??", NULL},
        {"a character cut by another", "\xe6\xbcz", "??z", NULL},
        {"ESC inside a character", "\xe6\033[m", "??[m", NULL},
        {"bytes of no character", "\xff\xfe\xbf", "???", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[64];
        strcpy(text, table[i].text);
        text_one_line(text);
        ok(strcmp(text, table[i].line) == 0, "T11: %s in one line", table[i].name);
        strcpy(text, table[i].text);
        text[text_clean(text, strlen(text), true)] = '\0';
        ok(strcmp(text, table[i].lines ? table[i].lines : table[i].line) == 0, "T11: %s in lines", table[i].name);
        struct mvm_error e = MVM_ERROR_INIT;
        mvm_error_set(&e, -EINVAL, "%s", table[i].text);
        mvm_error_hint(&e, "%s", table[i].text);
        ok(strcmp(e.msg, table[i].line) == 0 && strcmp(e.hint, table[i].line) == 0, "T11: %s in an error",
           table[i].name);
    }
    ok(text_cut("ab\xe6\xbc\xa2", 5, 4) == 2 && text_cut("ab\xe6\xbc\xa2", 5, 5) == 5 && text_cut("abc", 3, 2) == 2,
       "a text is cut before a character that does not fit");
    ok(text_cut("\xbf\xbf\xbf\xbf\xbf\xbf\xbf", 7, 6) == 2, "bytes of no character are cut anywhere");
    char nul[] = "a\0b";
    ok(text_clean(nul, 3, true) == 3 && memcmp(nul, "a?b", 3) == 0, "T11: NUL is shown");
    char colors[] = "\033[31;1mred\033[0m \033[K\033]0;x\a\033[12\033\033[m[m";
    text_drop_colors(colors);
    text_one_line(colors);
    ok(strcmp(colors, "red ?]0;x??[12?[m") == 0, "T11: colors are dropped, other sequences are not obeyed: %s", colors);
}

static void test_names(void)
{
    static const char *const good[] = {"a", "a/b", "a..b/c", ".a", "a/.b"};
    static const char *const bad[] = {"", "/a", "a//b", "a/", ".", "..", "a/..", "../a", "a/./b"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        ok(path_is_safe_relative(good[i]), "'%s' stays inside", good[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(!path_is_safe_relative(bad[i]), "'%s' is refused", bad[i]);
    ok(path_is_plain_name("web-1.a_b", 9) && !path_is_plain_name("web-1.a_b", 8), "a name has a length");
    ok(!path_is_plain_name("-a", 9) && !path_is_plain_name(".a", 9) && !path_is_plain_name("a/b", 9) &&
           !path_is_plain_name("", 9) && !path_is_plain_name("a b", 9),
       "a name is plain");
}

static void test_files(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(16);
    CLEAN_FD int f = -1;
    struct mvm_error e = MVM_ERROR_INIT;
    struct stat st;
    ok(path_write_file(folder, "f", "hello", 5, 0640, true, &e) == 0, "a file is written");
    ok(fstatat(folder, "f", &st, 0) == 0 && (st.st_mode & 0777) == 0640, "with its mode");
    ok(path_read_file(folder, "f", &b, &e) == 0 && strcmp(buf_cstr(&b), "hello") == 0, "and read");
    ok(path_write_file(folder, "f", "0123456789abcdef+", 17, 0640, false, &e) == 0 &&
           path_read_file(folder, "f", &b, &e) == -EMSGSIZE,
       "one that is too large is refused");
    ok(symlinkat("/etc", folder, "out") == 0 && os_open_beneath(folder, "out/passwd", O_RDONLY, 0) < 0,
       "a symlink out of the tree is not followed");
    ok(path_make_parents(folder, "out/x/y", 0755) < 0, "nor are folders made behind it");
    ok(symlinkat("f", folder, "in") == 0 && path_read_file(folder, "in", &b, &e) < 0,
       "nor one inside, where a file is meant");
    ok(mkdirat(folder, "ro", 0700) == 0 && mkdirat(folder, "ro/sub", 0700) == 0 &&
           (f = openat(folder, "ro/sub/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0400)) >= 0 &&
           fchmodat(folder, "ro/sub", 0500, 0) == 0 && symlinkat("/etc", folder, "ro/etc") == 0,
       "(a read-only tree)");
    ok(path_remove_tree(folder, "ro") == 0 && fstatat(folder, "ro", &st, 0) < 0, "a read-only tree is removed");
    ok(access("/etc/passwd", F_OK) == 0 && path_remove_tree(folder, "ro") == 0,
       "but nothing behind its symlinks; absent is fine");
    ok(path_replace_symlink(folder, "b", "link", &e) == 0 && path_replace_symlink(folder, "c", "link", &e) == 0,
       "a symlink is replaced");
}

/* A pipe that is full, made non-blocking by whoever shares it: everything is written all the same. */
static void test_write_all(void)
{
    static uint8_t sent[1 << 20], got[1 << 20];
    int fds[2];
    memset(sent, 'x', sizeof(sent));
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    pid_t pid = fork();
    if (pid == 0)
        _exit(fd_write_all(fds[1], sent, sizeof(sent)) == 0 ? 0 : 1);
    int status = 0;
    usleep(100000); /* it stands before a full pipe now */
    fcntl(fds[0], F_SETFL, 0);
    ok(fd_read_all(fds[0], got, sizeof(got)) == 0 && memcmp(sent, got, sizeof(got)) == 0 &&
           waitpid(pid, &status, 0) == pid && status == 0,
       "R12: nothing is lost before a full pipe that somebody made non-blocking");
    close(fds[0]);
    close(fds[1]);
}

static void test_copy(void)
{
    CLEAN_FD int from = openat(folder, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CLEAN_FD int to = openat(folder, "copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char b[4] = "";
    struct stat st = {0};
    ok(fd_pwrite_all(from, "head", 4, 0) == 0 && fd_pwrite_all(from, "tail", 4, 64 << 20) == 0 &&
           fd_copy_file(from, to) == 0,
       "a sparse file is copied");
    ok(fstat(to, &st) == 0 && st.st_size == (64 << 20) + 4 && st.st_blocks < 8192, "and stays sparse");
    ok(fd_pread_all(to, b, 4, 64 << 20) == 0 && memcmp(b, "tail", 4) == 0, "with its content");
    ok(fd_pread_all(to, b, 4, (64 << 20) + 2) == -ENODATA, "reading beyond the end is noticed");
}

static void test_json_fields(void)
{
    struct facts {
        char name[6], later[6];
        uint64_t n;
    };
    static const struct json_field fields[] = {
        JSON_TEXT(struct facts, "name", name),
        JSON_OPTIONAL_TEXT(struct facts, "later", later),
        JSON_NUMBER(struct facts, "n", n),
    };
    const struct facts from = {.name = "hello", .later = "x", .n = 1ull << 62};
    struct facts to = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_JSON json_object *o = json_object_new_object();
    json_put_fields(o, fields, ARRAY_SIZE(fields), &from);
    ok(json_get_fields(o, fields, ARRAY_SIZE(fields), &to, &e) == 0 && strcmp(to.name, "hello") == 0 &&
           strcmp(to.later, "x") == 0 && to.n == from.n,
       "a struct is read as it was written");
    static const struct {
        const char *text, *what;
        int r;
    } cases[] = {
        {"{\"name\":\"a\",\"n\":1}", "an optional field may be absent", 0},
        {"{\"name\":\"a\",\"later\":2,\"n\":1}", "but of no other type", -EINVAL},
        {"{\"name\":\"a\",\"later\":\"x\"}", "others may not", -ENOENT},
        {"{\"name\":\"hello!\",\"n\":1}", "a text that is too long is refused", -EINVAL},
        {"{\"name\":\"a\",\"n\":-1}", "so is a negative number", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEAN_JSON json_object *c = NULL;
        ok(json_parse(cases[i].text, strlen(cases[i].text), &c, &e) == 0 &&
               json_get_fields(c, fields, ARRAY_SIZE(fields), &to, &e) == cases[i].r,
           "%s", cases[i].what);
    }
}

static void test_json(void)
{
    CLEAN_JSON json_object *o = NULL;
    struct mvm_error e = MVM_ERROR_INIT;
    const char *s;
    int64_t i;
    char deep[200];
    ok(json_parse("{\"a\":\"x\",\"n\":5} ", 16, &o, &e) == 0, "JSON is parsed");
    ok(json_get_string(o, "a", &s, &e) == 0 && strcmp(s, "x") == 0 && json_get_int(o, "n", &i, &e) == 0 && i == 5,
       "and read");
    ok(json_get_string(o, "n", &s, &e) == -EINVAL && strstr(e.msg, "n"), "another type is told, with the field");
    ok(json_get_string(o, "zz", &s, &e) == -ENOENT, "so is an absent field");
    json_object *bad = NULL;
    ok(json_parse("{\"a\":1} x", 9, &bad, &e) < 0 && json_parse("[1]", 3, &bad, &e) < 0 &&
           json_parse("{", 1, &bad, &e) < 0,
       "garbage behind it, no object, half an object: refused");
    memset(deep, '[', sizeof(deep));
    memcpy(deep, "{\"a\":", 5);
    ok(json_parse(deep, sizeof(deep), &bad, &e) < 0, "depth is bounded");
}

static void test_sha256(void)
{
    struct sha256 s;
    uint8_t d[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256_init(&s);
    for (int i = 0; i < 2; i++) { /* an object may be used again */
        sha256_update(&s, "a", 1);
        sha256_update(&s, "bc", 2);
        sha256_final(&s, d);
        sha256_hex(d, hex);
        /* FIPS 180-4's example */
        ok(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0, "SHA-256 of abc");
    }
}

static void test_process(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(64);
    CLEAN_BUF struct buf errors = BUF_INIT(64);
    struct mvm_error e = MVM_ERROR_INIT;
    const char *const script[] = {"sh", "-c", "echo out; echo err >&2; exit 7", NULL};
    struct process_opts o = {.argv = script, .stdin_fd = -1};
    ok(process_capture(&o, &out, &errors, clock_deadline(10000), &e) == 7 && strcmp(buf_cstr(&out), "out\n") == 0 &&
           strcmp(buf_cstr(&errors), "err\n") == 0,
       "output, errors and exit status are captured");
    const char *const missing[] = {"no-such-program-here", NULL};
    o.argv = missing;
    ok(process_capture(&o, &out, NULL, clock_deadline(10000), &e) == -ENOENT, "a program that is not there is -ENOENT");
    const char *const flood[] = {"sh", "-c", "while :; do echo 0123456789; done", NULL};
    o.argv = flood;
    ok(process_capture(&o, &out, NULL, clock_deadline(20000), &e) == -EMSGSIZE, "too much output ends it");
    const char *const slow[] = {"sleep", "100", NULL};
    o.argv = slow;
    ok(process_capture(&o, &out, NULL, clock_deadline(100), &e) == -ETIMEDOUT, "a deadline ends it");
    struct process p = PROCESS_INIT;
    o.stdout_fd = o.stderr_fd = -1;
    ok(process_start(&o, &p, &e) == 0, "(a process)");
    pid_t pid = p.pid;
    process_done(&p);
    ok(kill(pid, 0) < 0 && errno == ESRCH, "one that goes out of scope is killed and reaped");
    setenv("MVM_TEST_A", "1", 1);
    setenv("MVM_TEST_B", "2", 1);
    o = (struct process_opts){.argv = (const char *const[]){"sh", "-c", "echo $MVM_TEST_A,$MVM_TEST_B,$OTHER", NULL},
                              .stdin_fd = -1};
    static const struct {
        const char *without, *add, *want;
    } environments[] = {
        {"MVM_TEST_A", "OTHER=3", ",2,3\n"}, {NULL, "MVM_TEST_B=3", "1,2,\n"}, {"MVM_TEST_", "MVM_TEST_B=3", ",3,\n"}};
    for (size_t i = 0; i < ARRAY_SIZE(environments); i++) {
        CLEAN_FREE const char **env = process_environment(environments[i].without, environments[i].add);
        o.envp = env;
        buf_clear(&out);
        ok(process_capture(&o, &out, NULL, clock_deadline(10000), &e) == 0 &&
               strcmp(buf_cstr(&out), environments[i].want) == 0,
           "an environment without %s, with %s", environments[i].without ? environments[i].without : "nothing",
           environments[i].add);
    }
    int stray = open("/dev/null", O_RDONLY);
    o = (struct process_opts){.argv = (const char *const[]){"ls", "/proc/self/fd", NULL}, .stdin_fd = -1};
    buf_clear(&out);
    ok(stray >= 3 && process_capture(&o, &out, NULL, clock_deadline(10000), &e) == 0 &&
           strcmp(buf_cstr(&out), "0\n1\n2\n3\n") == 0, /* 3 is the folder that ls reads */
       "T10: a child has no descriptor but those that are named, however they were opened");
    close(stray);
    CLEAN_FREE char *sh = process_find("sh");
    CLEAN_FREE char *none = process_find("no-such-program-here");
    ok(sh && sh[0] == '/' && !none, "programs are found in PATH");
}

static void test_bucket(void)
{
    struct bucket b;
    const uint64_t t = 5 * NSEC_PER_SEC;
    bucket_init(&b, 10, 20, t);
    ok(bucket_take(&b, 20, t) && !bucket_take(&b, 1, t), "a bucket begins full and holds no more than its burst");
    ok(bucket_take(&b, 0, t), "an empty bucket gives nothing away for nothing");
    ok(!bucket_take(&b, 1, t + 99 * NSEC_PER_MSEC) && bucket_take(&b, 1, t + 100 * NSEC_PER_MSEC),
       "a token of ten a second comes after 100 ms");
    ok(!bucket_take(&b, 6, t + 600 * NSEC_PER_MSEC) && b.left == 5, "a bucket that has too little keeps what it has");
    bucket_fill(&b, t + 3600 * NSEC_PER_SEC);
    ok(b.left == 20, "an hour fills a bucket to its burst");
    bucket_fill(&b, UINT64_MAX);
    ok(b.left == 20, "centuries do not overflow a bucket");

    unsigned taken = 0;
    bucket_init(&b, 10, 1000, t);
    b.left = 0;
    for (unsigned i = 1; i <= 40; i++)
        taken += bucket_take(&b, 1, t + i * 150 * NSEC_PER_MSEC);
    ok(taken == 40 && b.left == 20, "a bucket that is asked each 1.5 tokens loses no half ones (%u taken, %u left)",
       taken, (unsigned)b.left);
    bucket_init(&b, 0, 20, t);
    ok(bucket_take(&b, 20, t) && !bucket_take(&b, 1, t + 3600 * NSEC_PER_SEC), "a bucket without a rate never fills");
}

static void test_name_table(void)
{
    static const char *const names[] = {"one", "two", ""};
    ok(name_find(names, 3, "one") == 0 && name_find(names, 3, "two") == 1 && name_find(names, 3, "") == 2,
       "a name is found in its table");
    ok(name_find(names, 3, "on") == 3 && name_find(names, 2, "") == 2 && name_find(names, 0, "one") == 0,
       "what is no name of the table is its length");
}

int main(void)
{
    const char *template = tap_folder();
    folder = open(template, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_buf();
    test_bucket();
    test_error();
    test_text();
    test_names();
    test_name_table();
    test_files();
    test_write_all();
    test_copy();
    test_json();
    test_json_fields();
    test_sha256();
    test_process();
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, template);
    return tap_end();
}
