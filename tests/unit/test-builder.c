#include "tap.h"
#include "unreadable.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "bootstrap/seed.h"
#include "bootstrap/source.h"
#include "builder/local_kernels.h"
#include "builder/persistent.h"
#include "flake/flake.h"
#include "flake/lock.h"
#include "image/ext4.h"
#include "image/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static int folder = -1;
static const char *folder_path;

/* A file of the test tree, its folders made. */
static void put(const char *name, const char *text, mode_t mode)
{
    CLEAN_FD int fd = path_make_parents(folder, name, 0755) < 0
                          ? -1
                          : openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 || fchmod(fd, mode) < 0)
        abort();
}

static int git(const char *dir, const char *a, const char *b)
{
    const char *const argv[] = {"git", "-C", dir, a, b, NULL};
    struct process_opts o = {.argv = argv, .stdin_fd = -1};
    return process_capture(&o, NULL, NULL, 0, NULL);
}

/* ---- References ---- */

static bool parses(const char *text, const char *remote, const char *attr)
{
    struct flake_ref f;
    if (flake_ref_parse(&f, text, NULL) < 0)
        return false;
    bool same = (remote ? f.remote && strcmp(f.remote, remote) == 0 : !f.remote) &&
                (attr ? f.attr && strcmp(f.attr, attr) == 0 : !f.attr);
    flake_ref_done(&f);
    return same;
}

static void test_refs(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct flake_ref f;
    put("plain/flake.nix", "{ }", 0644);
    if (chdir(folder_path) < 0)
        abort();
    ok(parses("plain", NULL, NULL) && parses("./plain#web", NULL, "web") && parses("path:plain", NULL, NULL),
       "folders");
    ok(parses("github:a/b", "github:a/b", NULL) && parses("github:a/b?rev=1#x", "github:a/b?rev=1", "x") &&
           parses("git+https://h/r", "git+https://h/r", NULL) &&
           parses("nixpkgs/unstable#hello", "nixpkgs/unstable", "hello"),
       "what Nix fetches");
    ok(flake_ref_parse(&f, "-x", &e) == -EINVAL, "no option in disguise");
    ok(flake_ref_parse(&f, "./nothing", &e) == -ENOENT && e.phase == MVM_PHASE_NIX_EVAL && e.hint[0],
       "a folder that is not there");
    ok(flake_ref_parse(&f, ".", &e) == -ENOENT && strstr(e.msg, "no flake.nix"), "a folder without flake.nix");
}

/* ---- Trees ---- */

static int load(struct flake_tree *t, const char *dir, struct mvm_error *e)
{
    struct flake_ref f;
    int r = flake_ref_parse(&f, dir, e);
    if (r == 0)
        r = flake_tree_load(t, &f, &home, e);
    flake_ref_done(&f);
    return r;
}

static const struct flake_file *find(const struct flake_tree *t, const char *path)
{
    for (size_t i = 0; i < t->n_files; i++)
        if (strcmp(t->files[i].path, path) == 0)
            return &t->files[i];
    return NULL;
}

static void fingerprint_of(const char *dir, char out[static SHA256_HEX_SIZE])
{
    CLEAN_FLAKE_TREE struct flake_tree t = {.root_fd = -1};
    struct fingerprint f;
    if (load(&t, dir, NULL) < 0)
        abort();
    fingerprint_init(&f, "test");
    flake_tree_fingerprint(&t, &f);
    fingerprint_final(&f, out);
}

static void test_folder(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    put("tree/flake.nix", "{ }", 0644);
    put("tree/sub/tool", "#!/bin/sh\n", 0755);
    put("tree/a.b", "", 0644);
    put("tree/a/z", "", 0644);
    if (symlinkat("/etc/passwd", folder, "tree/out") < 0)
        abort();
    struct flake_tree t;
    ok(load(&t, "tree", &e) == 0 && t.n_files == 5, "a folder's files are listed");
    ok(find(&t, "sub/tool") && find(&t, "sub/tool")->executable && !find(&t, "flake.nix")->executable,
       "exec bits are seen");
    ok(find(&t, "out") && find(&t, "out")->kind == ENTRY_SYMLINK && strcmp(find(&t, "out")->target, "/etc/passwd") == 0,
       "a symlink stays one");
    flake_tree_done(&t);

    char before[SHA256_HEX_SIZE], after[SHA256_HEX_SIZE];
    fingerprint_of("tree", before);
    fingerprint_of("tree", after);
    ok(strcmp(before, after) == 0, "the same tree has the same fingerprint");
    put("tree/a/z", "x", 0644);
    fingerprint_of("tree", after);
    ok(strcmp(before, after) != 0, "content moves it");
    put("tree/a/z", "", 0755);
    fingerprint_of("tree", after);
    ok(strcmp(before, after) != 0, "an exec bit moves it");
    put("tree/a/z", "", 0644);
    put("tree/new", "", 0644);
    fingerprint_of("tree", after);
    ok(strcmp(before, after) != 0, "a file more moves it");
    unlinkat(folder, "tree/new", 0);
    unlinkat(folder, "tree/out", 0);
    if (symlinkat("/etc/group", folder, "tree/out") < 0)
        abort();
    fingerprint_of("tree", after);
    ok(strcmp(before, after) != 0, "a link's target moves it");
}

static void test_refused(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct flake_tree t;
    put("odd/flake.nix", "{ }", 0644);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "odd/sock"};
    CLEAN_FD int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && load(&t, "odd", &e) == -EINVAL && strstr(e.msg, "sock") &&
           strstr(e.msg, "a socket") && e.phase == MVM_PHASE_NIX_EVAL,
       "a socket in the tree is refused by name");
    unlinkat(folder, "odd/sock", 0);
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(mkfifoat(folder, "odd/pipe", 0600) == 0 && load(&t, "odd", &e) == -EINVAL && strstr(e.msg, "fifo"),
       "so is a fifo, without waiting for a writer");
    unlinkat(folder, "odd/pipe", 0);
    put("odd/secret", "x", 0000);
    e = (struct mvm_error)MVM_ERROR_INIT;
    if (getuid() == 0 && seteuid(65534) < 0)
        abort();
    int r = load(&t, "odd", &e);
    if (getuid() == 0 && seteuid(0) < 0)
        abort();
    ok(r < 0 && strstr(e.msg, "secret"), "a file that cannot be read is named");
    if (r == 0)
        flake_tree_done(&t);
}

static void test_git(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct flake_tree t;
    put("repo/flake.nix", "{ }", 0644);
    put("repo/tracked", "1", 0644);
    put("repo/untracked", "1", 0644);
    put("repo/deleted", "1", 0644);
    put("repo/sub/flake.nix", "{ }", 0644);
    if (git("repo", "init", "-q") != 0 || git("repo", "add", "tracked") != 0 || git("repo", "add", "deleted") != 0)
        abort();
    ok(load(&t, "repo", &e) == -ENOENT && strstr(e.hint, "git -C"), "a flake that git does not track says git add");
    if (git("repo", "add", "flake.nix") != 0 || git("repo", "add", "sub") != 0)
        abort();
    put("repo/tracked", "changed", 0644);
    unlinkat(folder, "repo/deleted", 0);
    ok(load(&t, "repo", &e) == 0 && find(&t, "tracked") && find(&t, "tracked")->size == 7,
       "tracked files have their present content");
    ok(!find(&t, "untracked") && !find(&t, "deleted") && !find(&t, ".git/HEAD"), "others are not there");
    flake_tree_done(&t);
    struct flake_ref f;
    ok(flake_ref_parse(&f, "repo/sub", &e) == 0 && strcmp(f.subdir, "sub") == 0 && f.git,
       "a flake below the top is a subfolder of the tree");
    flake_ref_done(&f);
}

/* ---- flake.lock ---- */

static int remember(void *data, const char *path)
{
    snprintf((char *)data + strlen(data), 64 - strlen(data), "%s ", path);
    return 0;
}

static void test_lock(void)
{
    static const char text[] =
        "{\"nodes\":{\"root\":{\"inputs\":{\"mvm\":\"mvm\",\"nixpkgs\":\"nixpkgs\"}},"
        "\"mvm\":{\"inputs\":{\"tools\":\"tools\"},\"original\":{\"type\":\"indirect\",\"id\":\"mvm\"}},"
        "\"tools\":{\"original\":{\"type\":\"indirect\",\"id\":\"mvm-tools\"}},"
        "\"nixpkgs\":{\"original\":{\"type\":\"indirect\",\"id\":\"nixpkgs\"}}},\"root\":\"root\",\"version\":7}";
    CLEAN_BUF struct buf out = BUF_INIT(1 << 16);
    struct mvm_error e = MVM_ERROR_INIT;
    ok(flake_lock_strip(text, strlen(text), &out, &e) == 0 && !strstr(buf_cstr(&out), "mvm"),
       "the builder's own nodes are taken out");
    ok(strstr(buf_cstr(&out), "\"nixpkgs\": \"nixpkgs\"") || strstr(buf_cstr(&out), "\"nixpkgs\":\"nixpkgs\""),
       "others stay");
    static const struct registry flakes = {.library = {"/lib", "sha256-LIB"}, .tools = {"/tools", "sha256-TOOLS"}};
    ok(flake_lock_stage(text, strlen(text), &flakes, &out, &e) == 0 && strstr(buf_cstr(&out), "sha256-LIB") &&
           strstr(buf_cstr(&out), "sha256-TOOLS"),
       "for a builder they are locked to what it has");
    static const char old[] =
        "{\"nodes\":{\"mvm\":{\"inputs\":{\"other\":\"x\"},\"original\":{\"type\":\"indirect\",\"id\":\"mvm\"}}}}";
    ok(flake_lock_stage(old, strlen(old), &flakes, &out, &e) == 0 && !strstr(buf_cstr(&out), "indirect"),
       "unless a library of another shape had been locked");
    static const char local[] =
        "{\"nodes\":{\"a\":{\"original\":{\"type\":\"path\",\"path\":\"/x/y\"}},"
        "\"b\":{\"original\":{\"type\":\"path\",\"path\":\"./z\"}},\"root\":{\"inputs\":{\"a\":\"a\",\"b\":\"b\"}}}}";
    char found[64] = "";
    ok(flake_lock_paths(local, strlen(local), remember, found) == 0 && strcmp(found, "/x/y ") == 0,
       "local folders outside of the tree are found");
    ok(flake_lock_strip(local, strlen(local), &out, &e) == 0 && !strstr(buf_cstr(&out), "/x/y") &&
           strstr(buf_cstr(&out), "./z"),
       "and left out: they have their present content");
    ok(flake_lock_strip("not json", 8, &out, &e) == 0 && strcmp(buf_cstr(&out), "not json") == 0,
       "what is no lock file is left to Nix");
}

/* ---- What the builder image is made from ---- */

static char *copy_of_nix(const char *from)
{
    CLEAN_FREE char *to = path_join(folder_path, "nix", NULL);
    const char *const argv[] = {"cp", "-r", from, to, NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    (void)!path_remove_tree(folder, "nix");
    return process_capture(&o, NULL, NULL, 0, NULL) == 0 ? TAKE_PTR(to) : NULL;
}

static bool moved(const struct install_paths *i, char last[static SHA256_HEX_SIZE])
{
    char now[SHA256_HEX_SIZE];
    CLEAN_SOURCE struct source s = {0};
    if (source_load(&s, &home, i, NULL) < 0)
        abort();
    source_fingerprint(&s, now);
    bool differs = strcmp(now, last) != 0;
    memcpy(last, now, sizeof(now));
    return differs;
}

static void append(const char *path)
{
    CLEAN_FD int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, "\n", 1) < 0)
        abort();
}

static void test_source(void)
{
    const char *root = getenv("MVM_SOURCE");
    CLEAN_FREE char *real = root ? path_join(root, "nix", NULL) : NULL;
    CLEAN_FREE char *nix = real ? copy_of_nix(real) : NULL;
    char last[SHA256_HEX_SIZE] = "", path[4096];
    if (!nix) {
        ok(true, "the sources of the builder image # SKIP MVM_SOURCE is not set");
        return;
    }
    put("mvm-init", "a program", 0755);
    put("mvm-mkrootfs", "another", 0755);
    put("mvm-nixdb", "a third", 0755);
    CLEAN_INSTALL_PATHS struct install_paths i = {.mvm_init = path_join(folder_path, "mvm-init", NULL),
                                                  .mkrootfs = path_join(folder_path, "mvm-mkrootfs", NULL),
                                                  .nixdb = path_join(folder_path, "mvm-nixdb", NULL),
                                                  .nix = TAKE_PTR(nix)};
    ok(moved(&i, last) && !moved(&i, last), "the sources have a fingerprint, always the same");
    CLEAN_SOURCE struct source s = {0};
    if (source_load(&s, &home, &i, NULL) < 0)
        abort();
    ok(s.n_files > 20, "%zu sources", s.n_files);
    for (size_t k = 0; k < s.n_files; k++) {
        append(s.files[k].from);
        ok(moved(&i, last), "%s is one", s.files[k].path);
    }
    snprintf(path, sizeof(path), "nix/%s", s.files[0].path);
    ok(fchmodat(folder, path, 0755, 0) == 0 && moved(&i, last), "an exec bit moves it");
    put("nix/lib/new.nix", "{ }", 0644);
    ok(moved(&i, last), "a file more moves it");
    ok(symlinkat("new.nix", folder, "nix/lib/link.nix") == 0 && moved(&i, last), "so does a link");
    ok(unlinkat(folder, "nix/lib/link.nix", 0) == 0 && symlinkat("default.nix", folder, "nix/lib/link.nix") == 0 &&
           moved(&i, last),
       "and where it leads");
    static const char *const none[] = {"nix/meson.build", "nix/lib/.hidden.swp", "nix/lib/check.nix~", "nix/.git/HEAD"};
    for (size_t k = 0; k < ARRAY_SIZE(none); k++) {
        put(none[k], "x", 0644);
        ok(!moved(&i, last), "%s is none", none[k]);
    }
}

static bool has_slim_kernel(const struct install_paths *i)
{
    CLEAN_SOURCE struct source s = {0};
    if (source_load(&s, &home, i, NULL) < 0)
        abort();
    for (size_t k = 0; k < s.n_files; k++)
        if (strcmp(s.files[k].path, SOURCE_SLIM_KERNEL) == 0)
            return true;
    return false;
}

static void put_kernel_json(const char *config, const char *vmlinux)
{
    char text[256];
    snprintf(text, sizeof(text), "{\"config_sha256\": \"%s\", \"vmlinux_sha256\": \"%s\"}", config, vmlinux);
    put("cache/kernels/one/kernel.json", text, 0644);
}

/* What tools/build-kernel leaves in the cache, and what it does not. */
static void test_slim_kernel(void)
{
    static const char zeros[SHA256_HEX_SIZE] = "0000000000000000000000000000000000000000000000000000000000000000";
    char last[SHA256_HEX_SIZE] = "", config[SHA256_HEX_SIZE], vmlinux[SHA256_HEX_SIZE], name[128];
    struct utsname u;
    uname(&u);
    snprintf(name, sizeof(name), "slim-nix/kernel/slim-%.32s.config", u.machine);
    put(name, "CONFIG_X=y\n", 0644);
    put("mvm-init", "a program", 0755);
    put("mvm-mkrootfs", "another", 0755);
    put("mvm-nixdb", "a third", 0755);
    put("cache/kernels/one/vmlinux", "a kernel", 0444);
    CLEAN_INSTALL_PATHS struct install_paths i = {.mvm_init = path_join(folder_path, "mvm-init", NULL),
                                                  .mkrootfs = path_join(folder_path, "mvm-mkrootfs", NULL),
                                                  .nixdb = path_join(folder_path, "mvm-nixdb", NULL),
                                                  .nix = path_join(folder_path, "slim-nix", NULL)};
    CLEAN_FD int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    CLEAN_FD int kernel = openat(folder, "cache/kernels/one/vmlinux", O_RDONLY | O_CLOEXEC);
    if (sha256_fd(fd, config) < 0 || sha256_fd(kernel, vmlinux) < 0)
        abort();
    ok(moved(&i, last) && !has_slim_kernel(&i), "no slim kernel, none among the sources");
    put_kernel_json(config, vmlinux);
    snprintf(name, sizeof(name), "%s\n", vmlinux);
    put("cache/kernels/one/vmlinux.sha256", name, 0444);
    ok(symlinkat("one", folder, "cache/kernels/slim") == 0 && has_slim_kernel(&i) && moved(&i, last),
       "one that was built is a source");
    put_kernel_json(zeros, vmlinux);
    ok(!has_slim_kernel(&i) && moved(&i, last), "of another configuration, it is none");
    put_kernel_json(config, zeros);
    ok(!has_slim_kernel(&i), "nor with another content than recorded");
    put_kernel_json(config, vmlinux);
    put("cache/kernels/one/vmlinux.sha256", zeros, 0644);
    ok(!has_slim_kernel(&i), "nor where its digest is told wrongly");
    put("cache/kernels/one/kernel.json", "{", 0644);
    ok(!has_slim_kernel(&i), "nor where its record is damaged");
}

/* ---- Seeds ---- */

static void test_seeds(void)
{
    static const char *const dirs[] = {"state/dev/prebuilt/v0.9", "state/dev/prebuilt/v0.10",
                                       "state/dev/prebuilt/x",    "state/dev/builds/aaaa",
                                       "state/dev/builds/bbbb",   "state/dev/builds/.stage-0"};
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    for (size_t k = 0; k < ARRAY_SIZE(dirs); k++) {
        CLEAN_FD int fd = path_open_dir(folder, dirs[k], NULL);
        if (fd < 0)
            abort();
    }
    (void)!utimensat(folder, "state/dev/builds/bbbb", old, 0);
    struct seed_candidates c;
    seed_list(&c, &home);
    ok(c.n == 5 && strcmp(c.v[0].folder, "dev/current") == 0 && strcmp(c.v[1].folder, "dev/prebuilt/v0.10") == 0 &&
           strcmp(c.v[2].folder, "dev/prebuilt/v0.9") == 0 && strcmp(c.v[3].folder, "dev/builds/aaaa") == 0 &&
           strcmp(c.v[4].folder, "dev/builds/bbbb") == 0,
       "current, then prebuilt by version, then builds by time");
    ok(strcmp(c.v[3].label, "build 1") == 0, "labels have no names of this machine");
    struct seed seed;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(seed_open(&seed, &home, "dev/current", &e) == -ENOENT && strcmp(e.msg, "absent") == 0, "one that is absent");
    put("state/dev/builds/aaaa/vmlinux", "no kernel", 0644);
    ok(seed_open(&seed, &home, "dev/builds/aaaa", &e) < 0 && strcmp(e.msg, "invalid_kernel") == 0,
       "one with no kernel");
    CLEAN_FREE char *kernel = calloc(1, 1 << 20);
    memcpy(kernel + 56, "ARM\x64", 4);
    CLEAN_FD int fd = openat(folder, "state/dev/builds/aaaa/vmlinux", O_WRONLY | O_TRUNC | O_CLOEXEC);
    ok(fd_write_all(fd, kernel, 1 << 20) == 0 && seed_open(&seed, &home, "dev/builds/aaaa", &e) < 0 &&
           strcmp(e.msg, "invalid_rootfs") == 0,
       "one with no root file system");
    /* A file system that mentions the program, but does not have it. */
    CLEAN_FSTREE struct fstree t = {0};
    const struct ext4_opts o = {.spare = 8 << 20};
    CLEAN_FD int image = openat(folder, "state/dev/builds/aaaa/rootfs.ext4", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ok(fstree_init(&t) == 0 && fstree_add_memory(&t, "notes", 0644, "/sbin/mvm-host-vm-init", 22, &e) == 0 &&
           ext4_write(image, &t, &o, &e) == 0 && seed_open(&seed, &home, "dev/builds/aaaa", &e) < 0 &&
           strcmp(e.msg, "no_host_vm_init") == 0,
       "one without mvm-host-vm-init, whatever bytes it has");
    ok(fstree_add_memory(&t, "sbin/mvm-host-vm-init", 0755, "x", 1, &e) == 0 && ftruncate(image, 0) == 0 &&
           ext4_write(image, &t, &o, &e) == 0 && seed_open(&seed, &home, "dev/builds/aaaa", &e) < 0 &&
           strcmp(e.msg, "no_package_list") == 0,
       "one that does not say what it consists of");
    static const char list[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  "
                               "git_1%3a2.47-1_amd64.deb\nnonsense\n";
    ok(fstree_add_memory(&t, "usr/share/mvm/packages.txt", 0644, list, strlen(list), &e) == 0 &&
           ftruncate(image, 0) == 0 && ext4_write(image, &t, &o, &e) == 0 &&
           seed_open(&seed, &home, "dev/builds/aaaa", &e) == 0,
       "one that is good");
    CLEAN_JSON json_object *packages = seed_packages(&seed, &e);
    json_object *first = json_object_array_get_idx(packages, 0);
    const char *version = "";
    ok(json_object_array_length(packages) == 1 && json_get_string(first, "version", &version, NULL) == 0 &&
           strcmp(version, "1:2.47-1") == 0,
       "and says what it consists of: %s", json_object_to_json_string(packages));
    char digest[SHA256_HEX_SIZE], wanted[SHA256_HEX_SIZE] = "";
    ok(sha256_fd(image, wanted) == 0 && seed_digest(&seed, digest, &e) == 0 && strcmp(digest, wanted) == 0,
       "its digest is that of the root file system, in which all of that is");
    seed_done(&seed);
}

/* ---- What the host has itself ---- */

static void test_known(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct local_kernels k = {0};
    const struct local_kernel *f = NULL;
    struct manifest m = {0};
    uint8_t key[TREE_KEY_SIZE] = {0};
    char *digests[LOCAL_KERNELS_MAX];
    put("image/vmlinux", "kernel", 0644);
    CLEAN_FD int dir = openat(folder, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int file = openat(dir, "vmlinux", O_RDONLY | O_CLOEXEC);
    CLEAN_FREE char *path = path_join(folder_path, "image", NULL);
    local_kernels_load(&k, &home, path);
    ok(k.n == 0, "an image without a manifest gives nothing");
    struct artifact_info *a = &m.artifacts[ARTIFACT_VMLINUX];
    *a = (struct artifact_info){.present = true, .size = 6};
    m.artifacts[ARTIFACT_ROOTFS] = (struct artifact_info){.present = true, .size = 1};
    memset(m.artifacts[ARTIFACT_ROOTFS].sha256, '0', SHA256_HEX_SIZE - 1);
    if (sha256_fd(file, a->sha256) < 0 || manifest_save(&m, dir, &e) < 0)
        abort();
    local_kernels_load(&k, &home, path);
    struct msg_strings list = local_kernels_digests(&k, digests);
    ok(list.n == 1 && strcmp(list.v[0], a->sha256) == 0, "one with it gives its kernel's digest");
    unlinkat(dir, "vmlinux", 0);
    sha256_parse(a->sha256, key);
    CLEAN_BUF struct buf text = BUF_INIT(100);
    ok(local_kernels_take(&k, key, folder, "taken", &f) == 0 && f->size == 6 &&
           path_read_file(folder, "taken", &text, &e) == 0 && strcmp(buf_cstr(&text), "kernel") == 0,
       "and the kernel, even when the image is gone");
    ok(local_kernels_take(&k, key, folder, "taken", &f) == -EEXIST, "nothing is overwritten");
    key[SHA256_SIZE] = 1;
    ok(local_kernels_take(&k, key, folder, "other", &f) == -ENOENT, "it is no program");
    key[SHA256_SIZE] = 0;
    key[0] ^= 1;
    ok(local_kernels_take(&k, key, folder, "other", &f) == -ENOENT, "another digest is not known");
    local_kernels_done(&k);
    put("image/vmlinux", "colder", 0644);
    local_kernels_load(&k, &home, path);
    key[0] ^= 1;
    ok(local_kernels_take(&k, key, folder, "other", &f) == -EBADMSG,
       "a file that is not what the manifest says is not taken");
    local_kernels_done(&k);
}

/* ---- R2: what cannot be read now is kept ---- */

#define SEED   "dev/builds/aaaa"
#define RECORD "run/persistent-builder.json"

static int open_seed(void)
{
    CLEAN_SEED struct seed s = SEED_INIT;
    return seed_open(&s, &home, SEED, NULL);
}

static bool is_no_bad_seed(int r)
{
    return r != -EINVAL && r != -ENOENT;
}

static int ask_status(void)
{
    struct persistent_status s;
    return persistent_status(&home, &s, NULL);
}

static bool record_is_there(int r)
{
    return faccessat(home.state_fd, RECORD, F_OK, 0) == 0;
}

static void test_unreadable(void)
{
    unsigned n;
    ok(open_seed() == 0, "(there is a seed)");
    bool right = each_open_fails(open_seed, is_no_bad_seed, &n);
    ok(right && n >= 1, "R2: a seed that cannot be read now is not said to be damaged (%u opens)", n);
    put("state/" RECORD, "{\"schema_version\":1}", 0600);
    put("state/vms/builder/lock", "", 0600);
    CLEAN_FD int lock = openat(home.state_fd, "vms/builder/lock", O_RDWR | O_CLOEXEC);
    if (flock(lock, LOCK_EX) < 0)
        abort();
    right = each_open_fails(ask_status, record_is_there, &n);
    ok(right && n >= 5, "R2: a builder that runs keeps its record when something cannot be read (%u opens)", n);
    flock(lock, LOCK_UN);
    ok(ask_status() == 0 && !record_is_there(0), "R2: a builder that is known not to run has none");
}

int main(void)
{
    char path[300];
    struct mvm_error e = MVM_ERROR_INIT;
    folder_path = tap_open_folder();
    folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)!chmod(folder_path, 0755);
    snprintf(path, sizeof(path), "%s/state", folder_path);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", folder_path);
    setenv("MVM_CACHE_DIR", path, 1);
    if (home_open(&home, &e) < 0)
        abort();
    test_refs();
    test_folder();
    test_refused();
    test_git();
    test_lock();
    test_source();
    test_slim_kernel();
    test_seeds();
    test_known();
    test_unreadable();
    home_done(&home);
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, folder_path);
    return tap_end();
}
