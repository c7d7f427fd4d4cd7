#include "host/install_paths.h"
#include "base/path.h"
#include "host/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the files are, relative to the program's folder. */
static const struct layout {
    const char *mvm_init, *mkrootfs, *nixdb, *nix;
    bool checkout;
} layouts[] = {
    {"mvm-init", "src/image/mvm-mkrootfs", "src/image/mvm-nixdb", "nix-source",
     true}, /* nix-source: a link that meson makes */
    {"../libexec/mvm/mvm-init", "../libexec/mvm/mvm-mkrootfs", "../libexec/mvm/mvm-nixdb", "../share/mvm/nix", false},
};

static int try_layout(struct install_paths *i, const char *dir, const struct layout *l)
{
    CLEAN_FREE char *init = path_join(dir, l->mvm_init, NULL);
    CLEAN_FREE char *mkrootfs = path_join(dir, l->mkrootfs, NULL);
    CLEAN_FREE char *nixdb = path_join(dir, l->nixdb, NULL);
    CLEAN_FREE char *nix = path_join(dir, l->nix, NULL);
    CLEAN_FREE char *flake = nix ? path_join(nix, "flake.nix", NULL) : NULL;
    if (!init || !mkrootfs || !nixdb || !flake)
        return -ENOMEM;
    if (access(init, R_OK) < 0 || access(mkrootfs, R_OK) < 0 || access(nixdb, R_OK) < 0 || access(flake, R_OK) < 0)
        return -ENOENT;
    i->mvm_init = TAKE_PTR(init);
    i->mkrootfs = TAKE_PTR(mkrootfs);
    i->nixdb = TAKE_PTR(nixdb);
    i->nix = realpath(nix, NULL);
    i->checkout = l->checkout;
    return i->nix ? 0 : -errno;
}

int install_paths_find(struct install_paths *i, struct mvm_error *err)
{
    char exe[4096];
    int r = os_self_path(exe, sizeof(exe));
    if (r < 0)
        return mvm_error_errno(err, r, "cannot find this program");
    *strrchr(exe, '/') = '\0';
    r = -ENOENT;
    for (size_t k = 0; r == -ENOENT && k < ARRAY_SIZE(layouts); k++)
        r = try_layout(i, exe, &layouts[k]);
    if (r < 0) {
        install_paths_done(i);
        mvm_error_errno(err, r,
                        "mvmctl's own files (mvm-init, mvm-mkrootfs, mvm-nixdb, the nix library) are not beside it");
        mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
        mvm_error_hint(err, "run mvmctl from its build folder, or install it with meson install");
    }
    return r;
}

char *install_paths_examples(const struct install_paths *i)
{
    /* PREFIX/share/mvm/nix has PREFIX/share/mvm/examples beside it, CHECKOUT/nix has CHECKOUT/examples. */
    CLEAN_FREE char *nix = realpath(i->nix, NULL);
    const char *name = nix ? strrchr(nix, '/') : NULL;
    char *path = NULL;
    if (!name || asprintf(&path, "%.*s/examples", (int)(name - nix), nix) < 0)
        return NULL;
    if (access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}

void install_paths_done(struct install_paths *i)
{
    free(i->mvm_init);
    free(i->mkrootfs);
    free(i->nixdb);
    free(i->nix);
    *i = (struct install_paths){0};
}
