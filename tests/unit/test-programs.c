/* The programs beside mvmctl that no other can be linked with, each run as its caller runs it: mvm-nixdb, which
 * registers a folder in Nix's database; mvm-preload.so, which keeps a VMM from writing to shared memory; mvm-jail, the
 * last program before a VMM; and mvmctl's own first steps. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "jail/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_OUTPUT 65536
#define DIGITS     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAME       "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-source"

static const char *folder;
static int dir = -1;

static void put(const char *path, const char *text)
{
    CLEAN_FD int fd =
        path_make_parents(dir, path, 0755) < 0 ? -1 : openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static bool has(const char *path, const char *text)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_OUTPUT);
    return path_read_file(dir, path, &b, NULL) == 0 && strcmp(buf_cstr(&b), text) == 0;
}

static const char *built(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", getenv("MVM_BUILD"), name);
    return path;
}

/* Runs a program to its end: its exit code. */
static int run(const char *const *argv, const char *const *envp, struct buf *out, struct buf *errors)
{
    const struct process_opts o = {.argv = argv, .envp = envp, .stdin_fd = -1};
    buf_clear(out);
    buf_clear(errors);
    return process_capture(&o, out, errors, clock_deadline(30000), NULL);
}

/* ---- mvm-nixdb ---- */

static bool sql(const char *db, const char *text, char *ret, size_t size)
{
    CLEAN_FREE char *path = path_join(folder, db, NULL);
    sqlite3 *d = NULL;
    sqlite3_stmt *s = NULL;
    bool done = sqlite3_open(path, &d) == SQLITE_OK && sqlite3_prepare_v2(d, text, -1, &s, NULL) == SQLITE_OK;
    int r = done ? sqlite3_step(s) : SQLITE_ERROR;
    if (r == SQLITE_ROW && ret)
        snprintf(ret, size, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_close(d);
    return r == SQLITE_ROW || r == SQLITE_DONE;
}

/* As in the builder, whose root is that folder here. Its exit code; -1 where this process may not have another root. */
static int nixdb(const char *tree, const char *path, const char *hash)
{
    pid_t pid = fork();
    if (pid == 0) {
        bool may = getuid() == 0 || unshare(CLONE_NEWUSER) == 0;
        if (!may || chroot(folder) < 0 || chdir("/") < 0)
            _exit(99);
        close(STDERR_FILENO);
        execl("/mvm-nixdb", "mvm-nixdb", tree, path, hash, "120", "/fetchers.sqlite", (char *)NULL);
        _exit(98);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) != 99 ? WEXITSTATUS(status) : -1;
}

static void test_nixdb(void)
{
    CLEAN_FD int from = open(built("src/image/mvm-nixdb"), O_RDONLY | O_CLOEXEC);
    CLEAN_FD int to = openat(dir, "mvm-nixdb", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (from < 0 || to < 0 || fd_copy_file(from, to) < 0)
        abort();
    fd_closep(&to);
    char text[256] = "";
    put("nix/store/.one/file", "content");
    put("nix/var/nix/db/schema", "9");
    int r = nixdb("/nix/store/.one", NAME, DIGITS);
    if (r < 0) {
        printf("ok %u - mvm-nixdb registers a folder # SKIP this process may not have another root\n", ++tap_count);
        return;
    }
    ok(r == 3 && has("nix/store/.one/file", "content"), "mvm-nixdb leaves a database of another version alone");
    put("nix/var/nix/db/schema", "10");
    ok(nixdb("/nix/store/.one", NAME, DIGITS) == 1 && has("nix/store/.one/file", "content"),
       "mvm-nixdb moves nothing where there is no database");
    ok(sql("nix/var/nix/db/db.sqlite",
           "create table ValidPaths (id integer primary key, path text unique not null, hash text not null, "
           "registrationTime integer not null, narSize integer)",
           NULL, 0),
       "there is a database");
    ok(nixdb("/nix/store/.one", NAME, DIGITS) == 0 && has(&NAME "/file"[1], "content"),
       "mvm-nixdb moves a folder to its place in the store");
    ok(sql("nix/var/nix/db/db.sqlite", "select path || ' ' || hash || ' ' || narSize from ValidPaths", text,
           sizeof(text)) &&
           strcmp(text, NAME " sha256:" DIGITS " 120") == 0,
       "and registers it with its hash and size: %s", text);
    ok(sql("fetchers.sqlite", "select key || ' ' || value from Cache where domain = 'fetchToStore'", text,
           sizeof(text)) &&
           strstr(text, "path:" DIGITS ":") && strstr(text, NAME + strlen("/nix/store/")),
       "and tells Nix's fetchers: %s", text);
    put("nix/store/.two/file", "another");
    ok(nixdb("/nix/store/.two", NAME, DIGITS) == 0 && has("nix/store/.two/file", "another"),
       "mvm-nixdb leaves a path alone that is valid already");
    static const struct {
        const char *path, *hash;
    } bad[] = {{"/nix/other/x", DIGITS}, {"/nix/store/a/b", DIGITS}, {NAME, "abc"}, {NAME, DIGITS "00"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(nixdb("/nix/store/.two", bad[i].path, bad[i].hash) == 2,
           "mvm-nixdb takes no path %s with hash %.8s of %zu digits", bad[i].path, bad[i].hash, strlen(bad[i].hash));
}

/* ---- mvm-preload.so ---- */

static void test_preload(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(MAX_OUTPUT);
    CLEAN_BUF struct buf errors = BUF_INIT(MAX_OUTPUT);
    char script[512], load[600], only[300];
    put("shared", "memory");
    put("own", "memory");
    snprintf(script, sizeof(script),
             "exec 2>/dev/null; echo x 1<>'%s/shared'; echo y 1<>'%s/own'; read -r a <'%s/shared'; echo \"$a\"", folder,
             folder, folder);
    snprintf(load, sizeof(load), "LD_PRELOAD=%s", built("mvm-preload.so"));
    snprintf(only, sizeof(only), "MVM_READ_ONLY=%s/shared", folder);
    const char *const argv[] = {"/bin/sh", "-c", script, NULL}, *const env[] = {load, only, NULL};
    int r = run(argv, env, &out, &errors);
    ok(r == 0 && has("shared", "memory"),
       "a program with mvm-preload.so cannot write to the file of shared memory (%d)", r);
    ok(has("own", "y\nmory"), "but to others");
    ok(strcmp(buf_cstr(&out), "memory\n") == 0, "and reads it: %s", buf_cstr(&out));
    const char *const without[] = {load, NULL};
    ok(run(argv, without, &out, &errors) == 0 && has("shared", "x\nmory"),
       "without a file's name mvm-preload.so forbids nothing");
}

/* ---- mvm-jail ---- */

struct plan {
    char text[4096];
    size_t len;
};

static void add(struct plan *p, const char *key, const char *value)
{
    for (const char *s = key;; s = value) {
        memcpy(p->text + p->len, s, strlen(s) + 1);
        p->len += strlen(s) + 1;
        if (s == value)
            break;
    }
}

/* Runs mvm-jail with that plan, its output to a file: its exit code, and the word that it said last. */
static int jail(const struct plan *p, struct jail_word *ret, const struct jail_word *answer)
{
    int pair[2], status = -1;
    CLEAN_FD int plan = memfd_create("plan", 0);
    CLEAN_FD int out = openat(dir, "out", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0 || fd_write_all(plan, p->text, p->len) < 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        char words[2][16];
        snprintf(words[0], sizeof(words[0]), "%d", plan);
        snprintf(words[1], sizeof(words[1]), "%d", pair[1]);
        close(pair[0]);
        dup2(out, 1);
        dup2(out, 2);
        dup2(out, 9); /* not named in the plan */
        execl(built("mvm-jail"), "mvm-jail", words[0], words[1], (char *)NULL);
        _exit(98);
    }
    close(pair[1]);
    *ret = (struct jail_word){0};
    while (recv(pair[0], ret, sizeof(*ret), 0) == (ssize_t)sizeof(*ret) && ret->kind == JAIL_HERE)
        if (!answer || send(pair[0], answer, sizeof(*answer), MSG_NOSIGNAL) < 0)
            break;
    close(pair[0]);
    waitpid(pid, &status, 0);
    return process_exit_code(status);
}

static void add_program(struct plan *p, const char *script)
{
    static const char *const folders[] = {"/usr", "/bin", "/lib", "/lib64"};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        if (access(folders[i], F_OK) == 0)
            add(p, "ro", folders[i]);
    add(p, "exec", "/bin/sh");
    add(p, "env", "WORD=given");
    add(p, "arg", "sh");
    add(p, "arg", "-c");
    add(p, "arg", script);
}

static void test_jail(void)
{
    struct plan p = {0};
    struct jail_word w;
    char script[1024], allowed[300];
    put("allowed/file", "allowed\n");
    put("other/file", "other\n");
    snprintf(allowed, sizeof(allowed), "%s/allowed", folder);
    snprintf(
        script, sizeof(script),
        "read -r a <%s/allowed/file; read -r b <%s/other/file; true >&9; echo \"$WORD $HOME|$a|$b\"; umask; ulimit -c",
        folder, folder);
    add(&p, "ro", allowed);
    add_program(&p, script);
    int r = jail(&p, &w, NULL);
    CLEAN_BUF struct buf out = BUF_INIT(MAX_OUTPUT);
    if (path_read_file(dir, "out", &out, NULL) < 0)
        abort();
    const char *said = buf_cstr(&out);
    ok(r == 0 && w.kind == JAIL_CONFINED, "mvm-jail says that it has confined itself, and executes the program (%d)",
       r);
    ok(strstr(said, "given |allowed|") != NULL, "which has the named environment alone, and reads what it may");
    ok(strstr(said, w.landlock ? "|allowed|\n" : "|allowed|other\n") != NULL,
       "nothing else where the kernel has Landlock: ABI %d", w.landlock);
    ok(strstr(said, " 9: Bad file descriptor") != NULL, "has no descriptor that was not named");
    ok(strstr(said, "\n0077\n0\n") != NULL, "and leaves neither files that others read nor core files: %s", said);
    static const struct jail_word go = {.kind = JAIL_GO}, stop = {.kind = JAIL_FAILED};
    p = (struct plan){0};
    add(&p, "adopt", "");
    add_program(&p, "exit 7");
    ok(jail(&p, &w, &go) == 7 && w.kind == JAIL_CONFINED, "where it is to be adopted, mvm-jail waits for the word");
    ok(jail(&p, &w, &stop) == 127 && w.kind == JAIL_HERE, "with another word it executes nothing");
    ok(jail(&p, &w, NULL) == 127, "nor where its starter is gone");
    static const struct {
        const char *key, *value, *step, *what;
    } bad[] = {
        {"exec", "/bin/sh", "plan", "without a word for the program"},
        {"ro", "/usr", "plan", "without a program"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        p = (struct plan){0};
        add(&p, bad[i].key, bad[i].value);
        ok(jail(&p, &w, NULL) == 127 && w.kind == JAIL_FAILED && w.error == EINVAL && strcmp(w.step, bad[i].step) == 0,
           "a plan %s is refused", bad[i].what);
    }
    p.len--;
    ok(jail(&p, &w, NULL) == 127 && w.kind == JAIL_FAILED && strcmp(w.step, "plan") == 0,
       "a plan that was cut is refused");
    p = (struct plan){0};
    add(&p, "ro", "/usr");
    add(&p, "exec", "/usr/nothing");
    add(&p, "arg", "x");
    ok(jail(&p, &w, NULL) == 127, "a program that is not there ends as a shell says it");
}

/* ---- mvmctl ---- */

static void test_mvmctl(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(MAX_OUTPUT);
    CLEAN_BUF struct buf errors = BUF_INIT(MAX_OUTPUT);
    const char *program = built("mvmctl");
    static const struct {
        const char *words[3];
        int code;
        const char *out, *errors;
    } cases[] = {
        {{NULL}, 2, "mvmctl", ""},
        {{"--version"}, 0, "mvmctl ", ""},
        {{"version", "--nonsense"}, 2, "", "--nonsense"},
        {{"--help"}, 0, "build", ""},
        {{"dev"}, 2, "  status  ", ""},
        {{"dev", "--help"}, 0, "  status  ", ""},
        {{"buidl"}, 2, "", "did you mean mvmctl build?"},
        {{"dev", "statsu"}, 2, "", "did you mean mvmctl dev status?"},
        {{"ps"}, 2, "", "mvmctl ls lists the VMs"},
        {{"qqqqqq"}, 2, "", "mvmctl help lists the commands"},
        {{"--supervise"}, 2, "", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *const argv[] = {program, cases[i].words[0], cases[i].words[1], NULL};
        int r = run(argv, NULL, &out, &errors);
        ok(r == cases[i].code && strstr(buf_cstr(&out), cases[i].out) && strstr(buf_cstr(&errors), cases[i].errors),
           "mvmctl %s %s ends with %d", cases[i].words[0] ? cases[i].words[0] : "",
           cases[i].words[0] && cases[i].words[1] ? cases[i].words[1] : "", r);
    }
    char script[600];
    snprintf(script, sizeof(script), "'%s' version >/dev/full", program);
    const char *const full[] = {"/bin/sh", "-c", script, NULL};
    ok(run(full, NULL, &out, &errors) != 0 && strstr(buf_cstr(&errors), "cannot write standard output"),
       "output that cannot be written is a failure");
    snprintf(script, sizeof(script), "exec '%s' version >&-", program);
    ok(run(full, NULL, &out, &errors) != 0 && strstr(buf_cstr(&errors), "cannot write standard output"),
       "so is an output that was closed");
}

int main(void)
{
    folder = tap_folder();
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !getenv("MVM_BUILD"))
        abort();
    test_nixdb();
    test_preload();
    test_jail();
    test_mvmctl();
    if (path_remove_tree(AT_FDCWD, folder) < 0)
        printf("# %s is left\n", folder);
    return tap_end();
}
