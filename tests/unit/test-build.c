/* What the host does before a builder runs and after: the dev image out of packages, and finding what was built last.
 */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "bootstrap/devimage.h"
#include "builder/build.h"
#include "cache/records.h"
#include "image/ext4.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder;
static int dir = -1;
static struct home home = HOME_INIT;

static void put(const char *path, const void *p, size_t n)
{
    CLEAN_FD int fd =
        path_make_parents(dir, path, 0755) < 0 ? -1 : openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, p, n) < 0)
        abort();
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

static bool rootfs_has(const char *path, const char *text)
{
    CLEAN_BUF struct buf b = BUF_INIT(65536);
    CLEAN_FREE char *image = path_join(folder, "made/rootfs.ext4", NULL);
    return ext4_read(image, path, &b, NULL) == 0 && strcmp(buf_cstr(&b), text) == 0;
}

/* ---- The dev image ---- */

static void put_packages(void)
{
    static const Elf64_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB}};
    put("packages/boot/vmlinuz-6.1-test", &elf, sizeof(elf));
    put_text("packages/boot/config-6.1-test", "CONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_CONSOLE=m\n");
    put_text("packages/usr/lib/modules/6.1-test/modules.builtin",
             "kernel/virtio_mmio.ko\nkernel/virtio_blk.ko\nkernel/virtio_net.ko\nkernel/overlay.ko\n");
    put_text("packages/packages.txt", "the list\n");
    put_text("nix/initrd.spec", "file 0644 /init @list@\ntree /modules @modules@\n");
    put_text("nix/rootfs.spec",
             "label dev\ntime 1\nfile 0644 /kernel @kernel@\nfile 0644 /list @list@\n"
             "file 0644 /config @config@\noffers 0644 /offers @modules@ @config@\ntree /slim @slim@\n");
    put_text("nix/cmdline.txt", "quiet\n");
}

static int write_image(struct mvm_error *e)
{
    static const char *const names[][2] = {{SOURCE_IMAGE "/cmdline.txt", "nix/cmdline.txt"},
                                           {SOURCE_IMAGE "/initrd.spec", "nix/initrd.spec"},
                                           {SOURCE_IMAGE "/rootfs.spec", "nix/rootfs.spec"}};
    struct source_file files[ARRAY_SIZE(names)] = {0};
    const struct source source = {.files = files, .n_files = ARRAY_SIZE(files)};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEAN_FD int fd = openat(dir, names[i][1], O_RDONLY | O_CLOEXEC);
        files[i].path = strdup(names[i][0]);
        files[i].from = path_join(folder, names[i][1], NULL);
        if (fd < 0 || sha256_fd(fd, files[i].digest) < 0)
            abort();
    }
    CLEAN_FREE char *packages = path_join(folder, "packages", NULL), *made = path_join(folder, "made", NULL);
    (void)!path_remove_tree(dir, "made");
    CLEAN_FD int fd = path_open_dir(dir, "made", NULL);
    *e = (struct mvm_error)MVM_ERROR_INIT;
    int r = devimage_write(fd, made, packages, &source, e);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        free(files[i].path);
        free(files[i].from);
    }
    return r;
}

static bool made(const char *name)
{
    CLEAN_FREE char *path = path_join("made", name, NULL);
    return faccessat(dir, path, F_OK, 0) == 0;
}

static void test_devimage(void)
{
    struct mvm_error e;
    put_packages();
    ok(write_image(&e) == 0, "a dev image is made of packages (%s)", e.msg);
    ok(made("vmlinux") && made("initrd") && made("rootfs.ext4") && made("cmdline.txt"), "and has an image's files");
    ok(!made("source") && !made("modules"), "and nothing else");
    ok(rootfs_has("/list", "the list\n") &&
           rootfs_has("/config", "CONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_CONSOLE=m\n"),
       "the packages' list and the kernel's configuration are in it");
    ok(rootfs_has("/offers", "mmio-acpi\n"), "and what that kernel offers with the modules that its initrd loads");
    put_text("nix/rootfs.spec", "frobnicate\n");
    ok(write_image(&e) < 0 && strstr(e.msg, "rootfs.spec"), "a description that is wrong is named: %s", e.msg);
    put_text("packages/usr/lib/modules/6.1-test/modules.builtin", "kernel/virtio_mmio.ko\n");
    ok(write_image(&e) == -ENOENT && strstr(e.msg, "virtio_blk"), "a kernel that lacks a driver is named: %s", e.msg);
    unlinkat(dir, "packages/boot/vmlinuz-6.1-test", 0);
    ok(write_image(&e) == -ENOENT && strstr(e.msg, "the packages have no kernel"), "so are packages without a kernel");
}

/* ---- What was built ---- */

static int find_last(const char *attr, struct artifact_image *ret, struct mvm_error *e)
{
    CLEAN_FREE char *flake = path_join(folder, "flake", NULL);
    const struct build_opts o = {.ref = flake, .attr = attr, .system = "x86_64-linux"};
    *ret = (struct artifact_image)ARTIFACT_IMAGE_INIT;
    *e = (struct mvm_error)MVM_ERROR_INIT;
    return build_find_last(&o, &home, ret, e);
}

static void test_find_last(void)
{
    struct artifact_image img;
    struct mvm_error e;
    put_text("flake/flake.nix", "{ outputs = _: { }; }\n");
    ok(find_last(NULL, &img, &e) == -ENOENT && strstr(e.msg, "(packages.x86_64-linux.default)") &&
           strstr(e.hint, "mvmctl build --flake "),
       "a flake of which nothing was built is refused with the command that builds it");
    ok(find_last("web", &img, &e) == -ENOENT && strstr(e.msg, "(packages.x86_64-linux.web)"), "a name is a package's");
    ok(find_last("a.b", &img, &e) == -ENOENT && strstr(e.msg, "(a.b)"), "a path is the whole attribute");
    ok(find_last("a.\"b.c\"", &img, &e) == -ENOENT && strstr(e.msg, "(a.\"b.c\")"), "dots in quotes part nothing");
    static const char *const bad[] = {"a\"b", "a#b", "a^b", "a b\n", "a?b"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(find_last(bad[i], &img, &e) == -EINVAL && strstr(e.msg, "not an attribute path"),
           "attribute %zu that is none is refused", i);
    struct build_record rec = {.built_at = 1};
    CLEAN_FREE char *flake = path_join(folder, "flake", NULL);
    struct flake_ref ref = {0};
    if (flake_ref_parse(&ref, flake, NULL) < 0)
        abort();
    memset(rec.image, 'a', SHA256_HEX_SIZE - 1);
    memset(rec.fingerprint, 'b', SHA256_HEX_SIZE - 1);
    snprintf(rec.ref, sizeof(rec.ref), "%s", ref.id);
    snprintf(rec.attr, sizeof(rec.attr), "packages.x86_64-linux.default");
    snprintf(rec.store_path, sizeof(rec.store_path), "/nix/store/x");
    flake_ref_done(&ref);
    ok(build_record_save(&home, &rec, NULL) == 0 && find_last(NULL, &img, &e) < 0 &&
           strstr(e.msg, "the image that was built from") && e.hint[0],
       "an image that is not in the cache any more is told: %s", e.msg);
}

static void test_allowed(void)
{
    struct flake_allow allow = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    char text[256], *own[1] = {(char *)(uintptr_t)folder}, absent[] = "/nothing/here", *none[1] = {absent};
    snprintf(text, sizeof(text), "[flake]\nallow_inputs = ['%s/flake', '/nothing/there']\n", folder);
    if (path_write_file(home.state_fd, "config.toml", text, strlen(text), 0600, false, NULL) < 0)
        abort();
    int r = build_load_allowed(&allow, own, 1, &home, &e);
    ok(r == 0 && allow.n == 2, "flakes may have what the command and the settings name, where it is there (%d, %s)", r,
       e.msg);
    flake_allow_done(&allow);
    allow = (struct flake_allow){0};
    ok(build_load_allowed(&allow, none, 1, &home, &e) < 0 && strstr(e.msg, "/nothing/here"),
       "a path of the command that is not there is an error: %s", e.msg);
    flake_allow_done(&allow);
}

int main(void)
{
    folder = tap_folder();
    CLEAN_FREE char *state = path_join(folder, "state", NULL), *cache = path_join(folder, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || home_open(&home, NULL) < 0)
        abort();
    test_devimage();
    test_find_last();
    test_allowed();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
