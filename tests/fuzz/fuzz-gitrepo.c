/*
 * Any bytes as a file of a git repository, of which the first byte says which: the index (with a checksum that is
 * right, or not), .git, HEAD, commondir, alternates or the configuration. What is found lies within the tree, and what
 * the index lists has the form that git_list promises.
 */
#include "folder.h"

#include "flake/confine.h"
#include "flake/git.h"

#include <openssl/sha.h>
#include <string.h>
#include <sys/stat.h>

/* In place of the confined child, which costs a fork for each input: a crash here is one of the child. */
int confined_run(const struct confined_work *w, struct buf *out, struct mvm_error *err)
{
    int r = w->prepare ? w->prepare(err) : 0;
    return r < 0 ? r : w->work(w->data, out, err);
}

static void make_repository(void)
{
    static const char *const folders[] = {"tree", "tree/git", "tree/git/objects", "tree/git/objects/info",
                                          "tree/git/refs"};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        MUST(mkdir(folders[i], 0755) == 0);
    folder_put("tree/.git", "gitdir: git\n", 12);
    folder_put("tree/git/HEAD", "ref: refs/heads/main\n", 21);
}

static void put_index(const uint8_t *p, size_t n, bool signed_right)
{
    CLEAN_BUF struct buf b = BUF_INIT(1u << 20);
    uint8_t sum[SHA_DIGEST_LENGTH];
    SHA1(p, n, sum);
    MUST(buf_append(&b, n ? p : sum, n) == 0);
    if (signed_right)
        MUST(buf_append(&b, sum, sizeof(sum)) == 0);
    folder_put("tree/git/index", b.data ? b.data : sum, b.len);
}

static void check_list(const struct git_repo *g)
{
    CLEAN_BUF struct buf out = BUF_INIT(4u << 20);
    struct mvm_error err = MVM_ERROR_INIT;
    struct git_head head;
    if (git_list(g, &out, &head, &err) < 0) {
        MUST(err.msg[0]);
        return;
    }
    for (const char *at = buf_cstr(&out), *end = at + out.len; at < end; at += strlen(at) + 1) {
        size_t digits = strspn(at, "01234567");
        MUST(memchr(at, '\0', (size_t)(end - at)) && digits > 0 && at[digits] == ' ');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"tree/.git", "tree/git/commondir", "tree/git/objects/info/alternates",
                                        "tree/git/config", "tree/git/HEAD"};
    struct input in = {data, size};
    struct flake_allow allow = {0};
    CLEAN_GIT_REPO struct git_repo g = {0};
    struct mvm_error err = MVM_ERROR_INIT;
    folder_enter();
    make_repository();
    uint8_t which = input_u8(&in) % 8;
    if (which < ARRAY_SIZE(names))
        folder_put(names[which], in.at, in.left);
    else
        put_index(in.at, in.left, which != ARRAY_SIZE(names));
    int r = git_repo_open(&g, "tree", NULL, &allow, &err);
    MUST(r == 0 || err.msg[0]);
    if (r == 0) {
        MUST(path_is_below(g.git, g.root) && path_is_below(g.common, g.root));
        check_list(&g);
    }
    MUST(path_remove_tree(AT_FDCWD, "tree") == 0);
    return 0;
}
