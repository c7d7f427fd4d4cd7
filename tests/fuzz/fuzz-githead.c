/*
 * A git repository whose objects are any bytes: steps make objects (blobs, trees, commits), in which a byte of 1 or 2
 * stands for the name of an earlier one, and entries of the index. HEAD is the last object. Reading it ends, and says
 * of the head no more than there is; checked out, it leaves nothing outside of its folder.
 */
#include "folder.h"

#include "flake/confine.h"
#include "flake/git.h"

#include <openssl/sha.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define MAX_OBJECTS 40
#define MAX_CONTENT 4096

struct repository {
    uint8_t ids[MAX_OBJECTS][SHA_DIGEST_LENGTH];
    size_t n;
    struct buf index;
    uint32_t n_entries;
};

/* As in fuzz-gitrepo.c. */
int confined_run(const struct confined_work *w, struct buf *out, struct mvm_error *err)
{
    int r = w->prepare ? w->prepare(err) : 0;
    return r < 0 ? r : w->work(w->data, out, err);
}

/* The content with names put in: 1 and a number the bytes, 2 and a number the digits. */
static void expand(const struct repository *r, const uint8_t *p, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        char hex[GIT_REV_SIZE];
        bool name = p[i] >= 1 && p[i] <= 2 && i + 1 < n && r->n;
        if (!name) {
            MUST(buf_append(out, p + i, 1) == 0);
            continue;
        }
        const uint8_t *id = r->ids[p[i + 1] % r->n];
        git_oid_hex(id, hex);
        MUST((p[i] == 1 ? buf_append(out, id, SHA_DIGEST_LENGTH) : buf_str(out, hex)) == 0);
        i++;
    }
}

static void add_object(struct repository *r, const char *type, const uint8_t *p, size_t n)
{
    CLEAN_BUF struct buf content = BUF_INIT(1u << 20);
    CLEAN_BUF struct buf object = BUF_INIT(2u << 20);
    char hex[GIT_REV_SIZE], path[128];
    static uint8_t packed[1u << 18];
    uLongf size = sizeof(packed);
    if (r->n == MAX_OBJECTS)
        return;
    expand(r, p, n, &content);
    MUST(buf_printf(&object, "%s %zu", type, content.len) == 0 && buf_append(&object, "", 1) == 0);
    if (content.len)
        MUST(buf_append(&object, content.data, content.len) == 0);
    SHA1(object.data, object.len, r->ids[r->n]);
    git_oid_hex(r->ids[r->n], hex);
    MUST(compress2(packed, &size, object.data, object.len, 1) == Z_OK);
    snprintf(path, sizeof(path), "tree/git/objects/%.2s", hex);
    (void)!mkdir(path, 0755);
    snprintf(path, sizeof(path), "tree/git/objects/%.2s/%s", hex, hex + 2);
    folder_put(path, packed, size);
    r->n++;
}

static void add_entry(struct repository *r, unsigned object, const uint8_t *path, size_t n)
{
    static const uint8_t stat[40] = {[26] = 0x81, [27] = 0xa4}, zeros[8];
    const uint8_t flags[2] = {0, (uint8_t)n};
    MUST(buf_append(&r->index, stat, sizeof(stat)) == 0);
    MUST(buf_append(&r->index, r->ids[r->n ? object % r->n : 0], SHA_DIGEST_LENGTH) == 0);
    MUST(buf_append(&r->index, flags, sizeof(flags)) == 0);
    if (n)
        MUST(buf_append(&r->index, path, n) == 0);
    MUST(buf_append(&r->index, zeros, 8 - (62 + n) % 8) == 0);
    r->n_entries++;
}

static void put_index(const struct repository *r)
{
    CLEAN_BUF struct buf b = BUF_INIT(2u << 20);
    uint8_t sum[SHA_DIGEST_LENGTH], count[4] = {0, 0, (uint8_t)(r->n_entries >> 8), (uint8_t)r->n_entries};
    MUST(buf_append(&b, "DIRC\0\0\0\2", 8) == 0 && buf_append(&b, count, sizeof(count)) == 0);
    if (r->index.len)
        MUST(buf_append(&b, r->index.data, r->index.len) == 0);
    SHA1(b.data, b.len, sum);
    MUST(buf_append(&b, sum, sizeof(sum)) == 0);
    folder_put("tree/git/index", b.data, b.len);
}

static void make_repository(struct repository *r, struct input *in)
{
    static const char *const types[] = {"blob", "tree", "commit"};
    while (in->left) {
        uint8_t op = input_u8(in), which = input_u8(in);
        size_t n;
        const uint8_t *p = input_bytes(in, op % 4 == 3 ? op / 4 : which, &n);
        if (op % 4 == 3)
            add_entry(r, which, p, n);
        else
            add_object(r, types[op % 4], p, n);
    }
    char hex[GIT_REV_SIZE] = "";
    if (r->n)
        git_oid_hex(r->ids[r->n - 1], hex);
    folder_put("tree/git/HEAD", hex, strlen(hex));
    put_index(r);
}

static void check_head(const struct repository *r, const struct git_repo *g)
{
    CLEAN_BUF struct buf out = BUF_INIT(4u << 20);
    struct git_head head;
    uint64_t commits;
    if (git_list(g, &out, &head, NULL) < 0)
        return;
    MUST(head.clean <= 1 && strspn(head.rev, "0123456789abcdef") == strlen(head.rev));
    MUST(git_count(g, head.rev, &commits, NULL) == 0 && commits <= r->n);
}

static void check_out(const struct git_repo *g)
{
    struct mvm_error err = MVM_ERROR_INIT;
    struct git_head head;
    MUST(mkdir("around", 0755) == 0 && mkdir("around/out", 0755) == 0);
    CLEAN_FD int out = open("around/out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = git_check_out(g, "HEAD", NULL, out, &head, &err);
    MUST(r < 0 || strspn(head.rev, "0123456789abcdef") == GIT_REV_SIZE - 1);
    MUST(path_remove_tree(AT_FDCWD, "around/out") == 0 && rmdir("around") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const folders[] = {"tree", "tree/git", "tree/git/objects", "tree/git/refs"};
    static struct repository r;
    struct input in = {data, size};
    struct flake_allow allow = {0};
    CLEAN_GIT_REPO struct git_repo g = {0};
    if (size > MAX_CONTENT)
        return 0;
    folder_enter();
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        MUST(mkdir(folders[i], 0755) == 0);
    folder_put("tree/.git", "gitdir: git\n", 12);
    r = (struct repository){.index = BUF_INIT(1u << 20)};
    make_repository(&r, &in);
    MUST(git_repo_open(&g, "tree", NULL, &allow, NULL) == 0);
    check_head(&r, &g);
    check_out(&g);
    buf_done(&r.index);
    MUST(path_remove_tree(AT_FDCWD, "tree") == 0);
    return 0;
}
