/* The builder image's cache: every reason in its order, replacing, and kills at random moments. */
#include "tap.h"
#include "unreadable.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/buildercache.h"
#include "cache/buildercache_files.h"
#include "image/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static char live[64]; /* of the image, below the cache */
static struct buildercache_want want = {.kind = "source-checkout"};

#define OLD "1111111111111111111111111111111111111111111111111111111111111111"
#define NEW "2222222222222222222222222222222222222222222222222222222222222222"

/* ---- Small images of the right shape ---- */

static int put_at(int dir, const char *name, const void *p, size_t n)
{
    struct mvm_error e = MVM_ERROR_INIT;
    return path_write_file(dir, name, p, n, 0644, false, &e);
}

/* 1 MiB with the magic of an aarch64 kernel, which has no more to check. */
static int put_kernel(int dir, uint8_t mark)
{
    static uint8_t k[1 << 20];
    memset(k, mark, sizeof(k));
    memcpy(k + 56, "ARM\x64", 4);
    return put_at(dir, "vmlinux", k, sizeof(k));
}

static int put_rootfs(int dir, uint8_t mark)
{
    static uint8_t r[4 << 20];
    memset(r, mark, sizeof(r));
    r[1080] = 0x53;
    r[1081] = 0xef;
    return put_at(dir, "rootfs.ext4", r, sizeof(r));
}

/* What the manifest says of each file: the entry of rootfs.ext4 may be wrong or short. */
enum entry { ENTRY_WHOLE, ENTRY_SIZE, ENTRY_OTHER_SIZE, ENTRY_OTHER_DIGEST, ENTRY_NONE };
static enum entry entry;

static int put_entry(int dir, const char *name, enum entry as, struct buf *b)
{
    char hex[SHA256_HEX_SIZE];
    struct stat st;
    CLEAN_FD int fd = openat(dir, name, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0 || sha256_fd(fd, hex) < 0)
        return -EIO;
    if (as == ENTRY_OTHER_DIGEST)
        hex[0] = hex[0] == '0' ? '1' : '0';
    if (as == ENTRY_SIZE)
        return buf_printf(b, "\"%s\":{\"size\":%lld}", name, (long long)st.st_size);
    return buf_printf(b, "\"%s\":{\"size\":%lld,\"sha256\":\"%s\"}", name,
                      (long long)st.st_size + (as == ENTRY_OTHER_SIZE), hex);
}

static int put_manifest(int dir)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    int r = buf_str(&b, "{\"schema_version\":1,\"contract_version\":1,\"artifacts\":{");
    if (r == 0)
        r = put_entry(dir, "vmlinux", ENTRY_WHOLE, &b);
    if (r == 0)
        r = buf_str(&b, ",");
    if (r == 0)
        r = put_entry(dir, "cmdline.txt", ENTRY_WHOLE, &b);
    if (r == 0 && entry != ENTRY_NONE)
        r = buf_str(&b, ",");
    if (r == 0 && entry != ENTRY_NONE)
        r = put_entry(dir, "rootfs.ext4", entry, &b);
    if (r == 0)
        r = buf_str(&b, "}}");
    return r < 0 ? r : put_at(dir, "manifest.json", b.data, b.len);
}

/* Everything a bootstrap does to the cache but the VM. */
static int make_image(const char *fingerprint, uint8_t mark, struct mvm_error *err)
{
    CLEAN_BUILDERCACHE_STAGE struct buildercache_stage s = BUILDERCACHE_STAGE_INIT;
    struct buildercache_want w = {.kind = "source-checkout"};
    snprintf(w.fingerprint, sizeof(w.fingerprint), "%s", fingerprint);
    const struct lock_wait wait = {.deadline = clock_deadline(20000)};
    int r = buildercache_stage_open(&s, &home, &wait, err);
    if (r == 0)
        r = put_kernel(s.fd, mark);
    if (r == 0)
        r = put_rootfs(s.fd, mark);
    if (r == 0)
        r = put_at(s.fd, "cmdline.txt", "quiet\n", 6);
    if (r == 0)
        r = put_manifest(s.fd);
    return r < 0 ? r : buildercache_promote(&s, &home, &w, "current", json_object_new_array(), err);
}

static const char *verdict(bool verify)
{
    static struct mvm_error e;
    enum cache_reason reason;
    int r = buildercache_judge(&home, &want, verify, &reason, NULL, &e);
    return r < 0 ? e.msg : cache_reason_name(reason);
}

/* ---- Damage: one way for each reason ---- */

static int image_dir(void)
{
    return openat(home.cache_fd, live, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void rewrite(int dir, const char *name, const char *text)
{
    (void)!unlinkat(dir, name, 0);
    if (text && put_at(dir, name, text, strlen(text)) < 0)
        abort();
}

static void no_rootfs(int dir)
{
    rewrite(dir, "rootfs.ext4", NULL);
}
static void short_kernel(int dir)
{
    rewrite(dir, "vmlinux", "\177ELF");
}
static void no_fingerprint(int dir)
{
    rewrite(dir, ".mvm-source.sha256", NULL);
}
static void other_fingerprint(int dir)
{
    /* In the same file as the reason before it: not there is not there. */
    if (faccessat(dir, ".mvm-source.sha256", F_OK, 0) == 0)
        rewrite(dir, ".mvm-source.sha256", NEW "\n");
}
static void no_digests(int dir)
{
    rewrite(dir, ".mvm-artifacts.sha256", NULL);
}
static void other_cmdline(int dir)
{
    rewrite(dir, "cmdline.txt", "loud\n");
}
static void no_provenance(int dir)
{
    rewrite(dir, ".mvm-provenance.json", NULL);
}
static void other_provenance(int dir)
{
    if (faccessat(dir, ".mvm-provenance.json", F_OK, 0) == 0)
        rewrite(dir, ".mvm-provenance.json", "{\"schema_version\":2}");
}

static void (*const damages[])(int dir) = {
    [CACHE_MISSING_ARTIFACT] = no_rootfs,
    [CACHE_INVALID_STAGE0_ARTIFACTS] = short_kernel,
    [CACHE_MISSING_FINGERPRINT] = no_fingerprint,
    [CACHE_FINGERPRINT_MISMATCH] = other_fingerprint,
    [CACHE_MISSING_ARTIFACT_DIGEST_MANIFEST] = no_digests,
    [CACHE_ARTIFACT_DIGEST_MISMATCH] = other_cmdline,
    [CACHE_MISSING_PROVENANCE] = no_provenance,
    [CACHE_PROVENANCE_MISMATCH] = other_provenance,
};

static void fresh(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    if (path_remove_tree(home.cache_fd, "builder-vm") < 0 || make_image(OLD, 'o', &e) < 0) {
        printf("# %s\n", e.msg);
        abort();
    }
}

static void test_reasons(void)
{
    ok(strcmp(verdict(false), "missing_artifact") == 0, "an empty cache");
    for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
        for (size_t j = i; j < ARRAY_SIZE(damages); j++) {
            fresh();
            CLEAN_FD int dir = image_dir();
            damages[j](dir);
            damages[i](dir);
            const char *got = verdict(false), *expected = cache_reason_name((enum cache_reason)i);
            ok(strcmp(got, expected) == 0, "%s%s%s: %s", expected, i == j ? "" : " and ",
               i == j ? "" : cache_reason_name((enum cache_reason)j), got);
        }
    }
}

static void test_digests(void)
{
    fresh();
    ok(strcmp(verdict(false), "hit") == 0 && strcmp(verdict(true), "hit") == 0, "a whole image is a hit");
    CLEAN_FD int dir = image_dir();
    struct stat st;
    fstatat(dir, "rootfs.ext4", &st, 0);
    CLEAN_FD int fd = openat(dir, "rootfs.ext4", O_RDWR);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    ok(fd_pwrite_all(fd, "X", 1, 3000000) == 0 && futimens(fd, times) == 0, "(a bit flips, the time is put back)");
    ok(strcmp(verdict(false), "artifact_digest_mismatch") == 0, "of the right size, wrong content: noticed");
    ok(fd_pwrite_all(fd, "o", 1, 3000000) == 0 && strcmp(verdict(false), "hit") == 0, "put right, it is a hit");
    put_at(dir, "initrd", "x", 1);
    ok(strcmp(verdict(false), "artifact_digest_mismatch") == 0, "one artifact too many");
    rewrite(dir, "initrd", NULL);
    ok(symlinkat("vmlinux", dir, "link") == 0 && renameat(dir, "vmlinux", dir, "real") == 0 &&
           symlinkat("real", dir, "vmlinux") == 0 && strcmp(verdict(false), "invalid_stage0_artifacts") == 0,
       "a symlink in place of an artifact is none");
    struct buildercache_want release = {.kind = "release", .fingerprint = OLD};
    enum cache_reason reason;
    fresh();
    ok(buildercache_judge(&home, &release, false, &reason, NULL, NULL) == 0 && reason == CACHE_PROVENANCE_MISMATCH,
       "another kind of mvmctl does not take it");
}

/* T8: the kernel itself refuses to write to what is sealed, where it and the file system can. */
static void test_verity(void)
{
    fresh();
    CLEAN_FD int dir = image_dir();
    if (put_at(dir, "scratch", "x", 1) < 0)
        abort();
    CLEAN_FD int scratch = openat(dir, "scratch", O_RDONLY | O_CLOEXEC);
    int r = os_enable_verity(scratch);
    (void)!unlinkat(dir, "scratch", 0);
    if (r < 0) {
        ok(true, "T8: an image is sealed with fs-verity # SKIP the file system or the kernel has none: %s",
           strerror(-r));
        return;
    }
    struct statx st = {0};
    ok(statx(dir, "rootfs.ext4", 0, STATX_BASIC_STATS, &st) == 0 && (st.stx_attributes & STATX_ATTR_VERITY) &&
           openat(dir, "rootfs.ext4", O_RDWR | O_CLOEXEC) < 0,
       "T8: an image is sealed with fs-verity");
}

static int judge(void)
{
    enum cache_reason reason;
    int r = buildercache_judge(&home, &want, true, &reason, NULL, NULL);
    return r < 0 ? r : (int)reason;
}

static bool is_no_wrong_verdict(int r)
{
    return r < 0 || r == CACHE_HIT;
}

static void test_unreadable(void)
{
    unsigned n;
    fresh();
    bool right = each_open_fails(judge, is_no_wrong_verdict, &n);
    ok(right && n >= 20, "R2: a builder image that cannot be read now is not judged to be damaged or absent (%u opens)",
       n);
}

static bool exists(const char *suffix)
{
    struct utsname u;
    char name[512];
    uname(&u);
    snprintf(name, sizeof(name), "builder-vm/.%s%s", u.machine, suffix);
    return faccessat(home.cache_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_replace(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    fresh();
    CLEAN_BUILDERCACHE_IMAGE struct buildercache_image img = BUILDERCACHE_IMAGE_INIT;
    enum cache_reason reason;
    ok(buildercache_judge(&home, &want, false, &reason, &img, &e) == 0 && reason == CACHE_HIT && img.path,
       "a hit is held open");
    fd_closep(&img.live_lock); /* or replacing would wait */
    ok(make_image(NEW, 'n', &e) == 0, "another image takes its place (%s)", e.msg);
    struct stat st;
    ok(fstatat(img.dirfd, "rootfs.ext4", &st, 0) == 0 && exists(".previous"),
       "who has the old one open keeps it; it is kept until the new one has booted");
    ok(strcmp(verdict(false), "fingerprint_mismatch") == 0, "the new one is live");
    ok(make_image(OLD, 'o', &e) == 0 && exists(".previous"), "an image that never booted is not kept");
    CLEAN_BUF struct buf b = BUF_INIT(256);
    struct utsname u;
    char name[512];
    uname(&u);
    snprintf(name, sizeof(name), "builder-vm/.%s.previous/.mvm-source.sha256", u.machine);
    ok(path_read_file(home.cache_fd, name, &b, &e) == 0 && strncmp(buf_cstr(&b), OLD, 64) == 0,
       "but the one before is");
    buildercache_booted(&home);
    ok(!exists(".previous"), "until the new one has booted");

    /* A manifest that does not tell what is there. */
    CLEAN_BUILDERCACHE_STAGE struct buildercache_stage s = BUILDERCACHE_STAGE_INIT;
    ok(buildercache_stage_open(&s, &home, NULL, &e) == 0 && put_kernel(s.fd, 'x') == 0 && put_rootfs(s.fd, 'x') == 0 &&
           put_at(s.fd, "cmdline.txt", "quiet\n", 6) == 0 && put_manifest(s.fd) == 0 && put_rootfs(s.fd, 'y') == 0,
       "(an image whose root file system changed on the way)");
    ok(buildercache_promote(&s, &home, &want, "x", json_object_new_array(), &e) == -EBADMSG, "is not promoted: %s",
       e.msg);
    ok(put_manifest(s.fd) == 0 && put_at(s.fd, "vmlinux", "short", 5) == 0 &&
           buildercache_promote(&s, &home, &want, "x", json_object_new_array(), &e) == -EINVAL,
       "nor is one without a kernel");
    struct buildercache_stage other = BUILDERCACHE_STAGE_INIT;
    ok(buildercache_stage_open(&other, &home, NULL, &e) == -EAGAIN && strstr(e.msg, "building the builder image"),
       "while one builds nobody else does: %s", e.msg);
    buildercache_stage_done(&other);
    buildercache_stage_done(&s);
    ok(strcmp(verdict(true), "hit") == 0, "the live image is what it was");
}

/* ---- Kills ---- */

static bool nothing_left(void)
{
    struct buildercache_leftovers left;
    return buildercache_leftovers(&home, &left, NULL) == 0 && left.stages == 0 && !left.building;
}

static void test_kills(void)
{
    const unsigned kills = tap_rounds(12, 200), most = 200;
    unsigned old = 0, new = 0, wrong = 0, left = 0;
    struct mvm_error e = MVM_ERROR_INIT;
    struct buildercache_want w = want;
    srand((unsigned)clock_now());
    fresh();
    /* How long it takes undisturbed, in a child like those that are killed. */
    uint64_t usual = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t start = clock_now();
        pid_t pid = fork();
        if (pid == 0)
            _exit(make_image(NEW, 'n', NULL) < 0);
        waitpid(pid, NULL, 0);
        usual = MAX_OF(usual, clock_now() - start);
    }
    printf("# undisturbed: %.1f ms\n", (double)usual / 1e6);
    unsigned i = 0;
    /* When a kill hits is chance: it goes on until both sides of the exchange were hit. */
    for (; i < kills || (i < most && !(old && new)); i++) {
        const char *next = i % 2 ? NEW : OLD, *before = i % 2 ? OLD : NEW;
        pid_t pid = fork();
        if (pid == 0)
            _exit(make_image(next, i % 2 ? 'n' : 'o', NULL) < 0);
        struct timespec ts = {.tv_nsec = (long)((uint64_t)rand() % (usual + usual / 4))};
        nanosleep(&ts, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        snprintf(w.fingerprint, sizeof(w.fingerprint), "%s", before);
        enum cache_reason as_before, as_next;
        if (buildercache_judge(&home, &w, true, &as_before, NULL, NULL) < 0)
            wrong++;
        snprintf(w.fingerprint, sizeof(w.fingerprint), "%s", next);
        if (buildercache_judge(&home, &w, true, &as_next, NULL, NULL) < 0)
            wrong++;
        old += as_before == CACHE_HIT;
        new += as_next == CACHE_HIT;
        wrong += (as_before == CACHE_HIT) == (as_next == CACHE_HIT);
        /* The next command builds it, and sweeps. */
        if (as_next != CACHE_HIT && make_image(next, i % 2 ? 'n' : 'o', &e) < 0)
            wrong++;
        if (as_next == CACHE_HIT && buildercache_clean(&home, false, &e) < 0)
            wrong++;
        left += !nothing_left();
    }
    printf("# %u kills: %u times the old image was there, %u times the new one\n", i, old, new);
    ok(wrong == 0, "after each kill there is the old image or the new one, whole");
    ok(left == 0, "and after the next command nothing else");
    ok(old > 0 && new > 0, "(the kills came before and after the exchange)");
}

static bool is_digest_of(int dir, const char *name, const char *digest)
{
    char hex[SHA256_HEX_SIZE];
    CLEAN_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && sha256_fd(fd, hex) == 0 && strcmp(hex, digest) == 0;
}

/* The manifest that comes with an image is compared with what came. */
static void test_manifest(void)
{
    static const struct {
        enum entry entry;
        bool taken;
        const char *what;
    } cases[] = {
        {ENTRY_SIZE, true, "a manifest without digests is taken, for a builder writes none"},
        {ENTRY_OTHER_SIZE, false, "one that says another size is not"},
        {ENTRY_OTHER_DIGEST, false, "one that says another digest is not"},
        {ENTRY_NONE, false, "one that does not name a file is not"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        entry = cases[i].entry;
        int r = make_image(OLD, 'o', &e);
        ok((r == 0) == cases[i].taken, "%s", cases[i].what);
    }
    struct manifest m;
    CLEAN_FD int dir = image_dir();
    ok(manifest_load(&m, dir, NULL) == 0 && is_digest_of(dir, "rootfs.ext4", m.artifacts[ARTIFACT_ROOTFS].sha256),
       "the cache completes it");
    ok(strcmp(verdict(true), "hit") == 0, "and lists the digest that it has then");
    entry = ENTRY_WHOLE;
}

/* The files by themselves. */
static void test_files(void)
{
    const char *folder = tap_folder();
    CLEAN_BUF struct buf digests = BUF_INIT(4096);
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[NAME_SIZE];
    buildercache_hidden_name(name, sizeof(name), ".live");
    ok(name[0] == '.' && strcmp(name + strlen(name) - 5, ".live") == 0,
       "a lock's name begins with a dot, then the machine's");
    ok(dir >= 0 && path_write_file(dir, "initrd", "abc", 3, 0644, false, NULL) == 0 &&
           symlinkat("initrd", dir, "vmlinux") == 0 && buildercache_open_file(dir, "vmlinux") == -EINVAL &&
           buildercache_open_file(dir, "rootfs.ext4") == -ENOENT,
       "a symlink is no artifact");
    ok(unlinkat(dir, "vmlinux", 0) == 0 && buildercache_list_digests(dir, NULL, true, &digests) == 0 &&
           strcmp(buf_cstr(&digests), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  initrd\n") ==
               0,
       "digests are listed as sha256sum does it");
    (void)!path_remove_tree(AT_FDCWD, folder);
}

int main(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct utsname u;
    uname(&u);
    snprintf(live, sizeof(live), "builder-vm/%.40s", u.machine);
    snprintf(want.fingerprint, sizeof(want.fingerprint), OLD);
    const char *where = tap_memory_folder(); /* for 600 images */
    setenv("MVM_HOME", where, 1);
    char cache[300];
    snprintf(cache, sizeof(cache), "%s/cache", where);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (home_open(&home, &e) < 0) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    test_files();
    test_reasons();
    test_digests();
    test_unreadable();
    test_verity();
    test_replace();
    test_kills();
    test_manifest();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, where);
    return tap_end();
}
