#include "base/fd.h"
#include "base/path.h"
#include "flake/flake.h"
#include "flake/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_TEXT (4u << 20)

struct finder {
    struct flake_inputs *in;
    const char *root; /* what lies in the flake's own tree is staged with it */
    struct home *home;
    struct mvm_error *err;
};

static bool is_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int load_tree(struct finder *f, struct flake_input *input)
{
    struct flake_ref ref = {.text = input->path, .root = input->path, .subdir = strdup("")};
    int r = ref.subdir ? flake_tree_load(&input->tree, &ref, f->home, f->err) : -ENOMEM;
    free(ref.subdir);
    return r;
}

/* One path that a flake names. */
static int found(void *data, const char *path)
{
    struct finder *f = data;
    struct stat st;
    CLEAN_FREE char *real = realpath(path, NULL);
    /* Nix is given the path as it is written; through a symlink it would find the symlink. */
    if (!real || strcmp(real, path) != 0 || stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || is_below(path, f->root))
        return 0;
    for (size_t i = 0; i < f->in->n; i++)
        if (strcmp(f->in->v[i].path, path) == 0)
            return 0;
    if (f->in->n == FLAKE_MAX_INPUTS)
        return mvm_error_set(f->err, -E2BIG, "the flake has more than %d local folders as inputs", FLAKE_MAX_INPUTS);
    struct flake_input *more = reallocarray(f->in->v, f->in->n + 1, sizeof(*more));
    if (!more)
        return mvm_error_errno(f->err, -ENOMEM, "flake");
    f->in->v = more;
    struct flake_input *input = &more[f->in->n];
    *input = (struct flake_input){.path = TAKE_PTR(real), .tree = {.root_fd = -1}};
    f->in->n++;
    return load_tree(f, input);
}

/* Input URLs are literals in flake.nix, so that they can be found without evaluating it: "path:/...". */
static int scan_flake(struct finder *f, const char *text)
{
    static const char mark[] = "\"path:/";
    int r = 0;
    while (r == 0 && (text = strstr(text, mark))) {
        text += sizeof(mark) - 2;
        CLEAN_FREE char *path = strndup(text, strcspn(text, "\"?#\n"));
        if (!path)
            return mvm_error_errno(f->err, -ENOMEM, "flake");
        for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
            path[n - 1] = '\0';
        r = found(f, path);
    }
    return r;
}

static int scan(struct finder *f, const char *folder)
{
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_BUF struct buf flake = BUF_INIT(MAX_TEXT);
    CLEAN_BUF struct buf lock = BUF_INIT(MAX_TEXT);
    int r = 0;
    if (dir >= 0 && path_read_file(dir, "flake.nix", &flake, NULL) == 0)
        r = scan_flake(f, buf_cstr(&flake));
    if (r == 0 && dir >= 0 && path_read_file(dir, "flake.lock", &lock, NULL) == 0)
        r = flake_lock_paths(buf_cstr(&lock), lock.len, found, f);
    return r;
}

int flake_inputs_load(struct flake_inputs *in, const struct flake_ref *ref, struct home *h, struct mvm_error *err)
{
    struct finder f = {.in = in, .root = ref->root, .home = h, .err = err};
    int r = scan(&f, ref->text);
    for (size_t i = 0; r == 0 && i < in->n; i++) {
        CLEAN_FREE char *path = strdup(in->v[i].path);
        r = path ? scan(&f, path) : -ENOMEM;
    }
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
    return r;
}

void flake_inputs_done(struct flake_inputs *in)
{
    for (size_t i = 0; i < in->n; i++) {
        flake_tree_done(&in->v[i].tree);
        free(in->v[i].path);
    }
    free(in->v);
    *in = (struct flake_inputs){0};
}
