#include "tap.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "flake/confine.h"
#include "flake/flake.h"
#include "flake/git.h"
#include "flake/literals.h"
#include "flake/lock.h"
#include "flake/store.h"
#include "jail/landlock.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct home home = HOME_INIT;
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

/* "MODE PATH" of each entry. */
static int list(const char *root, struct buf *out, struct mvm_error *err)
{
    CLEAN_BUF struct buf all = BUF_INIT(1u << 20);
    CLEAN_GIT_REPO struct git_repo g = {0};
    *err = (struct mvm_error)MVM_ERROR_INIT;
    int r = git_repo_open(&g, root, NULL, &allow, err);
    struct git_head head;
    if (r == 0)
        r = git_list(&g, &all, &head, err);
    for (size_t at = 0; r == 0 && at < all.len; at += strlen((char *)all.data + at) + 1) {
        const char *mode = (const char *)all.data + at, *id = strchr(mode, ' ') + 1;
        r = buf_printf(out, "%.*s%s", (int)(id - mode), mode, id + GIT_REV_SIZE);
        if (r == 0)
            r = buf_append(out, "", 1);
    }
    return r;
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

static int answer(void *data, struct buf *out, struct mvm_error *err)
{
    return data ? mvm_error_set(err, -ENXIO, "not now") : buf_append(out, "read", 5);
}

/* What a child reads of a repository, or why it did not. */
static void test_reader(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_BUF struct buf out = BUF_INIT(100);
    CLEAN_GIT_REPO struct git_repo g = {0};
    int fails = 1;
    sh("git init -q r");
    ok(git_repo_open(&g, "r", NULL, &allow, &e) == 0 && git_read(&g, answer, NULL, -1, &out, &e) == 0 &&
           strcmp(buf_cstr(&out), "read") == 0,
       "what the child that reads a repository has found arrives");
    ok(git_read(&g, answer, &fails, -1, &out, &e) == -ENXIO && strstr(e.msg, "not now"),
       "its error arrives with its message");
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

#ifndef __SANITIZE_ADDRESS__ /* where it is there is no bound */
/* More than a child may have. */
static int take_memory(void *data, struct buf *out, struct mvm_error *err)
{
    for (unsigned i = 0; i < 1100; i++) {
        void *p = malloc(1 << 20);
        if (!p)
            return buf_str(out, "refused");
        memset(p, 1, 1 << 20);
    }
    return buf_str(out, "taken");
}
#endif

/* Descriptors but the one that its answer goes to, and standard ones that lead somewhere. */
static int count_descriptors(void *data, struct buf *out, struct mvm_error *err)
{
    unsigned n = 0;
    struct stat st;
    for (int fd = 0; fd < 64; fd++)
        n += fd != 3 && fstat(fd, &st) == 0 && (fd > 2 || !S_ISCHR(st.st_mode));
    return buf_printf(out, "%u", n);
}

/* The bits of what a process can do once it reads that folder alone. */
static int confined_can(const char *allowed, const char *file, const char *other)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const char *const folders[] = {allowed};
        if (confine_reader(folders, 1) < 0)
            _exit(128);
        int can = open(file, O_RDONLY) >= 0 ? 1 : 0;
        can |= open(other, O_RDONLY) >= 0 ? 2 : 0;
        can |= open(file, O_WRONLY) >= 0 ? 4 : 0;
        can |= socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 8 : 0;
        can |= unlink(file) == 0 ? 16 : 0;
        can |= kill(getpid(), 0) == 0 ? 32 : 0;
        _exit(can);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_confine_reader(void)
{
    const char *top = tap_folder();
    CLEAN_FREE char *allowed = path_join(top, "allowed", NULL), *other = path_join(top, "other", NULL);
    CLEAN_FREE char *file = path_join(allowed, "file", NULL);
    CLEAN_FD int a = mkdir(allowed, 0755) < 0 ? -1 : open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CLEAN_FD int b = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int abi, rules = landlock_open(false, &abi), can = confined_can(allowed, file, other);
    if (rules >= 0)
        close(rules);
    ok(a >= 0 && b >= 0 && can == (rules >= 0 ? 1 : 3),
       "a confined process reads its folder, and does nothing else (%d)", can);
    (void)!path_remove_tree(AT_FDCWD, top);
}

static void test_confined(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_BUF struct buf out = BUF_INIT(100);
    sh("mkdir c; echo 1 >c/in");
    CLEAN_FREE char *path = realpath("c", NULL);
    const char *const folders[] = {path};
    struct confined_work w = {.folders = folders, .n_folders = 1, .work = try_all, .data = path, .fd = -1};
    ok(confined_run(&w, &out, &e) == 0 && strcmp(buf_cstr(&out), "confined") == 0,
       "T1: a reader opens nothing for writing, has no socket and runs no program");
    if (e.code)
        printf("# %s\n", e.msg);
    w.work = count_descriptors;
    buf_clear(&out);
    CLEAN_FD int inherited = open("c/in", O_RDWR);
    ok(inherited >= 0 && confined_run(&w, &out, &e) == 0 && strcmp(buf_cstr(&out), "0") == 0,
       "T10: a reader has no descriptor of ours or of whoever started us (%s)", buf_cstr(&out));
#ifndef __SANITIZE_ADDRESS__
    w.work = take_memory;
    buf_clear(&out);
    ok(confined_run(&w, &out, &e) == 0 && strcmp(buf_cstr(&out), "refused") == 0,
       "T4: a reader's memory has a bound (%s)", buf_cstr(&out));
#endif
    w.work = crash;
    ok(confined_run(&w, &out, &e) == -EIO && strstr(e.msg, "signal"), "T1: a reader that crashes is an error");
}

/* ---- Literals ---- */

static int remember(void *data, const char *path)
{
    return buf_printf(data, "%s\n", path);
}

static const char *literals_of(const char *text)
{
    static struct buf out = BUF_INIT(1000);
    buf_clear(&out);
    return flake_literals(text, remember, &out) == 0 ? buf_cstr(&out) : "error";
}

/* What stands before an input, and does not hide it. */
static const struct {
    const char *name, *text;
} before_input[] = {
    {"a quote in an indented string", "description = ''5\" disk'';"},
    {"quotes in an indented string", "description = '' ''' \" ' '';"},
    {"escapes in an indented string", "description = '' ''${ ''\\\" $${ \" '';"},
    {"a dollar at an indented string's end", "description = ''$'';"},
    {"two dollars before a brace", "description = \"$${ ''\";"},
    {"escapes in a string", "description = \"\\${ \\\" $\\\"\";"},
    {"strings in parts of a string", "x = \"${\"}\"}${''\"}''}\";"},
    {"strings in parts of an indented string", "x = ''${\"''\"}${a.${\"}\"}}'';"},
    {"a list with brackets", "x = [ (a: a.b or \"}\") { } ];"},
    {"a function", "x = { a ? \"}\", ... }@b: let c = 1; in with c; assert b == c; { inherit (b) \"c\"; };"},
    {"a name that ends with quotes", "x = f'' ''\"'';"},
    {"a URL with quotes", "x = x:''y'';"},
    {"a path that ends with a slash", "x = ./a/*b;"},
    {"paths", "x = <a/b> + ~/c + ./d/${\"}\"}/e;"},
    {"a number before quotes", "x = 1''}'';"},
    {"a comment that a carriage return ends", "x = a # \"\r;"},
    {"a comment with quotes in it", "x = a /* } \" **/;"},
    {"an empty comment", "x = a/**/;"},
    {"an input that is not local", "inputs.y.url = \"github:a/b\";"},
    {"a URL that is not a literal", "inputs.y.url = \"/n${x}\";"},
    {"an input's own inputs", "inputs.y.inputs.z.follows = \"/n\";"},
};

static void test_literals(void)
{
    ok(strcmp(literals_of(
                  "# \"path:/n\"\n/* \"path:/n\" */ { inputs.a.url = \"path:/a?x=1\"; inputs.b = { url = \"/b/\"; };\n"
                  "inputs = { c = { type = \"path\"; path = \"/c c\"; }; d.url=\"path:///d%20d\"; };\n"
                  "inputs.e.url = \"git+file:///e?ref=x\"; inputs.g = { path = \"/n\"; };\n"
                  "inputs.h.url = \"path:./n\"; inputs.i.curl = \"/n\"; outputs = _: { url = \"/n\"; }; }"),
              "/a\n/b\n/c c\n/d d\n/e\n") == 0,
       "N4: local inputs are found in every form of a literal, and nothing else is");
    ok(strcmp(literals_of("{ inputs.a.url = ''path:/a''; inputs.b.url = path:/b; inputs.c.url = ''\n  path:/c\n''; }"),
              "/a\n/b\n/c\n") == 0,
       "N4: local inputs are found in two single quotes, and as URLs without quotes");
    ok(strcmp(
           literals_of(
               "{ \"inputs\".a.\"url\" = \"/a\"; inputs.${\"b\"} = { \"type\" = \"path\"; ${\"path\"} = \"/b\"; }; }"),
           "/a\n/b\n") == 0,
       "N4: local inputs are found where names stand in quotes");
    ok(strcmp(literals_of("rec { inputs.a.url = /* x */ (\"/a\"); inputs.b = rec { url = # x\n \"/b\"; }; }"),
              "/a\n/b\n") == 0,
       "N4: local inputs are found behind comments and brackets");
    ok(strcmp(literals_of("{ inputs.a = { type = \"path\"; }; inputs.a.path = \"/a\"; inputs.b.path = \"/n\"; }"),
              "/a\n") == 0,
       "N4: local inputs are found in a set that is written in several places");
    ok(strcmp(
           literals_of("{ inputs.a = { type = \"git\"; url = \"file:///a\"; }; inputs.b.url = \"file:///b.tar.gz\";\n"
                       "inputs.c.url = \"tarball+file:///c.tar\"; inputs.d.url = \"file+file:///d\"; }"),
           "/a\n/b.tar.gz\n/c.tar\n/d\n") == 0,
       "N4: repositories, archives and files are found as local inputs");
    for (size_t i = 0; i < ARRAY_SIZE(before_input); i++) {
        char text[300];
        snprintf(text, sizeof(text), "{ %s inputs.i.url = \"/i\"; outputs = { self }: { }; }", before_input[i].text);
        ok(strcmp(literals_of(text), "/i\n") == 0, "N4: an input is found behind %s", before_input[i].name);
    }
    CLEAN_BUF struct buf deep = BUF_INIT(10000);
    for (unsigned i = 0; i < 600; i++)
        if (buf_str(&deep, "[\"${") < 0)
            abort();
    ok(flake_literals(buf_cstr(&deep), remember, NULL) == -EOVERFLOW,
       "N4: a flake.nix with brackets without number is refused");
    CLEAN_FREE char *odd = flake_url_path("path:/x%zz%00y");
    ok(odd && strcmp(odd, "/x%zz%00y") == 0, "N4: what is not percent-encoded stays");
    ok(!flake_url_path("path:x") && !flake_url_path("github:a/b") && !flake_url_path("path://host/x"),
       "N4: other references are not local");
}

/* ---- References ---- */

/* root and subdir end with these; git as said. */
static bool resolves(const char *text, const char *root, const char *subdir, bool git)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FREE char *real = realpath(root, NULL);
    return flake_ref_parse(&f, text, NULL) == 0 && real && strcmp(f.root, real) == 0 && strcmp(f.subdir, subdir) == 0 &&
           f.git == git;
}

/* What records of it are kept under; static storage. */
static const char *id_of(const char *text)
{
    static char out[4][4096];
    static size_t n;
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    if (flake_ref_parse(&f, text, NULL) < 0)
        return "error";
    n = (n + 1) % ARRAY_SIZE(out);
    snprintf(out[n], sizeof(out[n]), "%s", f.id);
    return out[n];
}

static void test_identities(void)
{
    static const char *const trees[] = {
        "id",          "path:id",         "id?submodules=1",     "id/sub",
        "path:id/sub", "path:id?dir=sub", "id/sub?submodules=1", "git+file:id?dir=own",
        "id/own",      "path:id/a%3Fb",   "path:id?dir=a%3Fb",
    };
    put("id/flake.nix", "{ }");
    put("id/sub/flake.nix", "{ }");
    put("id/own/flake.nix", "{ }");
    put("id/a?b/flake.nix", "{ }");
    put("plain/flake.nix", "{ }");
    sh("git init -q id; git init -q id/own");
    unsigned same = 0, lost = 0;
    for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
        lost += strcmp(id_of(id_of(trees[i])), id_of(trees[i])) != 0 || strcmp(id_of(trees[i]), "error") == 0;
        for (size_t k = 0; k < i; k++)
            same += strcmp(id_of(trees[i]), id_of(trees[k])) == 0;
    }
    ok(same == 0, "R1: references to other trees of one folder have records of their own");
    ok(lost == 0, "R1: what a record is kept under is a reference to the same tree");
    ok(strcmp(id_of("id?dir=sub"), id_of("id/sub")) == 0 && strcmp(id_of("git+file:id"), id_of("id")) == 0 &&
           strcmp(id_of("path:plain"), id_of("plain")) == 0 && id_of("plain")[0] == '/',
       "R1: other words for the same tree have the same record");
}

static bool is_remote(const char *text)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    return flake_ref_parse(&f, text, NULL) == 0 && f.remote;
}

static void test_remote(void)
{
    ok(is_remote("nixpkgs") && is_remote("nixpkgs/nixos-25.05#hello") && is_remote("flake-utils/feature/x@1+2"),
       "N1: registry names are taken with any branch, with dots too");
    ok(is_remote("git://host/r") && is_remote("github:a/b"), "N1: git: is a scheme that Nix can fetch");
    ok(!is_remote("nothing.x") && !is_remote("nothing/.x") && !is_remote("./nothing") && !is_remote("1nothing") &&
           !is_remote("nothing?dir=x"),
       "N1: what is no registry name is a folder");
    ok(!is_remote("tarball+file:///x.tar") && !is_remote("hg+file:///x"),
       "R3: an archive on the host is not looked for in the builder");
}

static void test_references(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct flake_ref f;
    put("t/flake.nix", "{ }");
    put("t/sub/flake.nix", "{ }");
    put("t/sub/deep/er/x", "");
    put("t/a b/flake.nix", "{ }");
    put("none/x/y", "");
    sh("git init -q t; git init -q none; ln -s t/sub l");
    ok(resolves("t?dir=sub", "t", "sub", true) && resolves("git+file:t?dir=sub", "t", "sub", true),
       "N1: ?dir= names the flake's folder in the tree");
    ok(resolves("path:t?dir=sub", "t", "sub", false) && resolves("path:t/sub", "t/sub", "", false),
       "N1: path: is the whole folder, whether git tracks it or not");
    ok(resolves("t/sub/deep/er", "t", "sub", true), "N1: flake.nix is searched for upwards");
    ok(flake_ref_parse(&f, "none/x", &e) == -ENOENT && strstr(e.msg, "or above"), "N1: not beyond the git work tree");
    ok(resolves("./l", "t", "sub", true) && resolves("t/sub/flake.nix", "t", "sub", true),
       "N1: a symlink to the folder, and flake.nix itself");
    ok(resolves("path:t/a%20b", "t/a b", "", false) && resolves("path:t?dir=a%20b", "t", "a b", false) &&
           resolves("t/a b", "t", "a b", true),
       "N1: percent-encoding in a URL");
    ok(flake_ref_parse(&f, "t?dir=../none", &e) < 0 && flake_ref_parse(&f, "git+file:t/sub", &e) == -EINVAL,
       "N1: a folder outside of its tree, and one that is not the top of its work tree, are refused");
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(flake_ref_parse(&f, "t?rev=1234", &e) == -EINVAL && strstr(e.msg, "40 hex digits"),
       "N1: ?rev= that is no commit's name is refused, and is no part of the folder's name");
    ok(flake_ref_parse(&f, "path:t?ref=main", &e) == -EINVAL && flake_ref_parse(&f, "t/a b?ref=x&submodules=1", &e) < 0,
       "N1: ?ref= of a path: reference is refused, and with ?submodules=1");
    bool quoted = flake_ref_parse(&f, "t#%22a.b%22", &e) == 0 && strcmp(f.attr, "\"a.b\"") == 0;
    ok(quoted, "N1: an attribute with quotes");
    if (quoted)
        flake_ref_done(&f);
}

/* ---- Local inputs ---- */

/* The paths of the inputs of a flake whose file says that, a line each; "@" in it is the folder. */
static const char *inputs_of(const char *format, struct mvm_error *e)
{
    static struct buf out = BUF_INIT(10000);
    CLEAN_FREE char *here = realpath("in", NULL);
    CLEAN_BUF struct buf text = BUF_INIT(10000);
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_INPUTS struct flake_inputs in = {0};
    for (; *format; format++)
        if (buf_printf(&text, *format == '@' ? "%s" : "%.1s", *format == '@' ? here : format) < 0)
            abort();
    *e = (struct mvm_error)MVM_ERROR_INIT;
    put("in/flake.nix", buf_cstr(&text));
    buf_clear(&out);
    if (flake_ref_parse(&f, "path:in", e) < 0 || flake_inputs_load(&in, &f, &home, e) < 0)
        return "error";
    for (size_t i = 0; i < in.n; i++)
        if (strncmp(in.v[i].path, here, strlen(here)) != 0 || buf_printf(&out, "%s\n", in.v[i].path + strlen(here)) < 0)
            abort();
    return buf_cstr(&out);
}

/* What is said of a lock file whose only node has that as original; "@" in it is the folder of a flake with the inputs
 * /b and the file d/file. */
static int check_locked(const char *original, struct mvm_error *e)
{
    CLEAN_FREE char *here = realpath("in", NULL);
    CLEAN_BUF struct buf lock = BUF_INIT(10000);
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_INPUTS struct flake_inputs in = {0};
    *e = (struct mvm_error)MVM_ERROR_INIT;
    (void)inputs_of("{ inputs.b.url = \"path:@/b\"; inputs.d.url = \"path:@/d/file\"; }", e);
    int r = buf_str(&lock, "{\"version\":7,\"root\":\"root\",\"nodes\":{\"root\":{},\"i\":{\"original\":");
    for (; r == 0 && *original; original++)
        r = buf_printf(&lock, *original == '@' ? "%s" : "%.1s", *original == '@' ? here : original);
    if (r < 0 || buf_str(&lock, "}}}") < 0 || flake_ref_parse(&f, "path:in", e) < 0 ||
        flake_inputs_load(&in, &f, &home, e) < 0)
        abort();
    return flake_inputs_check(&in, buf_cstr(&lock), lock.len, e);
}

static void test_sent(void)
{
    struct mvm_error e;
    ok(check_locked("{\"type\":\"path\",\"path\":\"@/b/./c\"}", &e) == 0 &&
           check_locked("{\"type\":\"path\",\"path\":\"@/d/file\"}", &e) == 0 &&
           check_locked("{\"type\":\"git\",\"url\":\"file://@/b\"}", &e) == 0 &&
           check_locked("{\"type\":\"path\",\"path\":\"./x\"}", &e) == 0 &&
           check_locked("{\"type\":\"github\",\"owner\":\"a\",\"repo\":\"b\"}", &e) == 0,
       "R3: inputs that Nix locked are taken where they were sent, are in the flake or are fetched");
    ok(check_locked("{\"type\":\"path\",\"path\":\"/etc\"}", &e) == -EXDEV && e.phase == MVM_PHASE_NIX_EVAL &&
           strstr(e.msg, "the input /etc, which was not sent") && e.hint[0],
       "R3: an input that Nix took from the builder's own root is refused");
    ok(check_locked("{\"type\":\"path\",\"path\":\"@/../in/nothing\"}", &e) == -EXDEV &&
           strstr(e.msg, "in/nothing, which does not exist"),
       "R3: an input that does not exist on the host, but in the builder, is refused");
    ok(check_locked("{\"type\":\"path\",\"path\":\"@/d/fil\"}", &e) == -EXDEV &&
           check_locked("{\"type\":\"path\",\"path\":\"@/d\"}", &e) == -EXDEV &&
           check_locked("{\"type\":\"git\",\"url\":\"file:///usr\"}", &e) == -EXDEV &&
           check_locked("{\"type\":\"tarball\",\"url\":\"file:///x.tar\"}", &e) == -EXDEV,
       "R3: what lies beside an input that was sent, repositories and archives of the builder are refused");
}

static void test_inputs(void)
{
    struct mvm_error e;
    put("in/b/c/file", "");
    put("in/d/file", "");
    sh("ln -s b/c in/l");
    ok(strcmp(inputs_of("{ inputs.a.url = \"path:@/./none/../b//c/\"; }", &e), "/b/c\n") == 0 &&
           strcmp(inputs_of("{ inputs.a.url = \"path:////..@/l/../d\"; }", &e), "/d\n") == 0,
       "N4: dots and double slashes in an input's path are what Nix takes them for");
    CLEAN_BUF struct buf deep = BUF_INIT(10000);
    for (unsigned i = 0; i < 600; i++)
        if (buf_str(&deep, "[") < 0)
            abort();
    ok(strcmp(inputs_of(buf_cstr(&deep), &e), "error") == 0 && e.phase == MVM_PHASE_NIX_EVAL && e.hint[0],
       "N4: a flake.nix that cannot be read for its inputs is an error with phase and hint");
}

/* ---- What Nix is told of a commit ---- */

/* "REV TIME COUNT" of a reference, REV "-" where there is none. */
static const char *revision(const char *text)
{
    static char out[120];
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    struct flake_tree t;
    uint64_t n = 0;
    if (flake_ref_parse(&f, text, &e) < 0 || flake_ref_check_out(&f, &home, &e) < 0 ||
        flake_tree_load(&t, &f, &home, &e) < 0)
        return e.msg[0] ? strcpy(out, "error") : "error";
    if (flake_tree_rev_count(&t, &f, &n, NULL) < 0)
        n = 99;
    snprintf(out, sizeof(out), "%s %llu %llu", t.rev[0] ? t.rev : "-", (unsigned long long)t.last_modified,
             (unsigned long long)n);
    flake_tree_done(&t);
    return out;
}

/* What git says of it. */
static const char *told(const char *root)
{
    static char out[120];
    CLEAN_BUF struct buf said = BUF_INIT(sizeof(out));
    const char *const argv[] = {"sh", "-c",
                                "cd $0; printf '%s %s %s' $(git log -1 --format='%H %ct') $(git rev-list --count HEAD)",
                                root, NULL};
    struct process_opts o = {.argv = argv, .stdin_fd = -1};
    if (process_capture(&o, &said, NULL, 0, NULL) != 0)
        abort();
    snprintf(out, sizeof(out), "%s", buf_cstr(&said));
    return out;
}

static bool changes(const char *script)
{
    sh(script);
    bool changed = strncmp(revision("c"), "- 1600000000 0", 14) == 0;
    sh("cd c; git reset -q --hard; git clean -qfd");
    return changed && strcmp(revision("c"), told("c")) == 0;
}

static void test_revisions(void)
{
    sh("git init -q c; cd c; mkdir d; touch flake.nix d/a d.b; ln -s d l; chmod +x d/a; git add .");
    ok(strcmp(revision("c"), "- 0 0") == 0, "N3: before the first commit there is no revision, and no age");
    sh("cd c; export GIT_COMMITTER_DATE='1600000000 +0200'; " GIT "commit -qm 1; echo >d.b; " GIT "commit -qam 2");
    ok(strcmp(revision("c"), told("c")) == 0, "N3: revision, age and count are those of the commit");
    sh("cd c; touch untracked; touch d.b");
    ok(strcmp(revision("c"), told("c")) == 0, "N3: files that git does not track, and new times, change nothing");
    ok(changes("echo 2 >c/d.b") && changes("echo 2 >c/d.b; git -C c add d.b") && changes("rm c/d.b") &&
           changes("git -C c rm -q --cached d.b") && changes("chmod -x c/d/a") && changes("ln -sfn e c/l") &&
           changes("rm c/l; echo d >c/l") && changes("touch c/new; git -C c add -N new"),
       "N3: where a tracked file is not as in the commit there is no revision");
    sh("cd c; git tag v1; git checkout -q v1; git gc -q; git pack-refs --all; cd ..; git clone -q c c2; cd c2; "
       "git checkout -qb feature/x; git pack-refs --all");
    ok(strcmp(revision("c"), told("c")) == 0, "N3: packed objects, and a commit checked out by its name");
    ok(strcmp(revision("c2"), told("c")) == 0, "N3: a clone is the same, on a packed branch too");
    sh("git clone -q --depth 1 file://$PWD/c c3");
    ok(strncmp(revision("c3"), told("c"), 51) == 0 && strcmp(strrchr(revision("c3"), ' '), " 0") == 0,
       "N3: the commits of a shallow clone are not counted");
    sh("cd c; a=$(" GIT "commit-tree -m m HEAD^{tree} -p HEAD -p HEAD^); git reset -q --hard $a");
    ok(strcmp(revision("c"), told("c")) == 0, "N3: a merge's commits are counted once");
    sh("rm -rf c2/.git/objects/pack");
    ok(strncmp(revision("c2"), "- 0 0", 5) == 0, "N3: where objects are missing there is no revision");
}

/* ---- A commit that is not checked out ---- */

/* The NAR digest of a reference's tree, or what is wrong with it. */
static const char *nar_of(const char *text)
{
    static char out[512];
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_TREE struct flake_tree t = {.root_fd = -1};
    struct flake_store s = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    if (flake_ref_parse(&f, text, &e) == 0 && flake_ref_check_out(&f, &home, &e) == 0 &&
        flake_tree_load(&t, &f, &home, &e) == 0 && flake_tree_store(&t, &s, &e) == 0)
        snprintf(out, sizeof(out), "%s", s.hash);
    else
        snprintf(out, sizeof(out), "%.300s (%.200s)", e.msg, e.hint);
    return out;
}

static bool same_nar(const char *text, const char *wanted)
{
    char first[512];
    snprintf(first, sizeof(first), "%s", nar_of(wanted));
    return strncmp(first, "sha256-", 7) == 0 && strcmp(nar_of(text), first) == 0;
}

static void test_commits(void)
{
    char text[64] = "k?rev=";
    sh("git init -q k; cd k; mkdir -p d/e; echo one >d/f; echo '{ }' >flake.nix; ln -s ../f d/l; touch d/e/x; "
       "chmod +x d/e/x; git add .; " GIT "commit -qm 1; " GIT "tag -a v1 -m v1; git branch side/x; cp -r . ../k1; "
       "rm -rf ../k1/.git; echo two >d/f; git rm -q d/l; " GIT "commit -qam 2; cp -r . ../k2; rm -rf ../k2/.git; "
       "echo dirty >d/f; git rm -q --cached flake.nix");
    memcpy(text + 6, told("k"), GIT_REV_SIZE - 1);
    CLEAN_FREE char *id = strdup(id_of("k?ref=v1&dir=d"));
    ok(id && strcmp(id_of(id), id) == 0 && strcmp(id_of("git+file:k?dir=d&ref=v1"), id) == 0 &&
           strcmp(id_of("k?ref=side/x&dir=d"), id) != 0 && strcmp(id_of("git+file:k?ref=v1"), id) != 0,
       "N1: a commit has an id of its own, however it is written");
    ok(same_nar("k?ref=v1", "path:k1") && same_nar("k?ref=side/x", "path:k1") &&
           same_nar("git+file:k?ref=refs/heads/side/x", "path:k1"),
       "N1: ?ref= is the tree of a tag, of a branch, of any ref, whatever is checked out");
    ok(same_nar(text, "path:k2") && same_nar("k?ref=HEAD", "path:k2"), "N1: ?rev= is that of a commit");
    ok(strcmp(revision(text), told("k")) == 0, "N3: with its revision, age and count");
    sh("cd k; git gc -q; git pack-refs --all");
    ok(same_nar("k?ref=v1", "path:k1") && same_nar(text, "path:k2"), "N1: the same of what is packed");
    ok(strstr(nar_of("git+file:k?ref=v1&dir=d"), "no flake.nix in d"), "N1: ?dir= is looked for in the commit");
    ok(strstr(nar_of("k?ref=none"), "for-each-ref"),
       "N1: a ref that is not there is an error that says how to list them");
    ok(strstr(nar_of("k?rev=0123456789012345678901234567890123456789"), "has no commit 0123"),
       "N1: so is a commit that is not there");
    sh("cd k; b=$(echo x | git hash-object -w --stdin); object() { git hash-object -t tree -w --stdin --literally; }; "
       "entry() { perl -e 'print \"$ARGV[0] $ARGV[1]\", chr 0, pack(\"H*\", $ARGV[2])' \"$@\"; }; "
       "evil=$(entry 100644 evil $b | object); up=$(printf .. | git hash-object -w --stdin); "
       "for t in $(entry 100644 ../../evil $b | object) $({ entry 120000 a $up; entry 40000 a $evil; } | object) "
       "$(entry 40000 .git $evil | object); do n=$((n + 1)); git branch bad$n $(" GIT "commit-tree -m m $t); done");
    ok(strstr(nar_of("k?ref=bad1"), "cannot be staged") && strstr(nar_of("k?ref=bad2"), "cannot be staged") &&
           strstr(nar_of("k?ref=bad3"), "cannot be staged"),
       "N1: a commit with a path that leaves the tree, or over a symlink, or below .git is refused");
    sh("test -z \"$(find . -name evil)\"; test -z \"$(ls -A cache/artifacts)\"");
    ok(true, "N1: and nothing of it is left");
}

/* ---- Submodules ---- */

static unsigned listed(const char *ref, const char *path)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    struct flake_tree t;
    unsigned n = 0;
    if (flake_ref_parse(&f, ref, NULL) < 0 || flake_tree_load(&t, &f, &home, NULL) < 0)
        return 99;
    for (size_t i = 0; i < t.n_files; i++)
        n += strcmp(t.files[i].path, path) == 0;
    flake_tree_done(&t);
    return n;
}

static void test_submodules(void)
{
    sh("git init -q m; cd m; echo 1 >in; echo 1 >out; git add in; " GIT "commit -qm 1; cd ..; "
       "git init -q super; cd super; echo '{ }' >flake.nix; git add flake.nix; "
       "git -c protocol.file.allow=always submodule --quiet add ../m sub; echo 1 >sub/untracked");
    ok(listed("super?submodules=1", "sub/in") == 1, "N2: ?submodules=1 stages what submodules track");
    ok(listed("super?submodules=1", "sub/untracked") == 0 && listed("super?submodules=1", "sub/.git") == 0,
       "N2: and nothing else of them");
    ok(listed("super", "sub/in") == 0, "N2: without it they are not staged, as in Nix");
    sh("cd super; " GIT "commit -qm 1");
    ok(strcmp(revision("super?submodules=1"), told("super")) == 0, "N3: with submodules as recorded, the revision");
    sh("echo 2 >super/sub/in");
    ok(revision("super?submodules=1")[0] == '-' && strcmp(revision("super"), told("super")) == 0,
       "N3: none where a submodule's file was changed, unless submodules are left out");
    sh("cd super/sub; " GIT "commit -qam 2");
    ok(revision("super?submodules=1")[0] == '-', "N3: nor where another commit of it is checked out");
}

/* ---- A repository of another owner ---- */

/* The error and the hint of a reference, as that user would have them; it is in a child that has given root up. */
static bool fails_for(uid_t uid, const char *ref, const char *msg, const char *hint)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        CLEAN_FLAKE_REF struct flake_ref f = {0};
        struct flake_tree t;
        struct mvm_error e = MVM_ERROR_INIT;
        bool failed = setresuid(uid, uid, uid) == 0 &&
                      (flake_ref_parse(&f, ref, &e) < 0 || flake_tree_load(&t, &f, &home, &e) < 0);
        bool good = failed && strstr(e.msg, msg) && strstr(e.hint, hint);
        if (!good)
            printf("# %s\n# %s\n", e.msg, e.hint);
        fflush(stdout);
        _exit(good ? 0 : 1);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    return status == 0;
}

static void test_other_owner(void)
{
    static const char hint[] = "belongs to another user (uid 65534), who can allow that it is read; or name the folder "
                               "without git: --flake path:";
    if (getuid() != 0) {
        ok(true, "N6: a repository of another owner # SKIP needs root");
        return;
    }
    sh("git init -q theirs; cd theirs; touch flake.nix untracked; git add flake.nix; " GIT "commit -qm 1");
    CLEAN_FREE char *own = strdup(told("theirs"));
    sh("chown -R 65534:65534 theirs");
    ok(listed("theirs", "flake.nix") == 1 && listed("theirs", "untracked") == 0 && own &&
           strcmp(revision("theirs"), own) == 0,
       "N6: a repository of another owner is read like one's own");
    sh("chmod 600 theirs/.git/index");
    ok(fails_for(65533, "theirs", "theirs: index: Permission denied", hint),
       "N6: where its index cannot be read it is said what to do");
    sh("chmod 644 theirs/.git/index; chmod 700 theirs/.git/objects");
    ok(fails_for(65533, "theirs", "Permission denied", hint), "N6: where its objects cannot be read as well");
    sh("chmod 700 theirs/.git");
    ok(fails_for(65533, "theirs", "Permission denied", hint), "N6: and where nothing of it can be read");
}

/* ---- As a store path ---- */

static void test_store(void)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_TREE struct flake_tree t = {.root_fd = -1};
    struct flake_store s = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    put("nar/flake.nix", "{ }");
    put("nar/a/x", "run");
    put("nar/a.b", "");
    sh("chmod +x nar/a/x; mkdir nar/a/empty; ln -s a/x nar/a-b");
    if (flake_ref_parse(&f, "path:nar", NULL) < 0 || flake_tree_load(&t, &f, &home, NULL) < 0)
        abort();
    /* As `nix hash path` and `nix store add-path --name source` say. */
    ok(flake_tree_store(&t, &s, NULL) == 0 &&
           strcmp(s.hash, "sha256-kQXcvhExwXKHTcK/vY5xb8I29aZ4P9CN9iyqVhHQhVs=") == 0 && s.size == 1232,
       "N8: the NAR's digest, with folders in its order, an empty one and a symlink");
    ok(strcmp(s.name, "88rv6lbvvimqz1cpfw1ms69gz9nihxw0-source") == 0, "N8: and the name that Nix gives it");
    put("nar/a/x", "ran");
    ok(flake_tree_store(&t, &s, &e) == -ESTALE && strstr(e.msg, "a/x"),
       "N8: a file that changed since it was listed is not hashed as another");
}

/* How many records it takes to send the lock file. */
static int count_record(void *data, uint8_t channel, const void *p, size_t n)
{
    ++*(unsigned *)data;
    return 0;
}

static unsigned lock_records(const char *ref)
{
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    CLEAN_FLAKE_TREE struct flake_tree t = {.root_fd = -1};
    unsigned n = 0;
    const struct registry none = {0};
    struct tree_sender s = {.emit = count_record, .data = &n, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    if (flake_ref_parse(&f, ref, NULL) < 0 || flake_tree_load(&t, &f, &home, NULL) < 0 ||
        flake_tree_send_lock(&t, "flake.lock", &none, &s, NULL) < 0)
        abort();
    tree_sender_done(&s);
    return n;
}

static void test_lock_sent(void)
{
    static const char lock[] = "{\"nodes\":{\"root\":{}},\"root\":\"root\",\"version\":7}";
    put("sent/flake.nix", "{ }");
    ok(lock_records("path:sent") == 0, "N8: without a lock file none is sent");
    put("elsewhere.lock", lock);
    sh("ln -s ../elsewhere.lock sent/flake.lock");
    ok(lock_records("path:sent") == 0, "N8: one that is a symlink is not followed out of the tree");
    sh("rm sent/flake.lock; cd sent; git init -q .; git add flake.nix");
    put("sent/flake.lock", lock);
    ok(lock_records("sent") == 0 && lock_records("path:sent") > 0, "N8: one that git does not track is not sent");
}

/* ---- Lock files ---- */

static int check_lock(const char *text, struct mvm_error *e)
{
    *e = (struct mvm_error)MVM_ERROR_INIT;
    return flake_lock_check(text, strlen(text), "/x", e);
}

static void test_locks(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FLAKE_REF struct flake_ref f = {0};
    ok(check_lock("{\"nodes\":{\"root\":{}},\"root\":\"root\",\"version\":7}", &e) == 0, "N7: a lock file");
    ok(check_lock("{\"nodes\":", &e) == -EINVAL && e.phase == MVM_PHASE_NIX_EVAL &&
           strstr(e.hint, "checkout flake.lock"),
       "N7: a corrupt lock file has phase and hint");
    ok(check_lock("", &e) == -EINVAL && check_lock("{\"nodes\":{},\"root\":\"r\",\"version\":7}", &e) == -EINVAL,
       "N7: an empty one as well, and one without its root");
    put("locked/flake.nix", "{ }");
    put("locked/flake.lock",
        "{\"version\":6,\"root\":\"root\",\"nodes\":{\"root\":{\"inputs\":{\"a\":\"a\"}},\"a\":{}}}");
    CLEAN_FLAKE_REF struct flake_ref l = {0};
    struct stat before, after;
    static const char same[] =
        "{\"nodes\":{\"a\":{},\"root\":{\"inputs\":{\"a\":\"a\"}}},\"root\":\"root\",\"version\":7}";
    ok(flake_ref_parse(&l, "locked", NULL) == 0 && stat("locked/flake.lock", &before) == 0 &&
           flake_write_lock(&l, same, strlen(same), NULL) == 0 && stat("locked/flake.lock", &after) == 0 &&
           before.st_ino == after.st_ino,
       "N7: a lock file that says the same in another order is not written");
    static const char lock[] = "{\"nodes\":{\"root\":{},\"a\":{}},\"root\":\"root\",\"version\":7}";
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(flake_write_lock(&l, "{\"nodes\":{\"a\":{},\"b\":{}}}", 25, &e) < 0 && strstr(e.msg, "no lock file") &&
           stat("locked/flake.lock", &after) == 0 && before.st_ino == after.st_ino,
       "N7: what is no lock file does not take its place, whoever sent it");
    sh("mkdir link-lock && echo '{ }' >link-lock/flake.nix && echo kept >link-lock/other && ln -s other "
       "link-lock/flake.lock");
    CLEAN_FLAKE_REF struct flake_ref k = {0};
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(flake_ref_parse(&k, "link-lock", NULL) == 0 && flake_write_lock(&k, lock, strlen(lock), &e) < 0 &&
           strstr(e.msg, "regular") && strstr(e.hint, "--no-write-lock-file") &&
           lstat("link-lock/flake.lock", &after) == 0 && S_ISLNK(after.st_mode),
       "R4: a symlink is not replaced by a lock file");
    static const char dirty[] = "{\"version\":7,\"root\":\"root\",\"nodes\":{\"root\":{\"inputs\":{\"a\":\"a\"}},"
                                "\"a\":{\"locked\":{\"dirtyRev\":\"0-dirty\",\"url\":\"file:///a\"}}}}";
    CLEAN_BUF struct buf staged = BUF_INIT(1000);
    put("dirty/flake.nix", "{ }");
    CLEAN_FLAKE_REF struct flake_ref d = {0};
    ok(flake_ref_parse(&d, "dirty", NULL) == 0 && flake_write_lock(&d, dirty, strlen(dirty), NULL) == 0 &&
           access("dirty/flake.lock", F_OK) < 0 && flake_lock_strip(dirty, strlen(dirty), &staged, NULL) == 0 &&
           !strstr(buf_cstr(&staged), "dirtyRev"),
       "N7: no lock file is written where an input is a repository with changes, and such a node is locked anew");
    put("ro/flake.nix", "{ }");
    sh("chmod 0555 ro");
    if (flake_ref_parse(&f, "ro", NULL) < 0 || (getuid() == 0 && seteuid(65534) < 0))
        abort();
    e = (struct mvm_error)MVM_ERROR_INIT;
    int r = flake_write_lock(&f, lock, strlen(lock), &e);
    if (getuid() == 0 && seteuid(0) < 0)
        abort();
    ok(r < 0 && e.phase == MVM_PHASE_NIX_EVAL && strstr(e.hint, "--no-write-lock-file"),
       "N7: a folder that cannot be written has phase and hint");
}

int main(void)
{
    const char *name = tap_open_folder();
    unsetenv("GIT_DIR");
    if (chdir(name) < 0)
        abort();
    folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FREE char *h = path_join(name, "home", NULL);
    CLEAN_FREE char *c = path_join(name, "cache", NULL);
    setenv("MVM_HOME", h ? h : "", 1);
    setenv("MVM_CACHE_DIR", c ? c : "", 1);
    if (chmod(name, 0755) < 0 || home_open(&home, NULL) < 0)
        abort();
    test_index();
    test_reader();
    test_outside();
    test_confine_reader();
    test_confined();
    test_literals();
    test_remote();
    test_references();
    test_identities();
    test_inputs();
    test_sent();
    test_revisions();
    test_commits();
    test_submodules();
    test_other_owner();
    test_store();
    test_lock_sent();
    test_locks();
    home_done(&home);
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, name);
    return tap_end();
}
