#include "bench/subject.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/config.h"
#include "host/suggest.h"
#include "host/toml.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_MEMORY_MIB 256
#define MAX_CMDLINE        2048

/* ---- Reading ---- */

/* The file's texts; borrowed from the TOML tree. */
struct texts {
    const char *name, *flake, *kernel, *rootfs, *initrd, *cmdline, *backend, *memory, *mode;
    int64_t cpus;
};

static int read_value(const struct toml_value *v, struct texts *t, struct mvm_error *err)
{
    const struct {
        const char *key;
        const char **text;
    } keys[] = {
        {"name", &t->name},     {"flake", &t->flake},     {"kernel", &t->kernel},
        {"rootfs", &t->rootfs}, {"initrd", &t->initrd},   {"cmdline", &t->cmdline},
        {"mode", &t->mode},     {"backend", &t->backend}, {"memory", &t->memory},
    };
    const char *names[ARRAY_SIZE(keys) + 1];
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        names[i] = keys[i].key;
        if (strcmp(v->key, keys[i].key) != 0)
            continue;
        if (v->type != TOML_STRING || !v->string.len || strlen(v->string.text) != v->string.len)
            return mvm_error_set(err, -EINVAL, "line %u: %s: a text is wanted", v->line, v->key);
        *keys[i].text = v->string.text;
        return 0;
    }
    names[ARRAY_SIZE(keys)] = "cpus";
    if (strcmp(v->key, "cpus") != 0) {
        const char *near = suggest_word(v->key, names, ARRAY_SIZE(names));
        mvm_error_set(err, -EINVAL, "line %u: there is no key '%.60s'", v->line, v->key);
        mvm_error_hint(err, near ? "did you mean %s?" : "the manual lists the keys at bench boot%.0s", near);
        return -EINVAL;
    }
    if (v->type != TOML_INTEGER || v->integer < 1 || v->integer > 64)
        return mvm_error_set(err, -EINVAL, "line %u: cpus: a number from 1 to 64 is wanted", v->line);
    t->cpus = v->integer;
    return 0;
}

static int check(const struct texts *t, struct mvm_error *err)
{
    const struct vmm_ops *backend;
    if (t->flake && (t->kernel || t->rootfs || t->initrd || t->cmdline))
        return mvm_error_set(err, -EINVAL, "it names a flake and files of an image");
    if (!t->flake && (!t->kernel || !t->rootfs))
        return mvm_error_set(err, -EINVAL, "it names neither a flake nor kernel and rootfs");
    if (t->mode && vm_start_parse(t->mode) == VM_STARTS)
        return mvm_error_set(err, -EINVAL, "mode '%.60s' is neither warm nor cold", t->mode);
    if (t->cmdline && (strlen(t->cmdline) > MAX_CMDLINE || strpbrk(t->cmdline, "\n\r")))
        return mvm_error_set(err, -EINVAL, "cmdline is not one line of at most %d bytes", MAX_CMDLINE);
    return vmm_find(t->backend, &backend, err);
}

static int take_settings(struct subject *s, const struct texts *t, struct mvm_error *err)
{
    uint64_t bytes = 0;
    if (t->name)
        snprintf(s->name, sizeof(s->name), "%s", t->name);
    s->has_mode = t->mode;
    s->cold = t->mode && vm_start_parse(t->mode) == VM_START_COLD;
    s->vcpus = (unsigned)t->cpus;
    s->hypervisor = t->backend ? strdup(t->backend) : NULL;
    if (t->backend && !s->hypervisor)
        return mvm_error_errno(err, -ENOMEM, "config");
    if (t->memory && (config_parse_size(t->memory, &bytes) < 0 || bytes < 64u << 20))
        return mvm_error_set(err, -EINVAL, "memory '%.60s' is no size of 64M or more", t->memory);
    s->memory_mib = bytes >> 20;
    return 0;
}

/* ---- The image ---- */

/* A link to the file, which must be a plain one. */
static int link_file(int stage, enum artifact a, int base, const char *file, struct mvm_error *err)
{
    char path[4096], link[64];
    CLEAN_FD int fd = openat(base, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "%.500s", file);
    if (!S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "%.500s is no plain file", file);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return mvm_error_errno(err, -errno, "%.500s", file);
    path[n] = '\0';
    return symlinkat(path, stage, artifact_name(a)) < 0 ? mvm_error_errno(err, -errno, "cannot make a link") : 0;
}

/* Stages are swept when whoever made them is gone, however that went. */
static int open_files(struct subject *s, struct home *h, const struct texts *t, int base, struct mvm_error *err)
{
    int r = artifact_stage_open(&s->stage, h, err);
    if (r < 0)
        return r;
    r = link_file(s->stage.fd, ARTIFACT_VMLINUX, base, t->kernel, err);
    if (r == 0)
        r = link_file(s->stage.fd, ARTIFACT_ROOTFS, base, t->rootfs, err);
    if (r == 0 && t->initrd)
        r = link_file(s->stage.fd, ARTIFACT_INITRD, base, t->initrd, err);
    if (r == 0 && t->cmdline)
        r = path_write_file(s->stage.fd, artifact_name(ARTIFACT_CMDLINE), t->cmdline, strlen(t->cmdline), 0400, false,
                            err);
    s->image.path = r == 0 ? path_join(h->cache, "artifacts", s->stage.name, NULL) : NULL;
    return r == 0 && !s->image.path ? mvm_error_errno(err, -ENOMEM, "config") : r;
}

/* A reference names its side, but "." and ".." say nothing to who reads a report later: then the image's name does, or
 * the folder's. */
static void name_side(struct subject *s, const char *ref)
{
    size_t n = strcspn(ref, "#?");
    CLEAN_FREE char *folder = strndup(ref, n);
    CLEAN_FREE char *path = folder && strspn(folder, "./") == n ? realpath(n ? folder : ".", NULL) : NULL;
    const char *image = s->image.metadata.name;
    if (path)
        snprintf(s->name, sizeof(s->name), "%.40s%.20s", image[0] ? image : basename(path), ref + n);
    else
        snprintf(s->name, sizeof(s->name), "%s", ref);
}

int subject_of_flake(struct subject *s, const struct build_opts *o, struct home *h, struct mvm_error *err)
{
    s->flake = strdup(o->ref);
    if (!s->flake)
        return mvm_error_errno(err, -ENOMEM, "flake");
    int r = build_find_last(o, h, &s->image, err);
    if (!s->name[0])
        name_side(s, o->ref);
    return r;
}

/* A flake's folder is relative to the configuration's, as files are; other references stay what they are. */
static int open_flake(struct subject *s, struct home *h, const char *ref, int base, struct mvm_error *err)
{
    char link[64], folder[4096] = "";
    CLEAN_FREE char *path = NULL;
    if (ref[0] != '/' && !strchr(ref, ':')) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", base);
        if (readlink(link, folder, sizeof(folder) - 1) < 0 || !(path = path_join(folder, ref, NULL)))
            return mvm_error_errno(err, -errno, "flake");
    }
    const struct build_opts o = {.ref = path ? path : ref};
    return subject_of_flake(s, &o, h, err);
}

int subject_parse(struct subject *s, struct home *h, const char *text, size_t len, int base, struct mvm_error *err)
{
    CLEAN_TOML struct toml_value *root = NULL;
    struct texts t = {0};
    int r = toml_parse(text, len, &root, err);
    for (const struct toml_value *v = r == 0 ? root->list.first : NULL; r == 0 && v; v = v->next)
        r = read_value(v, &t, err);
    if (r == 0)
        r = check(&t, err);
    if (r == 0)
        r = take_settings(s, &t, err);
    if (r < 0)
        return r;
    return t.flake ? open_flake(s, h, t.flake, base, err) : open_files(s, h, &t, base, err);
}

int subject_load(struct subject *s, struct home *h, const char *file, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(TOML_MAX_SIZE);
    CLEAN_FREE char *copy = strdup(file);
    CLEAN_FREE char *copy2 = strdup(file);
    if (!copy || !copy2)
        return mvm_error_errno(err, -ENOMEM, "config");
    const char *name = basename(copy2);
    snprintf(s->name, sizeof(s->name), "%.*s", (int)(strcspn(name, ".") ? strcspn(name, ".") : strlen(name)), name);
    CLEAN_FD int base = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = base < 0 ? mvm_error_errno(err, -errno, "the folder of it cannot be opened")
                     : path_read_file(AT_FDCWD, file, &text, err);
    if (r == 0)
        r = subject_parse(s, h, buf_cstr(&text), text.len, base, err);
    if (r < 0 && err && err->phase == MVM_PHASE_NONE) {
        mvm_error_wrap(err, "%.500s", file);
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        mvm_error_hint(err, "mvmctl bench boot --help shows what such a file may have");
    }
    return r;
}

void subject_done(struct subject *s)
{
    artifact_image_done(&s->image);
    artifact_stage_done(&s->stage);
    free(s->flake);
    free(s->hypervisor);
    s->flake = s->hypervisor = NULL;
}

struct machine_config subject_config(const struct subject *s)
{
    const struct image_metadata *m = &s->image.metadata;
    return (struct machine_config){
        .role = VM_ROLE_RUNTIME,
        .image = s->image.path,
        .image_digest = s->image.digest,
        .hypervisor = s->hypervisor,
        .hostname = "bench",
        .memory_mib = s->memory_mib   ? s->memory_mib
                      : m->memory_mib ? m->memory_mib
                                      : DEFAULT_MEMORY_MIB,
        .vcpus = s->vcpus   ? s->vcpus
                 : m->vcpus ? (unsigned)m->vcpus
                            : 1,
        .cold = s->cold,
        .transient = true,
    };
}
