#include "base/fd.h"
#include "base/path.h"
#include "flake/flake.h"
#include "flake/literals.h"
#include "flake/lock.h"
#include "flake/nixlex.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TEXT (4u << 20)

struct finder {
    struct flake_inputs *in;
    const struct flake_ref *ref;
    struct home *home;
    struct mvm_error *err;
};

/* A folder, or some of its files. */
static int load_tree(struct finder *f, struct flake_input *input)
{
    struct flake_ref ref = {.text = input->path, .root = input->path, .subdir = strdup(""), .only = input->only};
    flake_tree_done(&input->tree);
    int r = ref.subdir ? flake_tree_load(&input->tree, &ref, f->home, f->err) : -ENOMEM;
    free(ref.subdir);
    return r;
}

static int refuse(struct finder *f, const char *path, const char *real, bool folder)
{
    mvm_error_set(f->err, -EXDEV,
                  "the flake has the input %s, outside of its tree %s: %s%s would be sent to the builder", path,
                  f->ref->root, folder ? "all that is in " : "", real);
    mvm_error_hint(f->err, "--allow-input %s allows it; for every build: allow_inputs in [flake] of config.toml", real);
    return -EXDEV;
}

/* The folder is an input already, or files of it are. name NULL: the whole folder. */
static int add_to(struct finder *f, struct flake_input *input, const char *name)
{
    char *names = NULL;
    if (!input->only)
        return 0;
    if (name && asprintf(&names, "%s\n%s", input->only, name) < 0)
        return mvm_error_errno(f->err, -ENOMEM, "flake");
    free(input->only);
    input->only = names;
    return load_tree(f, input);
}

static int add_input(struct finder *f, const char *place, bool outside, const char *name)
{
    for (size_t i = 0; i < f->in->n; i++)
        if (strcmp(f->in->v[i].path, place) == 0)
            return add_to(f, &f->in->v[i], name);
    if (f->in->n == FLAKE_MAX_INPUTS)
        return mvm_error_set(f->err, -E2BIG, "the flake has more than %d local folders as inputs", FLAKE_MAX_INPUTS);
    struct flake_input *more = reallocarray(f->in->v, f->in->n + 1, sizeof(*more));
    if (!more)
        return mvm_error_errno(f->err, -ENOMEM, "flake");
    f->in->v = more;
    struct flake_input *input = &more[f->in->n++];
    *input = (struct flake_input){
        .path = strdup(place), .only = name ? strdup(name) : NULL, .outside = outside, .tree = {.root_fd = -1}};
    if (!input->path || (name && !input->only))
        return mvm_error_errno(f->err, -ENOMEM, "flake");
    return load_tree(f, input);
}

/* As Nix takes a path: without ".", ".." and double slashes, whatever symlinks say. The caller frees. */
static char *canonical(const char *path)
{
    char *out = calloc(1, strlen(path) + 2);
    size_t n = 0;
    for (size_t part; out && *path; path += part) {
        path += strspn(path, "/");
        part = strcspn(path, "/");
        if (part == 2 && strncmp(path, "..", 2) == 0) {
            while (n && out[--n] != '/')
                ;
        } else if (part && (part != 1 || *path != '.')) {
            out[n++] = '/';
            memcpy(out + n, path, part);
            n += part;
        }
    }
    if (out && !n)
        out[n++] = '/';
    if (out)
        out[n] = '\0';
    return out;
}

/* One path that a flake names. It appears in the builder under that name, with what it leads to. */
static int found(void *data, const char *named)
{
    struct finder *f = data;
    struct stat st;
    CLEAN_FREE char *path = canonical(named);
    if (!path)
        return mvm_error_errno(f->err, -ENOMEM, "flake");
    CLEAN_FREE char *real = realpath(path, NULL);
    if (!real || stat(real, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)))
        return 0;
    bool folder = S_ISDIR(st.st_mode), outside = !path_is_below(real, f->ref->root);
    if (outside && !flake_allows(&f->ref->allow, real))
        return refuse(f, path, real, folder);
    CLEAN_FREE char *place = strdup(path);
    char *slash = place && !folder ? strrchr(place, '/') : NULL;
    if (!place || slash == place)
        return place ? 0 : mvm_error_errno(f->err, -ENOMEM, "flake");
    if (slash)
        *slash = '\0';
    return add_input(f, place, outside, slash ? slash + 1 : NULL);
}

static int scan(struct finder *f, const char *folder)
{
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_BUF struct buf flake = BUF_INIT(MAX_TEXT);
    CLEAN_BUF struct buf lock = BUF_INIT(MAX_TEXT);
    int r = 0;
    if (dir >= 0 && path_read_file(dir, "flake.nix", &flake, NULL) == 0)
        r = flake_literals(buf_cstr(&flake), found, f);
    if (r == -EOVERFLOW) {
        mvm_error_set(f->err, r, "%s/flake.nix has too many local inputs, or brackets within each other", folder);
        mvm_error_hint(f->err, "at most %d local inputs, and %d brackets that are open at once, are read",
                       FLAKE_MAX_INPUTS, NIX_MAX_DEPTH);
    }
    if (r == 0 && dir >= 0 && path_read_file(dir, "flake.lock", &lock, NULL) == 0)
        r = flake_lock_paths(buf_cstr(&lock), lock.len, found, f);
    return r;
}

/* Of the flake's own: Nix says of one that it cannot read where its parser stood. */
static int check_lock(const struct flake_ref *ref, struct mvm_error *err)
{
    CLEAN_FD int dir = open(ref->text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_BUF struct buf lock = BUF_INIT(MAX_TEXT);
    if (dir < 0 || path_read_file(dir, "flake.lock", &lock, NULL) < 0)
        return 0;
    return flake_lock_check(buf_cstr(&lock), lock.len, ref->text, err);
}

static int by_length(const void *a, const void *b)
{
    size_t x = strlen(((const struct flake_input *)a)->path), y = strlen(((const struct flake_input *)b)->path);
    return x < y ? -1 : x > y;
}

static void input_done(struct flake_input *input)
{
    flake_tree_done(&input->tree);
    free(input->path);
    free(input->only);
}

/* They are put in place in this order: folders before what is below them, which is left out where it is in them. */
static void arrange(struct flake_inputs *in)
{
    size_t n = 0;
    if (in->n)
        qsort(in->v, in->n, sizeof(*in->v), by_length);
    for (size_t i = 0; i < in->n; i++) {
        bool within = false;
        for (size_t k = 0; k < n && !within; k++)
            within = !in->v[k].only && path_is_below(in->v[i].path, in->v[k].path);
        if (within)
            input_done(&in->v[i]);
        else
            in->v[n++] = in->v[i];
    }
    in->n = n;
}

int flake_inputs_load(struct flake_inputs *in, const struct flake_ref *ref, struct home *h, struct mvm_error *err)
{
    struct finder f = {.in = in, .ref = ref, .home = h, .err = err};
    int r = check_lock(ref, err);
    if (r == 0)
        r = scan(&f, ref->text);
    for (size_t i = 0; r == 0 && i < in->n; i++) {
        if (in->v[i].only)
            continue;
        CLEAN_FREE char *path = strdup(in->v[i].path);
        r = path ? scan(&f, path) : -ENOMEM;
    }
    if (r == 0)
        arrange(in);
    else
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
    return r;
}

/* Is it what was sent, or in it? */
static bool was_sent(const struct flake_inputs *in, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    for (size_t i = 0; i < in->n; i++) {
        const struct flake_input *input = &in->v[i];
        size_t n = strlen(name), folder = strlen(input->path);
        if (!input->only && path_is_below(path, input->path))
            return true;
        if (!input->only || folder + 1 != (size_t)(name - path) || strncmp(path, input->path, folder) != 0)
            continue;
        for (const char *at = input->only; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
            if (strcspn(at, "\n") == n && strncmp(at, name, n) == 0)
                return true;
    }
    return false;
}

struct checker {
    const struct flake_inputs *in;
    struct mvm_error *err;
};

static int check_sent(void *data, const char *named)
{
    const struct checker *c = data;
    CLEAN_FREE char *path = canonical(named);
    if (!path)
        return mvm_error_errno(c->err, -ENOMEM, "flake");
    /* What a store path has is what its name says, wherever it is. */
    if (was_sent(c->in, path) || path_is_below(path, "/nix/store"))
        return 0;
    bool there = access(path, F_OK) == 0;
    mvm_error_set(c->err, -EXDEV, "the flake has the input %s, which %s: the builder took what it has itself there",
                  path, there ? "was not sent" : "does not exist");
    mvm_error_phase(c->err, MVM_PHASE_NIX_EVAL);
    mvm_error_hint(c->err, "%s",
                   there ? "only inputs that a local flake names itself are sent: name it in flake.nix"
                         : "correct the input's path, or make what it names");
    return -EXDEV;
}

int flake_inputs_check(const struct flake_inputs *in, const void *lock, size_t n, struct mvm_error *err)
{
    struct checker c = {in, err};
    return n ? flake_lock_paths(lock, n, check_sent, &c) : 0;
}

void flake_inputs_done(struct flake_inputs *in)
{
    for (size_t i = 0; i < in->n; i++)
        input_done(&in->v[i]);
    free(in->v);
    *in = (struct flake_inputs){0};
}
