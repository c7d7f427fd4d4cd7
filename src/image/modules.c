/* Kernel modules for an initrd: each with what its .modinfo says it depends on, dependencies first. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/kernel.h"
#include "image/unpack.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_MODULE  (32u << 20)
#define MAX_MODULES 90
#define MAX_DEPTH   16

struct picker {
    struct fstree *initrd;
    const char *dir;
    char *builtin; /* content of modules.builtin */
    char *taken[MAX_MODULES];
    unsigned n_taken;
    struct mvm_error *err;
};

/* "virtio-rng" and "virtio_rng" are one module. */
static bool same_name(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y || x == '\0')
            return false;
    }
    return true;
}

/* Is this file name NAME.ko, NAME.ko.xz, ...? */
static bool is_module(const char *file, const char *name)
{
    size_t n = strlen(name);
    return strlen(file) > n && same_name(file, name, n) && strncmp(file + n, ".ko", 3) == 0;
}

static bool is_builtin(const struct picker *p, const char *name)
{
    for (const char *line = p->builtin; line && *line;) {
        size_t n = strcspn(line, "\n");
        const char *base = memrchr(line, '/', n);
        base = base ? base + 1 : line;
        size_t len = n - (size_t)(base - line);
        if (len > 3 && len - 3 == strlen(name) && same_name(base, name, len - 3))
            return true;
        line += n + (line[n] == '\n');
    }
    return false;
}

/* Looks for the module's file below a folder: its path (the caller frees), or NULL. */
static char *find_file(const char *dir, const char *name, unsigned depth)
{
    DIR *d = depth < MAX_DEPTH ? opendir(dir) : NULL;
    if (!d)
        return NULL;
    char *found = NULL;
    for (struct dirent *e; !found && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        CLEAN_FREE char *path = path_join(dir, e->d_name, NULL);
        struct stat st;
        if (!path || lstat(path, &st) < 0)
            continue;
        if (S_ISREG(st.st_mode) && is_module(e->d_name, name))
            found = TAKE_PTR(path);
        else if (S_ISDIR(st.st_mode))
            found = find_file(path, name, depth + 1);
    }
    closedir(d);
    return found;
}

/* The "depends=" text of a module's .modinfo section, borrowed from the module; "" for none, NULL for no module. */
static const char *module_depends(const struct buf *m)
{
    const Elf64_Ehdr *h = (const void *)m->data;
    if (m->len < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
        h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff % 8 || h->e_shoff > m->len ||
        h->e_shnum > (m->len - h->e_shoff) / sizeof(Elf64_Shdr) || h->e_shstrndx >= h->e_shnum)
        return NULL;
    const Elf64_Shdr *sections = (const void *)(m->data + h->e_shoff);
    const Elf64_Shdr *names = &sections[h->e_shstrndx];
    if (names->sh_offset > m->len || names->sh_size > m->len - names->sh_offset)
        return NULL;
    for (unsigned i = 0; i < h->e_shnum; i++) {
        const Elf64_Shdr *s = &sections[i];
        static const char want[] = ".modinfo";
        if (s->sh_name >= names->sh_size || names->sh_size - s->sh_name < sizeof(want) ||
            memcmp(m->data + names->sh_offset + s->sh_name, want, sizeof(want)) != 0)
            continue;
        if (s->sh_offset > m->len || s->sh_size > m->len - s->sh_offset || s->sh_size == 0)
            return NULL;
        const char *p = (const char *)m->data + s->sh_offset, *end = p + s->sh_size;
        if (end[-1] != '\0')
            return NULL;
        for (; p < end; p += strlen(p) + 1)
            if (strncmp(p, "depends=", 8) == 0)
                return p + 8;
        return "";
    }
    return NULL;
}

static int load_module(const char *path, struct buf *out, struct mvm_error *err)
{
    CLEAN_BUF struct buf packed = BUF_INIT(MAX_MODULE);
    int r = path_read_file(AT_FDCWD, path, &packed, err);
    if (r == 0)
        r = unpack(packed.data, packed.len, out);
    return r < 0 ? mvm_error_errno(err, r, "cannot read module %s", path) : 0;
}

static int pick(struct picker *p, const char *name, unsigned depth);

static int pick_dependencies(struct picker *p, const char *depends, unsigned depth)
{
    while (*depends) {
        size_t n = strcspn(depends, ",");
        char name[128];
        if (n >= sizeof(name))
            return mvm_error_set(p->err, -EINVAL, "a module's dependency has a name of %zu bytes", n);
        memcpy(name, depends, n);
        name[n] = '\0';
        int r = n ? pick(p, name, depth + 1) : 0;
        if (r < 0)
            return r;
        depends += n + (depends[n] == ',');
    }
    return 0;
}

static int pick(struct picker *p, const char *name, unsigned depth)
{
    for (unsigned i = 0; i < p->n_taken; i++)
        if (strlen(p->taken[i]) == strlen(name) && same_name(p->taken[i], name, strlen(name)))
            return 0;
    if (depth > MAX_DEPTH || p->n_taken == MAX_MODULES)
        return mvm_error_set(p->err, -ELOOP, "modules depend on too many others");
    CLEAN_FREE char *path = find_file(p->dir, name, 0);
    if (!path)
        return is_builtin(p, name) ? 0 : mvm_error_set(p->err, -ENOENT, "the kernel has no module %s", name);
    CLEAN_BUF struct buf m = BUF_INIT(MAX_MODULE);
    int r = load_module(path, &m, p->err);
    if (r < 0)
        return r;
    const char *depends = module_depends(&m);
    if (!depends)
        return mvm_error_set(p->err, -EINVAL, "%s is no kernel module", path);
    r = pick_dependencies(p, depends, depth);
    if (r < 0)
        return r;
    char file[160];
    snprintf(file, sizeof(file), "modules/%02u-%.100s.ko", p->n_taken, name);
    p->taken[p->n_taken] = strdup(name);
    if (!p->taken[p->n_taken])
        return mvm_error_errno(p->err, -ENOMEM, "%s", name);
    p->n_taken++;
    return fstree_add_memory(p->initrd, file, 0644, m.data, m.len, p->err);
}

int kernel_add_modules(struct fstree *initrd, const char *modules_dir, const char *const *names, struct mvm_error *err)
{
    struct picker p = {.initrd = initrd, .dir = modules_dir, .err = err};
    CLEAN_FREE char *list = path_join(modules_dir, "modules.builtin", NULL);
    CLEAN_BUF struct buf builtin = BUF_INIT(1u << 20);
    if (list && path_read_file(AT_FDCWD, list, &builtin, NULL) == 0)
        p.builtin = (char *)builtin.data;
    int r = 0;
    for (size_t i = 0; r == 0 && names[i]; i++)
        r = pick(&p, names[i], 0);
    for (unsigned i = 0; i < p.n_taken; i++)
        free(p.taken[i]);
    return r;
}
