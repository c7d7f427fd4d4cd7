/*
 * Any text as a description for mvm-mkrootfs, and the file system made of it: what the tree holds is what is read back.
 * The sources are those of a folder made here; lines that would read another are left out.
 */
#include "folder.h"

#include "image/spec.h"

#include <string.h>
#include <sys/stat.h>

#define MAX_SIZE  (256u << 10)
#define MAX_NODES 300u
#define PACKAGE   "/nix/store/00000000000000000000000000000000-hello"

static void put(const char *name, const char *text)
{
    folder_put(name, text, strlen(text));
}

static void prepare(void)
{
    folder_enter();
    static const char *const folders[] = {"d", "d/e", "store", "store/00000000000000000000000000000000-hello",
                                          "store/00000000000000000000000000000000-hello/bin"};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        MUST(mkdir(folders[i], 0755) == 0);
    put("d/f", "content");
    put("d/e/x", "more");
    put("t", "a @nar:/a@ b @sha256:/a/b@ c");
    put("graph", PACKAGE "\n\n0\n");
    put("store/00000000000000000000000000000000-hello/bin/hello", "program");
    MUST(symlink("f", "d/l") == 0 && link("d/f", "d/h") == 0);
}

/* Does the line read nothing but what prepare() made? */
static bool is_harmless(const char *line)
{
    static const char *const readers[] = {"file ", "tree ", "concat ", "subst ", "bin "};
    if (strncmp(line, "store ", 6) == 0)
        return strcmp(line + 6, "graph") == 0;
    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        if (strncmp(line, readers[i], strlen(readers[i])) == 0) {
            const char *source = strstr(line, " @s@");
            return source && !strchr(line, '%') && !strstr(source, "..") && !strchr(source + 1, ' ') &&
                   (source[4] == '/' || !source[4]);
        }
    return true;
}

static char *harmless_lines(const uint8_t *data, size_t size)
{
    CLEAN_BUF struct buf out = BUF_INIT(SPEC_MAX);
    CLEAN_FREE char *text = strndup((const char *)data, size);
    char *rest = text, *line;
    MUST(text);
    while ((line = strsep(&rest, "\n")))
        if (is_harmless(line))
            MUST(buf_printf(&out, "%s\n", line) == 0);
    return strdup(buf_cstr(&out));
}

static uint64_t total;
static size_t nodes;

static void count(const struct fsnode *n)
{
    nodes++;
    total += n->size;
    for (size_t i = 0; i < n->n_children; i++) {
        MUST(n->kind == FSNODE_DIR && strlen(n->children[i]->name) <= 255);
        MUST(i == 0 || strcmp(n->children[i - 1]->name, n->children[i]->name) < 0);
        count(n->children[i]);
    }
}

/* Each file of the tree is in the image with its content. */
static void check_image(const char *image, const struct fsnode *n, const char *path)
{
    CLEAN_BUF struct buf content = BUF_INIT(MAX_SIZE + 1);
    if (n->kind == FSNODE_FILE) {
        MUST(ext4_read(image, path, &content, NULL) == 0 && content.len == n->size);
        MUST(!n->memory || n->size == 0 || memcmp(content.data, n->memory, content.len) == 0);
    } else if (n->kind == FSNODE_DIR) {
        MUST(ext4_has(image, path, NULL) == 1);
    }
    for (size_t i = 0; i < n->n_children; i++) {
        CLEAN_FREE char *child = path_join(path, n->children[i]->name, NULL);
        MUST(child);
        check_image(image, n->children[i], child);
    }
}

static void make_image(struct spec *s)
{
    CLEAN_FD int fd = open("image", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    struct mvm_error err = MVM_ERROR_INIT;
    int r = ext4_write(fd, &s->tree, &s->opts, &err);
    if (r < 0)
        fprintf(stderr, "%s\n", err.msg);
    MUST(r == 0);
    check_image("image", s->tree.root, "/");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEAN_SPEC struct spec s = {0};
    struct mvm_error err = MVM_ERROR_INIT;
    if (!folder[0])
        prepare();
    CLEAN_FREE char *text = harmless_lines(data, size);
    MUST(text && spec_init(&s, "store") == 0 && spec_set(&s, "s", ".") == 0);
    if (spec_parse(&s, text, strlen(text), &err) < 0)
        MUST(strncmp(err.msg, "line ", 5) == 0);
    nodes = 0;
    total = 0;
    count(s.tree.root);
    MUST(nodes == s.tree.n_nodes && total == s.tree.total_bytes);
    if (!err.code && total <= MAX_SIZE && nodes <= MAX_NODES && s.opts.spare <= MAX_SIZE)
        make_image(&s);
    return 0;
}
