/* A repository's files as our own code reads them: objects' texts, refs, and the names that git gives to content. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "flake/blob.h"
#include "flake/gitobject.h"
#include "flake/gitref.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define A40 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B40 "0123456789abcdef0123456789abcdef01234567"

/* ---- Objects ---- */

static void test_oid(void)
{
    git_oid id;
    ok(git_oid_parse(B40, 40, &id) && id.id[0] == 0x01 && id.id[19] == 0x67,
       "an object's name is read from its digits");
    ok(!git_oid_parse(B40, 39, &id), "an object's name of 39 digits is none");
    ok(!git_oid_parse("0123456789ABCDEF0123456789abcdef01234567", 40, &id), "git writes names in small letters only");
    ok(!git_oid_parse("0123456789abcdef0123456789abcdef0123456 ", 40, &id), "a space is no digit of a name");
}

struct parents {
    unsigned n, most;
    git_oid last;
};

static bool add_parent(void *data, const git_oid *id)
{
    struct parents *p = data;
    p->last = *id;
    return ++p->n < p->most;
}

static void test_commit(void)
{
    static const char text[] = "tree " A40 "\nparent " A40 "\nparent " B40 "\nauthor A <a@b> 5 +0000\n"
                               "committer Name > <c@d> 1700000000 -0100\nencoding x\n\ntree " B40 "\n";
    git_oid tree;
    uint64_t time = 0;
    struct parents p = {.most = 10};
    ok(git_commit_parse(text, sizeof(text) - 1, &tree, &time, add_parent, &p) && tree.id[0] == 0xaa && p.n == 2 &&
           p.last.id[0] == 0x01 && time == 1700000000,
       "a commit has a tree, two parents and its committer's time; its message is not read");
    p = (struct parents){.most = 1};
    ok(!git_commit_parse(text, sizeof(text) - 1, &tree, &time, add_parent, &p) && p.n == 1,
       "a commit's reader stops where a parent is refused");
    ok(git_commit_parse(text, sizeof(text) - 1, &tree, &time, NULL, NULL), "a commit is read without its parents too");

    static const struct {
        const char *text, *what;
    } bad[] = {
        {"", "an empty commit"},
        {"\n\ntree " A40 "\n", "a commit with a tree in its message only"},
        {"tree " A40, "a commit whose line does not end"},
        {"tree 123\n", "a commit whose tree's name is short"},
        {"parent " A40 "\n", "a commit without tree"},
        {"tree\n", "a commit whose tree has no name"},
        {"tree " A40 "\ntree x\n", "a commit whose second tree is broken"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(!git_commit_parse(bad[i].text, strlen(bad[i].text), &tree, &time, NULL, NULL), "%s is refused", bad[i].what);
    time = 7;
    static const char no_time[] = "tree " A40 "\ncommitter nobody\n\n";
    ok(git_commit_parse(no_time, sizeof(no_time) - 1, &tree, &time, NULL, NULL) && time == 0,
       "a committer without address has no time");
    /* The size counts, not the text's NUL: an object is cut there. */
    ok(!git_commit_parse(text, 20, &tree, &time, NULL, NULL), "a commit is not read beyond its size");
}

#define ID20 "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24"

static void test_tree(void)
{
    static const char data[] = "100644 a b\0" ID20 "40000 dir\0" ID20 "120000 l\0" ID20;
    const char *at = data, *stop = data + sizeof(data) - 1;
    struct git_tree_entry e;
    ok(git_tree_next(&at, stop, &e) && e.mode == 0100644 && strcmp(e.name, "a b") == 0 && e.id.id[19] == 024,
       "a tree's first entry is a file with a space in its name");
    ok(git_tree_next(&at, stop, &e) && e.mode == GIT_MODE_FOLDER && strcmp(e.name, "dir") == 0, "then comes a folder");
    ok(git_tree_next(&at, stop, &e) && e.mode == GIT_MODE_LINK && at == stop, "a symlink is the last entry");
    ok(!git_tree_next(&at, stop, &e) && at == stop, "behind the last entry there is none");
    for (size_t cut = 1; cut < 30; cut++) {
        at = data;
        if (git_tree_next(&at, data + cut, &e) || at != data) {
            ok(false, "an entry cut at %zu is refused", cut);
            return;
        }
    }
    ok(true, "an entry that is cut anywhere is refused and not passed over");
    static const char no_mode[] = "x a\0" ID20, no_space[] = "100644\0" ID20;
    at = no_mode;
    ok(!git_tree_next(&at, no_mode + sizeof(no_mode) - 1, &e), "an entry without a number is refused");
    at = no_space;
    ok(!git_tree_next(&at, no_space + sizeof(no_space) - 1, &e), "an entry without a name is refused");
}

/* ---- Refs ---- */

static char *root, *git, *common;

static void put(const char *folder, const char *name, const char *text)
{
    CLEAN_FREE char *path = path_join(folder, name, NULL);
    CLEAN_FREE char *above = strdup(path);
    for (char *slash = strchr(above + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(above, 0700);
        *slash = '/';
    }
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static bool leads_to(const char *name, char digit)
{
    const struct git_repo g = {.git = git, .common = common};
    char rev[GIT_REV_SIZE], want[GIT_REV_SIZE];
    bool found = name ? git_ref_find(&g, name, rev) : git_ref_head(&g, rev);
    if (!found)
        return digit == '\0';
    memset(want, digit, sizeof(want) - 1);
    want[GIT_REV_SIZE - 1] = '\0';
    return strcmp(rev, want) == 0;
}

#define REV(d) d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d

static void test_refs(void)
{
    ok(git_is_rev(REV("f")) && git_is_rev(REV("f") "\n") && !git_is_rev("f") && !git_is_rev(""),
       "a revision has 40 digits at least");
    put(git, "HEAD", "ref: refs/heads/main\n");
    ok(leads_to(NULL, '\0'), "before its first commit a repository's HEAD leads nowhere");
    put(common, "refs/heads/main", REV("1") "\n");
    ok(leads_to(NULL, '1') && leads_to("main", '1'), "HEAD leads to its branch's commit");
    put(git, "HEAD", REV("2") "\n");
    ok(leads_to(NULL, '2') && leads_to("HEAD", '2'), "a detached HEAD leads to a commit");
    put(common, "refs/tags/main", REV("3"));
    ok(leads_to("main", '3') && leads_to("heads/main", '1') && leads_to("refs/heads/main", '1'),
       "of a tag and a branch of one name the tag is meant, as git has it");
    put(common, "refs/remotes/origin/HEAD", "ref: refs/remotes/origin/dev\r\n");
    put(common, "refs/remotes/origin/dev", REV("4"));
    ok(leads_to("origin", '4') && leads_to("origin/dev", '4'), "a remote's name leads to its HEAD");
    put(git, "refs/heads/main", REV("5"));
    ok(leads_to("heads/main", '5'), "a further work tree's own ref comes before that of the repository");
}

static void test_packed_refs(void)
{
    put(common, "packed-refs",
        "# pack-refs with: peeled fully-peeled sorted\n" REV("6") " refs/heads/old\n" REV(
            "7") " refs/heads/older\n" REV("8") " refs/tags/v1\n^" REV("9") "\n" REV("a") " refs/heads/main\nshort "
                                                                                          "refs/heads/x");
    ok(leads_to("old", '6') && leads_to("older", '7'), "a packed ref is found by its whole name");
    ok(leads_to("v1", '8'), "a packed tag leads to what it names; what lies behind it is another line");
    ok(leads_to("heads/main", '5'), "a ref's own file comes before the packed one");
    ok(leads_to("x", '\0') && leads_to("ol", '\0') && leads_to("lder", '\0'), "a part of a packed name is no ref");
}

static void test_hostile_refs(void)
{
    static const char secret[] = REV("e");
    put(root, "secret", secret);
    ok(leads_to("../secret", '\0') && leads_to("a/../../secret", '\0') && leads_to("/etc/passwd", '\0'),
       "a ref's name does not lead out of the repository");
    put(common, "refs/heads/out", "ref: refs/../../secret\n");
    ok(leads_to("out", '\0'), "a ref that names a path outside leads nowhere");
    put(common, "refs/heads/config", "ref: config\n");
    put(common, "config", secret);
    ok(leads_to("heads/config", '\0'), "a ref that names a file which is no ref leads nowhere");
    put(common, "refs/heads/loop", "ref: refs/heads/pool");
    put(common, "refs/heads/pool", "ref: refs/heads/loop");
    ok(leads_to("loop", '\0'), "refs that name each other lead nowhere");
    put(common, "refs/heads/words", "not a revision at all, however long these words may be\n");
    ok(leads_to("words", '\0'), "a ref with other words leads nowhere");
    put(common, "refs/heads/empty", "");
    ok(leads_to("empty", '\0'), "an empty ref leads nowhere");
    CLEAN_FREE char *fifo = path_join(common, "refs/heads/fifo", NULL);
    ok(mkfifo(fifo, 0600) == 0 && leads_to("fifo", '\0'), "a ref that is a fifo holds no reader up");
    ok(leads_to("", '\0') && leads_to("refs", '\0'), "a folder is no ref");
    char longest[5000];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    ok(leads_to(longest, '\0'), "a name longer than any path is no ref");
}

/* ---- The library ---- */

static void test_library(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    const struct libgit2 *lib = libgit2_load(&e);
    ok(lib && lib == libgit2_load(&e), "libgit2 is loaded once");
    const struct git_repo none = {.git = git, .common = root};
    struct git_store s;
    const git_oid id = {{1}};
    ok(!lib || !git_store_open(&s, &none, lib) || !git_store_read(&s, &id, GIT_OBJECT_COMMIT),
       "a folder without objects has no commit");
    git_store_done(&s);
}

/* ---- Content ---- */

static void test_blob(void)
{
    char id[GIT_REV_SIZE], sha[SHA256_HEX_SIZE];
    blob_id("", id);
    ok(strcmp(id, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391") == 0, "the empty text has the name that git gives it");
    blob_id("hello\n", id);
    ok(strcmp(id, "ce013625030ba8dba906f756967f9e9ca394464a") == 0, "a text has the name that git gives it");
    put(root, "blob", "hello\n");
    CLEAN_FREE char *path = path_join(root, "blob", NULL);
    CLEAN_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    ok(blob_digest_fd(fd, 6, sha, id) == 0 && strcmp(id, "ce013625030ba8dba906f756967f9e9ca394464a") == 0 &&
           strcmp(sha, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03") == 0,
       "a file has both digests");
    ok(blob_digest_fd(fd, 5, sha, id) == -ESTALE && blob_digest_fd(fd, 7, sha, id) == -ESTALE,
       "a file that grew or shrank meanwhile is stale");
    ok(blob_digest_fd(-1, 6, sha, id) == -EBADF, "a file that cannot be read says so");
    /* More than the reader takes at once, with a last piece that is short. */
    if (ftruncate(fd, 600001) < 0)
        abort();
    ok(blob_digest_fd(fd, 600001, sha, id) == 0 && lseek(fd, 0, SEEK_CUR) == 0,
       "a file of several pieces is read, and its offset stays");
}

int main(void)
{
    root = strdup(tap_folder());
    git = path_join(root, "tree/.git", NULL);
    common = path_join(root, "common", NULL);
    test_oid();
    test_commit();
    test_tree();
    test_refs();
    test_packed_refs();
    test_hostile_refs();
    test_library();
    test_blob();
    (void)!path_remove_tree(AT_FDCWD, root);
    free(root);
    free(git);
    free(common);
    return tap_end();
}
