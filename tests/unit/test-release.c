/*
 * Published images from file:// URLs: what is installed as a seed, what is remembered, what a checkout refuses.
 * Servers, broken sets and the command line: tests/cli/image.t. Copies of this program in the layouts of a checkout and
 * of an installation (install.h) fetch builder images.
 */
#include "keys.h"
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "image/ext4.h"
#include "release/release_fetch.h"
#include "release/release_versions.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char *folder;
static int here = -1;
static struct home home = HOME_INIT;
static struct config config = CONFIG_INIT;
static struct minisign_secret secret;

static void must(int r)
{
    if (r < 0)
        abort();
}

static void put(const char *path, const void *p, size_t n)
{
    must(path_make_parents(here, path, 0700));
    CLEAN_FD int fd = openat(here, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd_write_all(fd, p, n));
}

static void make_image(void)
{
    static uint8_t kernel[2 << 20];
    Elf64_Ehdr h = {.e_machine = EM_X86_64,
                    .e_type = ET_EXEC,
                    .e_phoff = sizeof(h),
                    .e_phnum = 1,
                    .e_phentsize = sizeof(Elf64_Phdr)};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    Elf64_Phdr ph = {.p_type = PT_LOAD, .p_offset = 4096, .p_filesz = sizeof(kernel) - 4096};
    memcpy(kernel, &h, sizeof(h));
    memcpy(kernel + sizeof(h), &ph, sizeof(ph));
    put("image/vmlinux", kernel, sizeof(kernel));
    static const struct ext4_opts opts = {.size = 8 << 20};
    CLEAN_FD int fd = openat(here, "image/rootfs.ext4", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(ext4_write(fd, NULL, &opts, NULL));
}

/* A signed set of that version in the folder name. */
static void publish(const char *name, enum release_kind kind, const char *arch, int64_t version)
{
    struct release r = {.kind = kind, .version = version};
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FD int image = openat(here, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FREE char *path = path_join(folder, name, NULL);
    snprintf(r.arch, sizeof(r.arch), "%s", arch);
    must(path_remove_tree(here, name));
    if (release_export(image, path, &r, NULL, &e) < 0)
        printf("# %s\n", e.msg);
    CLEAN_FD int set = openat(here, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(release_sign(set, &secret, &r, &e));
}

static int fetch_seed(char **ret, struct mvm_error *err)
{
    free(*ret);
    *ret = NULL;
    return release_fetch_seed(&home, &config, NULL, ret, err);
}

static ino_t inode_of(const char *path)
{
    struct stat st;
    return fstatat(here, path, &st, 0) < 0 ? 0 : st.st_ino;
}

static void test_seed(const char *arch)
{
    CLEAN_FREE char *path = NULL;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(fetch_seed(&path, &e) == -ENOENT, "no URL, no seed");
    if (asprintf(&config.dev_url, "file://%s/set", folder) < 0)
        abort();
    publish("set", RELEASE_DEV, arch, 5);
    ok(fetch_seed(&path, &e) == -ENOKEY && e.phase == MVM_PHASE_CONFIG, "no public key: a setting is missing");
    e = (struct mvm_error)MVM_ERROR_INIT;
    config.public_keys[0] = secret.public_key;
    config.n_public_keys = 1;
    ok(fetch_seed(&path, &e) == 0 && path && strstr(path, "/dev/prebuilt/v5"), "a seed is installed");
    CLEAN_FD int seed = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    struct release r;
    const struct minisign_key *key = NULL;
    ok(fstat(seed, &st) == 0 && (st.st_mode & 07777) == 0700, "private");
    ok(release_verify(seed, config.public_keys, 1, &r, &key, &e) == 0 && r.version == 5,
       "and itself a set that verifies");
    ino_t before = inode_of("home/dev/prebuilt/v5/vmlinux");
    ok(fetch_seed(&path, &e) == 0 && inode_of("home/dev/prebuilt/v5/vmlinux") == before, "one that is there stays");
    must(truncate("home/dev/prebuilt/v5/vmlinux", 5));
    ok(fetch_seed(&path, &e) == 0 && inode_of("home/dev/prebuilt/v5/vmlinux") != before, "a damaged one is replaced");
    ok(faccessat(here, "home/dev/prebuilt/.fetch", F_OK, 0) < 0, "nothing is left beside it");

    publish("set", RELEASE_DEV, arch, 6);
    ok(fetch_seed(&path, &e) == 0 && strstr(path, "/v6") && inode_of("home/dev/prebuilt/v5"), "a newer one beside it");
    publish("set", RELEASE_DEV, arch, 5);
    ok(fetch_seed(&path, &e) == -ESTALE && e.phase == MVM_PHASE_BUILDER_BOOTSTRAP && !path, "going back is refused");
    publish("set", RELEASE_BUILDER, arch, 7);
    ok(fetch_seed(&path, &e) == -EINVAL && strstr(e.msg, "builder image"), "a builder image is no seed");
    publish("set", RELEASE_DEV, "pdp11", 7);
    ok(fetch_seed(&path, &e) == -EINVAL && strstr(e.msg, "pdp11"), "nor is one for another machine");
    publish("set", RELEASE_DEV, arch, 8);
    must(truncate("set/vmlinux", 100000));
    ok(fetch_seed(&path, &e) == -ENODATA && !inode_of("home/dev/prebuilt/v8") && !inode_of("home/dev/prebuilt/.fetch"),
       "of one that is cut off nothing is installed");
    publish("set", RELEASE_DEV, arch, 6);
    ok(fetch_seed(&path, &e) == 0, "and it does not count as used");
    free(config.dev_url);
    config.dev_url = NULL;
}

static void test_log(const char *arch)
{
    struct release r = {.kind = RELEASE_DEV, .version = 6};
    struct mvm_error e = MVM_ERROR_INIT;
    struct minisign_key other = secret.public_key;
    other.id[0] ^= 1;
    snprintf(r.arch, sizeof(r.arch), "%s", arch);
    ok(release_versions_check(&home, &r, &secret.public_key, &e) == 0, "the highest version is good");
    r.version = 5;
    ok(release_versions_check(&home, &r, &secret.public_key, &e) == -ESTALE, "a lower one is not");
    ok(release_versions_record(&home, &r, &secret.public_key, &e) == -ESTALE, "nor can it be recorded");
    ok(release_versions_check(&home, &r, &other, &e) == 0, "each key has its own");
    r.kind = RELEASE_BUILDER;
    ok(release_versions_check(&home, &r, &secret.public_key, &e) == 0, "each kind, too");
    r.version = INT64_MAX;
    ok(release_versions_record(&home, &r, &secret.public_key, &e) == 0 &&
           release_versions_check(&home, &r, &secret.public_key, &e) == 0,
       "numbers of 64 bits are kept");
    CLEAN_BUF struct buf log = BUF_INIT(4096);
    must(path_read_file(here, "home/dev/releases.json", &log, NULL));
    char *digit = strchr(buf_cstr(&log), '7');
    must(digit ? 0 : -1);
    *digit = '1';
    put("home/dev/releases.json", log.data, log.len);
    ok(release_versions_check(&home, &r, &secret.public_key, &e) == -EBADMSG && strstr(e.msg, "cannot be told"),
       "T9: one in which a digit has changed refuses everything");
    put("home/dev/releases.json", "{}", 2);
    r.kind = RELEASE_DEV;
    ok(release_versions_check(&home, &r, &secret.public_key, &e) == -EINVAL && strstr(e.msg, "cannot be told"),
       "a damaged record refuses everything");
    must(unlinkat(here, "home/dev/releases.json", 0));
}

/* ---- The builder image ---- */

/* This program's copy, as mvmctl in its layout: fetches the builder image and says what came of it. */
static int fetch_builder(const char *stage)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FD int dir = open(stage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = home_open(&home, &e);
    if (r == 0)
        r = config_load(&config, &home, &e);
    if (r == 0)
        r = release_fetch_builder(&home, &config, dir, NULL, &e);
    printf("%d %s\n", r, e.msg);
    config_done(&config);
    home_done(&home);
    return r < 0;
}

static void copy_program(const char *to)
{
    put(to, "", 0);
    CLEAN_FD int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CLEAN_FD int out = openat(here, to, O_WRONLY | O_CLOEXEC);
    must(fd_copy_file(in, out));
    must(fchmod(out, 0700));
}

static bool copy_says(const char *program, const char *what)
{
    CLEAN_BUF struct buf out = BUF_INIT(8192);
    CLEAN_FREE char *path = path_join(folder, program, NULL);
    CLEAN_FREE char *stage = path_join(folder, "stage", NULL);
    const char *const argv[] = {path, "fetch-builder", stage, NULL};
    struct process_opts o = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    must(path_remove_tree(here, "stage"));
    must(mkdirat(here, "stage", 0700));
    (void)!process_capture(&o, &out, NULL, 0, NULL);
    if (strstr(buf_cstr(&out), what))
        return true;
    printf("# %s", buf_cstr(&out));
    return false;
}

static void write_config(const char *url)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "[images]\npublic_keys = ['%s']\n%s%s%s%s%s", public_base64,
                     url ? "builder_url = 'file://" : "", url ? folder : "", url ? "/" : "", url ? url : "",
                     url ? "'\n" : "");
    put("home/config.toml", text, (size_t)n);
}

static void test_builder(const char *arch)
{
    static const char *const files[] = {"checkout/mvm-init",
                                        "checkout/src/image/mvm-mkrootfs",
                                        "checkout/src/image/mvm-nixdb",
                                        "checkout/nix-source/flake.nix",
                                        "usr/libexec/mvm/mvm-init",
                                        "usr/libexec/mvm/mvm-mkrootfs",
                                        "usr/libexec/mvm/mvm-nixdb",
                                        "usr/share/mvm/nix/flake.nix"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        put(files[i], "", 0);
    copy_program("checkout/mvmctl");
    copy_program("usr/bin/mvmctl");
    publish("builder", RELEASE_BUILDER, arch, 3);
    write_config("builder");
    ok(copy_says("checkout/mvmctl", "a source checkout builds its builder image") && !inode_of("stage/vmlinux"),
       "a checkout never takes a published builder image");
    ok(copy_says("usr/bin/mvmctl", "0 ") && inode_of("stage/vmlinux") && inode_of("stage/manifest.json"),
       "an installed mvmctl does");
    publish("builder", RELEASE_BUILDER, arch, 2);
    ok(copy_says("usr/bin/mvmctl", "older than version 3"), "and remembers which");
    publish("builder", RELEASE_DEV, arch, 4);
    ok(copy_says("usr/bin/mvmctl", "it is a dev image"), "a dev image is no builder image");
    write_config(NULL);
    ok(copy_says("usr/bin/mvmctl", "no published builder image is configured"), "without a URL there is none");
}

int main(int argc, char **argv)
{
    struct utsname u;
    uname(&u);
    if (argc == 3)
        return fetch_builder(argv[2]);
    folder = tap_folder();
    if (chdir(folder) < 0)
        return 1;
    here = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    setenv("MVM_HOME", "home", 1);
    setenv("MVM_CACHE_DIR", "cache", 1);
    must(home_open(&home, NULL));
    must(minisign_secret_parse(&secret, secret_file, strlen(secret_file), NULL, NULL));
    make_image();
    test_seed(u.machine);
    test_log(u.machine);
    test_builder(u.machine);
    config_done(&config);
    home_done(&home);
    must(chdir("/"));
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
