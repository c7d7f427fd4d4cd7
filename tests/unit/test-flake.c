#include "tap.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "flake/confine.h"
#include "flake/git.h"
#include "flake/literals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int folder = -1;

static void put(const char *name, const char *text)
{
    CLEAN_FD int fd = path_make_parents(folder, name, 0755) < 0
                          ? -1
                          : openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static void sh(const char *script)
{
    const char *const argv[] = {"sh", "-ec", script, NULL};
    struct process_opts o = {.argv = argv, .stdin_fd = -1};
    if (process_capture(&o, NULL, NULL, 0, NULL) != 0)
        abort();
}

/* ---- The index ---- */

static struct flake_allow allow;

static int list(const char *root, struct buf *out, struct mvm_error *err)
{
    CLEAN_GIT_REPO struct git_repo g = {0};
    *err = (struct mvm_error)MVM_ERROR_INIT;
    int r = git_repo_open(&g, root, &allow, err);
    return r < 0 ? r : git_list(&g, out, err);
}

static unsigned count(const struct buf *b, const char *entry)
{
    unsigned n = 0;
    for (const char *at = buf_cstr(b), *end = at + b->len; at < end; at += strlen(at) + 1)
        n += strcmp(at, entry) == 0;
    return n;
}

#define GIT "git -c user.name=a -c user.email=a@example.org "

static void test_index(void)
{
    struct mvm_error e;
    CLEAN_BUF struct buf out = BUF_INIT(1u << 20);
    sh("git init -q i; cd i; mkdir d; echo 1 >d/a; echo 1 >b; ln -s b l; git add d l; git add -N b");
    ok(list("i", &out, &e) == 0 && count(&out, "100644 d/a") && count(&out, "120000 l") && count(&out, "100644 b"),
       "T1: tracked files are read from the index, one with intent to add as well");
    sh("cd i; git add b; " GIT "commit -qm 1; git checkout -qb x; echo 2 >b; " GIT "commit -qam 2; git checkout -q -; "
       "echo 3 >b; " GIT "commit -qam 3; " GIT "merge -q x || :");
    buf_clear(&out);
    ok(list("i", &out, &e) == 0 && count(&out, "100644 b") == 1, "T1: an unmerged file is listed once");
    sh("cd i; " GIT "merge --abort; git update-index --index-version 4");
    buf_clear(&out);
    ok(list("i", &out, &e) == 0 && count(&out, "100644 d/a"), "T1: an index of version 4");
    sh("cd i; git update-index --split-index");
    ok(list("i", &out, &e) == -EINVAL && strstr(e.hint, "update-index --no-split-index"),
       "T1: a split index is refused with the command that joins it");
    sh("cd i; git update-index --no-split-index; mkdir e; echo 1 >e/1; git add e; " GIT "commit -qm 4; "
       "git sparse-checkout set --cone --sparse-index d");
    ok(list("i", &out, &e) == -EINVAL && strstr(e.hint, "--no-sparse-index"),
       "T1: a sparse index is refused with the command that fills it");
    sh("git init -q --object-format=sha256 s; cd s; echo 1 >a; git add a");
    ok(list("s", &out, &e) == -ENOTSUP && strstr(e.msg, "SHA-256") && strstr(e.hint, "git init"),
       "T1: a SHA-256 repository is refused with a way out");
    put("odd/.git/index", "DIRC nonsense");
    sh("mkdir odd/.git/objects");
    ok(list("odd", &out, &e) == -EINVAL && e.hint[0], "T1: an index that is none is refused");
    sh("rm odd/.git/index; mkfifo odd/.git/index");
    ok(list("odd", &out, &e) == -EINVAL && strstr(e.msg, "no file"), "T1: a fifo as index is not waited for");
}

/* ---- What leads out of the tree ---- */

static void test_outside(void)
{
    struct mvm_error e;
    CLEAN_BUF struct buf out = BUF_INIT(1u << 20);
    sh("git init -q main; cd main; echo 1 >a; git add a; " GIT
       "commit -qm 1; git worktree add -q ../linked 2>/dev/null; "
       "cd ..; git init -q --separate-git-dir=sep.git sep; git init -q in; mv in/.git in/repo; "
       "echo 'gitdir: repo' >in/.git; echo 1 >in/a; git -C in add a; "
       "mkdir sym; ln -s ../main/.git sym/.git; git clone -qs main alt; "
       "git init -q com; echo ../../main/.git >com/.git/commondir");
    ok(list("linked", &out, &e) == -EXDEV && strstr(e.msg, "gitdir"),
       "T1: a further work tree's repository is outside");
    ok(list("sep", &out, &e) == -EXDEV && strstr(e.msg, "sep.git"), "T1: so is a gitdir elsewhere");
    ok(list("sym", &out, &e) == -EXDEV, "T1: and .git that is a symlink out of the tree");
    ok(list("alt", &out, &e) == -EXDEV && strstr(e.msg, "alternates"), "T1: and objects in an alternate store");
    out.len = 0;
    ok(flake_allow_add(&allow, "main/.git", &e) == 0 && list("linked", &out, &e) == 0 && count(&out, "100644 a"),
       "T2: a further work tree's repository is read where it is allowed");
    flake_allow_done(&allow);
    ok(list("com", &out, &e) == -EXDEV && strstr(e.msg, "commondir"), "T1: and a commondir");
    ok(list("in", &out, &e) == 0 && count(&out, "100644 a"), "T1: a gitdir within the tree is read");
}

/* ---- Confinement ---- */

static int try_all(void *data, struct buf *out, struct mvm_error *err)
{
    char *const argv[] = {(char *)(uintptr_t) "true", NULL};
    char inside[4200];
    snprintf(inside, sizeof(inside), "%s/in", (const char *)data);
    CLEAN_FD int dir = open(data, O_RDONLY | O_DIRECTORY);
    CLEAN_FD int in = open(inside, O_RDONLY);
    const char *bad = dir < 0 || in < 0                                 ? "cannot read what it may"
                      : open(inside, O_WRONLY) >= 0                     ? "opened for writing"
                      : openat(dir, "n", O_CREAT | O_RDONLY, 0600) >= 0 ? "made a file"
                      : socket(AF_INET, SOCK_STREAM, 0) >= 0            ? "has a socket"
                      : fork() >= 0                                     ? "forked"
                      : unlinkat(dir, "in", 0) == 0                     ? "removed a file"
                                                                        : NULL;
    execv("/bin/true", argv);
    return bad ? mvm_error_set(err, -EPERM, "%s", bad) : buf_str(out, "confined");
}

static int crash(void *data, struct buf *out, struct mvm_error *err)
{
    __builtin_trap();
}

static void test_confined(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_BUF struct buf out = BUF_INIT(100);
    sh("mkdir c; echo 1 >c/in");
    CLEAN_FREE char *path = realpath("c", NULL);
    const char *const folders[] = {path};
    struct confined_work w = {.folders = folders, .n_folders = 1, .work = try_all, .data = path};
    ok(confined_run(&w, &out, &e) == 0 && strcmp(buf_cstr(&out), "confined") == 0,
       "T1: a reader opens nothing for writing, has no socket and runs no program");
    if (e.code)
        printf("# %s\n", e.msg);
    w.work = crash;
    ok(confined_run(&w, &out, &e) == -EIO && strstr(e.msg, "signal"), "T1: a reader that crashes is an error");
}

/* ---- Literals ---- */

static int remember(void *data, const char *path)
{
    return buf_printf(data, "%s\n", path);
}

static void test_literals(void)
{
    static const char text[] =
        "# \"path:/comment\"\n/* \"path:/block\" */ { inputs.a.url = \"path:/a?x=1\"; inputs.b = { url = \"/b/\"; };\n"
        "inputs.c = { type = \"path\"; path = \"/c c\"; }; d.url=\"path:///d%20d\"; e.url = \"git+file:///e?ref=x\";\n"
        "f = { path = \"/usr/bin\"; }; g = \"/g\"; h.url = \"path:./h\"; i.curl = \"/i\"; j = \"\\\"path:/j\\\"\"; }";
    CLEAN_BUF struct buf out = BUF_INIT(1000);
    ok(flake_literals(text, remember, &out) == 0 && strcmp(buf_cstr(&out), "/a\n/b\n/c c\n/d d\n/e\n") == 0,
       "N4: local inputs are found in every form of a literal, and nothing else is");
    CLEAN_FREE char *odd = flake_url_path("path:/x%zz%00y");
    ok(odd && strcmp(odd, "/x%zz%00y") == 0, "N4: what is not percent-encoded stays");
    ok(!flake_url_path("path:x") && !flake_url_path("github:a/b"), "N4: other references are not local");
}

int main(void)
{
    char name[] = "/tmp/mvm-test-flake.XXXXXX";
    unsetenv("GIT_DIR");
    if (!mkdtemp(name) || chdir(name) < 0)
        abort();
    folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_index();
    test_outside();
    test_confined();
    test_literals();
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, name);
    return tap_end();
}
