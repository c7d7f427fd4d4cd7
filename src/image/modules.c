/*
 * Kernel modules for an initrd: each with what its .modinfo says it depends on, dependencies first.
 * The packages' modules.dep is not used: depmod makes it when a package is installed, and here
 * packages are only unpacked.
 */
#include "base/buf.h"
#include "base/path.h"
#include "image/kernel.h"
#include "image/unpack.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define MAX_MODULE  (64u << 20)
#define MAX_BUILTIN (1u << 20)
#define MAX_MODULES 99 /* two digits: the initrd's /init loads in the order of names */
#define MAX_DEPTH   16
#define MAX_NAME    63

struct picker {
    struct fstree *initrd;
    struct fstree modules; /* everything below modules_dir */
    struct buf builtin;    /* content of modules.builtin */
    const struct fsnode *taken[MAX_MODULES];
    unsigned n_taken;
    unsigned number; /* of the next one in the initrd */
    struct mvm_error *err;
};

static void picker_done(struct picker *p)
{
    fstree_done(&p->modules);
    buf_done(&p->builtin);
}

/* Is this file, of len bytes, NAME.ko, perhaps compressed? "virtio-rng" and "virtio_rng" are one
 * module. */
static bool is_module(const char *file, size_t len, const char *name)
{
    static const char *const endings[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};
    size_t n = strlen(name);
    if (len < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((file[i] == '-' ? '_' : file[i]) != (name[i] == '-' ? '_' : name[i]))
            return false;
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
        if (len - n == strlen(endings[i]) && memcmp(file + n, endings[i], len - n) == 0)
            return true;
    return false;
}

static bool is_builtin(const struct picker *p, const char *name)
{
    for (const char *line = buf_cstr(&p->builtin); *line;) {
        size_t n = strcspn(line, "\n");
        const char *slash = memrchr(line, '/', n);
        const char *base = slash ? slash + 1 : line;
        if (is_module(base, n - (size_t)(base - line), name))
            return true;
        line += n + (line[n] == '\n');
    }
    return false;
}

static const struct fsnode *find_below(const struct fsnode *dir, const char *name)
{
    const struct fsnode *found = NULL;
    for (size_t i = 0; dir && !found && i < dir->n_children; i++) {
        const struct fsnode *n = dir->children[i];
        if (n->kind == FSNODE_FILE && is_module(n->name, strlen(n->name), name))
            found = n;
        else if (n->kind == FSNODE_DIR)
            found = find_below(n, name);
    }
    return found;
}

/* In depmod's order of search. */
static const struct fsnode *find_module(const struct picker *p, const char *name)
{
    const struct fsnode *n = find_below(fstree_find(&p->modules, "updates"), name);
    if (!n)
        n = find_below(fstree_find(&p->modules, "extra"), name);
    return n ? n : find_below(p->modules.root, name);
}

/* A section of an ELF file; false where it would lie outside. */
static bool section_bytes(const struct buf *m, const Elf64_Shdr *s, const char **ret)
{
    if (s->sh_type == SHT_NOBITS || s->sh_offset > m->len || s->sh_size > m->len - s->sh_offset)
        return false;
    *ret = (const char *)m->data + s->sh_offset;
    return true;
}

/* The "depends=" text of a module's .modinfo section, borrowed from the module; "" for none, NULL
 * for no module. */
static const char *module_depends(const struct buf *m)
{
    static const char want[] = ".modinfo", key[] = "depends=";
    Elf64_Ehdr h;
    if (m->len < sizeof(h))
        return NULL;
    memcpy(&h, m->data, sizeof(h));
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
        h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_type != ET_REL || h.e_shentsize != sizeof(Elf64_Shdr) ||
        h.e_shoff % _Alignof(Elf64_Shdr) || h.e_shoff > m->len ||
        h.e_shnum > (m->len - h.e_shoff) / sizeof(Elf64_Shdr) || h.e_shstrndx >= h.e_shnum)
        return NULL;
    const Elf64_Shdr *sections = (const void *)(m->data + h.e_shoff), *names = sections + h.e_shstrndx;
    const char *text, *p;
    if (!section_bytes(m, names, &text))
        return NULL;
    for (const Elf64_Shdr *s = sections; s < sections + h.e_shnum; s++) {
        if (s->sh_name >= names->sh_size || names->sh_size - s->sh_name < sizeof(want) ||
            memcmp(text + s->sh_name, want, sizeof(want)) != 0)
            continue;
        if (!section_bytes(m, s, &p) || (s->sh_size && p[s->sh_size - 1] != '\0'))
            return NULL;
        for (const char *end = p + s->sh_size; p < end; p += strlen(p) + 1)
            if (strncmp(p, key, sizeof(key) - 1) == 0)
                return p + sizeof(key) - 1;
        return "";
    }
    return NULL;
}

/*
 * Drops the signature behind a module (kernel: include/linux/module_signature.h): its length is in the last four bytes,
 * big endian, of the twelve before the mark. Distributions do not enforce it, and verifying six of them takes a guest
 * longer than the whole rest of its boot. The modules are as trusted as the kernel beside them: both are artifacts with
 * digests.
 */
static void drop_signature(struct buf *m)
{
    static const char mark[] = "~Module signature appended~\n";
    const size_t info = 12, tail = sizeof(mark) - 1 + info;
    if (m->len < tail || memcmp(m->data + m->len - sizeof(mark) + 1, mark, sizeof(mark) - 1) != 0)
        return;
    const uint8_t *p = m->data + m->len - sizeof(mark) + 1 - 4;
    uint32_t len = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    if (len <= m->len - tail)
        m->len -= tail + len;
}

static int load_module(const struct fsnode *n, struct buf *out, struct mvm_error *err)
{
    CLEAN_BUF struct buf packed = BUF_INIT(MAX_MODULE);
    int r = path_read_file(AT_FDCWD, n->source, &packed, err);
    if (r < 0)
        return r;
    r = unpack(packed.data, packed.len, out);
    drop_signature(out);
    return r < 0 ? mvm_error_errno(err, r, "cannot decompress %s", n->source) : 0;
}

static int pick(struct picker *p, const char *name, unsigned depth);

static int pick_dependencies(struct picker *p, const char *depends, unsigned depth)
{
    while (*depends) {
        size_t n = strcspn(depends, ",");
        char name[MAX_NAME + 1];
        if (n >= sizeof(name))
            return mvm_error_set(p->err, -EINVAL, "name of %zu bytes among its dependencies", n);
        memcpy(name, depends, n);
        name[n] = '\0';
        int r = n ? pick(p, name, depth + 1) : 0;
        if (r < 0)
            return r;
        depends += n + (depends[n] == ',');
    }
    return 0;
}

static int add_module(struct picker *p, const struct fsnode *n, unsigned depth)
{
    CLEAN_BUF struct buf m = BUF_INIT(MAX_MODULE);
    int r = load_module(n, &m, p->err);
    if (r < 0)
        return r;
    const char *depends = module_depends(&m);
    if (!depends)
        return mvm_error_set(p->err, -EINVAL, "%s is no kernel module", n->source);
    r = pick_dependencies(p, depends, depth);
    if (r < 0)
        return mvm_error_wrap(p->err, "%s", n->name);
    if (p->n_taken == MAX_MODULES || p->number > MAX_MODULES)
        return mvm_error_set(p->err, -E2BIG, "more than %u kernel modules", MAX_MODULES);
    p->taken[p->n_taken++] = n;
    char file[32 + MAX_NAME];
    const char *end = strstr(n->name, ".ko");
    snprintf(file, sizeof(file), "modules/%02u-%.*s.ko", p->number++,
             (int)MIN_OF((size_t)(end - n->name), (size_t)MAX_NAME), n->name);
    return fstree_add_memory(p->initrd, file, 0644, m.data, m.len, p->err);
}

static int pick(struct picker *p, const char *name, unsigned depth)
{
    if (depth > MAX_DEPTH)
        return mvm_error_set(p->err, -ELOOP, "kernel module %s: dependencies too deep", name);
    const struct fsnode *n = find_module(p, name);
    if (!n && is_builtin(p, name))
        return 0;
    if (!n)
        return mvm_error_set(p->err, -ENOENT, "the kernel has no module %s", name);
    for (unsigned i = 0; i < p->n_taken; i++)
        if (p->taken[i] == n)
            return 0;
    return add_module(p, n, depth);
}

int kernel_add_modules(struct fstree *initrd, const char *modules_dir, const char *const *names, struct mvm_error *err)
{
    CLEANUP(picker_done)
    struct picker p = {.initrd = initrd, .builtin = BUF_INIT(MAX_BUILTIN), .err = err};
    if (fstree_init(&p.modules) < 0)
        return mvm_error_errno(err, -ENOMEM, "kernel modules");
    int r = fstree_add_tree(&p.modules, "", modules_dir, NULL, NULL, err);
    if (r < 0)
        return r;
    const struct fsnode *builtin = fstree_find(&p.modules, "modules.builtin");
    if (builtin && builtin->kind == FSNODE_FILE)
        r = path_read_file(AT_FDCWD, builtin->source, &p.builtin, err);
    /* Modules that are there already keep their places. */
    const struct fsnode *there = fstree_find(initrd, "modules");
    p.number = there ? (unsigned)MIN_OF(there->n_children, (size_t)MAX_MODULES + 1) : 0;
    for (size_t i = 0; r == 0 && names[i]; i++)
        r = pick(&p, names[i], 0);
    return r;
}
