#include "tap.h"
#include "unreadable.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cache/artifacts.h"
#include "cache/fingerprint.h"
#include "cache/lock.h"
#include "cache/records.h"
#include "cache/statindex.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static int folder = -1;

#define DIGEST_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void digest_of(const char *label, const char *value, const char *label2, char out[static SHA256_HEX_SIZE])
{
    struct fingerprint f;
    fingerprint_init(&f, "test");
    fingerprint_add_string(&f, label, value);
    if (label2)
        fingerprint_add_string(&f, label2, "");
    fingerprint_final(&f, out);
}

static void test_fingerprint(void)
{
    char a[SHA256_HEX_SIZE], b[SHA256_HEX_SIZE];
    digest_of("a", "bc", NULL, a);
    digest_of("ab", "c", NULL, b);
    ok(strcmp(a, b) != 0, "where a label ends matters");
    digest_of("a", "", "bc", b);
    ok(strcmp(a, b) != 0, "so does how many fields there are");
    digest_of("a", "bc", NULL, b);
    ok(strcmp(a, b) == 0, "the same is the same");
}

static void said(void *data, const char *holder)
{
    snprintf(data, 100, "%s", holder);
}

static void test_lock(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    int ready[2];
    char byte;
    if (pipe(ready) < 0)
        abort();
    pid_t holder = fork();
    if (holder == 0) {
        struct lock l = LOCK_INIT;
        if (lock_take(&l, folder, "lock", "testing", NULL, NULL) == 0)
            (void)!write(ready[1], "x", 1);
        pause();
        _exit(0);
    }
    if (read(ready[0], &byte, 1) != 1)
        abort();
    struct lock l = LOCK_INIT;
    ok(lock_is_held(folder, "lock") == 1, "a lock is seen from outside");
    ok(lock_take(&l, folder, "lock", "me", NULL, &e) == -EAGAIN && strstr(e.msg, "testing"), "its holder is named");
    char holder_text[100] = "";
    struct lock_wait wait = {.waiting = said, .data = holder_text, .deadline = clock_deadline(50)};
    ok(lock_take(&l, folder, "lock", "me", &wait, &e) == -ETIMEDOUT && strstr(holder_text, "testing"),
       "waiting has a deadline and says for whom");
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    ok(lock_take(&l, folder, "lock", "me", NULL, &e) == 0, "a killed holder's lock is free");
    lock_done(&l);
    ok(lock_is_held(folder, "lock") == 0 && lock_is_held(folder, "nothing") == 0, "and seen to be");
    close(ready[0]);
    close(ready[1]);
}

/* Enters the file as somebody who read it a good while after its last change. */
static void enter(struct statindex *s, const char *name, const char *digest)
{
    struct stat st;
    if (fstatat(folder, name, &st, 0) < 0)
        abort();
    statindex_put(s, name, &st, clock_wall() + 10 * NSEC_PER_SEC, digest);
}

static bool knows(struct statindex *s, const char *name, const char *digest)
{
    struct stat st;
    char found[SHA256_HEX_SIZE];
    return fstatat(folder, name, &st, 0) == 0 && statindex_get(s, name, &st, found) && strcmp(found, digest) == 0;
}

static void test_statindex(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    if (path_write_file(folder, "f", "one", 3, 0644, false, &e) < 0 ||
        path_write_file(folder, "g", "one", 3, 0644, false, &e) < 0)
        abort();
    struct statindex *s = statindex_load(home.cache_fd, "tree");
    ok(!knows(s, "f", DIGEST_A), "an empty index knows nothing");
    enter(s, "f", DIGEST_A);
    enter(s, "g", DIGEST_B);
    statindex_save(s);
    statindex_free(s);
    s = statindex_load(home.cache_fd, "tree");
    ok(knows(s, "f", DIGEST_A) && knows(s, "g", DIGEST_B), "a saved one knows");
    struct statindex *other = statindex_load(home.cache_fd, "another tree");
    ok(!knows(other, "f", DIGEST_A), "for its own tree only");
    statindex_free(other);

    struct timespec times[2];
    struct stat before;
    fstatat(folder, "f", &before, 0);
    times[0] = before.st_atim;
    times[1] = before.st_mtim;
    usleep(20000);
    CLEAN_FD int fd = openat(folder, "f", O_WRONLY | O_CLOEXEC);
    ok(fd_pwrite_all(fd, "two", 3, 0) == 0 && futimens(fd, times) == 0 && !knows(s, "f", DIGEST_A),
       "a file rewritten in place, with size and mtime put back, is not known");
    ok(path_write_file(folder, "g", "two", 3, 0644, false, &e) == 0 && !knows(s, "g", DIGEST_B),
       "nor is one that was replaced");
    ok(fchmodat(folder, "g", 0755, 0) == 0, "(a mode changes)");
    enter(s, "g", DIGEST_B);
    ok(fchmodat(folder, "g", 0644, 0) == 0 && !knows(s, "g", DIGEST_B), "nor one whose mode changed");

    struct stat now;
    fstatat(folder, "g", &now, 0);
    statindex_put(s, "g", &now, (uint64_t)now.st_ctim.tv_sec * NSEC_PER_SEC + (uint64_t)now.st_ctim.tv_nsec, DIGEST_B);
    statindex_save(s);
    statindex_free(s);
    s = statindex_load(home.cache_fd, "tree");
    ok(!knows(s, "g", DIGEST_B), "a file read in the moment of its change is not entered");
    statindex_free(s);
}

static struct build_record sample(const char *fingerprint, const char *image)
{
    struct build_record r = {
        .built_at = 5, .ref = "/home/x/flake", .attr = "packages.x86_64-linux.default", .store_path = "/nix/store/x"};
    memcpy(r.fingerprint, fingerprint, SHA256_HEX_SIZE);
    memcpy(r.image, image, SHA256_HEX_SIZE);
    return r;
}

static void test_records(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct build_record r = sample(DIGEST_A, DIGEST_B), got;
    bool damaged = false;
    ok(build_record_load(&home, DIGEST_A, &got, &damaged, &e) == -ENOENT && !damaged, "no record at first");
    ok(build_record_save(&home, &r, &e) == 0 && build_record_load(&home, DIGEST_A, &got, &damaged, &e) == 0 &&
           strcmp(got.image, DIGEST_B) == 0 && strcmp(got.ref, r.ref) == 0,
       "a record is kept");
    ok(build_record_last(&home, r.ref, r.attr, &got, &damaged, &e) == 0 && strcmp(got.image, DIGEST_B) == 0,
       "and found by reference");
    ok(build_record_last(&home, r.ref, "packages.x86_64-linux.other", &got, &damaged, &e) == -ENOENT,
       "for its attribute only");
    CLEAN_FD int dir = openat(home.cache_fd, "builds", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    static const char *const broken[] = {"", "{", "{}", "{\"schema_version\":1,\"image\":\"../../x\"}"};
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        damaged = false;
        ok(build_record_save(&home, &r, &e) == 0 &&
               path_write_file(dir, DIGEST_A ".json", broken[i], strlen(broken[i]), 0600, false, &e) == 0 &&
               build_record_load(&home, DIGEST_A, &got, &damaged, &e) == -ENOENT && damaged &&
               faccessat(dir, DIGEST_A ".json", F_OK, 0) < 0,
           "a damaged record (%s) is told and removed", broken[i]);
    }
}

/* R1: a reference means the image that was built or found last. */
static void test_reference(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct build_record a = sample(DIGEST_A, DIGEST_A), b = sample(DIGEST_B, DIGEST_B), got;
    bool damaged;
    ok(build_record_save(&home, &a, &e) == 0 && build_record_save(&home, &b, &e) == 0 &&
           build_record_last(&home, a.ref, a.attr, &got, &damaged, &e) == 0 && strcmp(got.image, DIGEST_B) == 0 &&
           build_record_point(&home, &a, &e) == 0 && build_record_last(&home, a.ref, a.attr, &got, &damaged, &e) == 0 &&
           strcmp(got.image, DIGEST_A) == 0,
       "R1: a reference built as A, B and found as A again means A");
}

/* R2: what cannot be read now is not damaged. */
static void test_unreadable(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct build_record r = sample(DIGEST_A, DIGEST_B), got;
    struct rlimit had, none;
    bool damaged = false;
    if (build_record_save(&home, &r, &e) < 0 || getrlimit(RLIMIT_NOFILE, &had) < 0)
        abort();
    int first_free = dup(folder);
    close(first_free);
    none = had;
    for (int spare = 0; spare < 3; spare++) {
        none.rlim_cur = (rlim_t)(first_free + spare);
        setrlimit(RLIMIT_NOFILE, &none);
        int found = build_record_load(&home, DIGEST_A, &got, &damaged, &e);
        setrlimit(RLIMIT_NOFILE, &had);
        ok((found == 0 || found == -EMFILE) && !damaged &&
               build_record_load(&home, DIGEST_A, &got, &damaged, &e) == 0 && !damaged,
           "R2: a record outlives being read with %d descriptors to spare", spare);
    }
}

/* T9: each byte of a record and of a reference's record is covered by its digest. */
static void test_flipped(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct build_record r = sample(DIGEST_A, DIGEST_B), got;
    CLEAN_BUF struct buf text = BUF_INIT(64 * 1024);
    CLEAN_FD int dir = openat(home.cache_fd, "builds", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (build_record_save(&home, &r, &e) < 0 || path_read_file(dir, DIGEST_A ".json", &text, &e) < 0)
        abort();
    unsigned taken = 0;
    bool damaged;
    for (size_t i = 0; i < text.len; i++) {
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            text.data[i] ^= (char)bit;
            if (path_write_file(dir, DIGEST_A ".json", text.data, text.len, 0600, false, &e) < 0)
                abort();
            int found = build_record_load(&home, DIGEST_A, &got, &damaged, &e);
            bool same = found == 0 && strcmp(got.image, r.image) == 0 && strcmp(got.store_path, r.store_path) == 0 &&
                        strcmp(got.ref, r.ref) == 0 && strcmp(got.attr, r.attr) == 0 && got.built_at == r.built_at;
            taken += found == 0 && !same; /* other white space says the same */
            text.data[i] ^= (char)bit;
        }
    }
    ok(taken == 0, "T9: of %zu records with one bit changed none is believed (%u)", 8 * text.len, taken);
    build_record_remove(&home, DIGEST_A);
}

/* T12: only what is mvmctl's own is used and made private, and nothing that others can write to. */
static int open_home_at(mode_t mode, struct mvm_error *e)
{
    CLEAN_HOME struct home h = HOME_INIT;
    if (fchmodat(folder, "x", mode, 0) < 0)
        abort();
    return home_open(&h, e);
}

static void put_in_home(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "x/%s", name);
    CLEAN_FD int fd =
        path_make_parents(folder, path, 0755) < 0 ? -1 : openat(folder, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
}

static void test_homes(void)
{
    static const struct {
        const char *holds[3];
        mode_t mode;
        int expect;
        const char *what;
    } cases[] = {
        {{NULL}, 0700, 0, "an empty folder"},
        {{NULL}, 0755, 0, "an empty folder that others can read"},
        {{NULL}, 0777, -EPERM, "an empty folder that others can write"},
        {{NULL}, 0770, -EPERM, "an empty folder that a group can write"},
        {{NULL}, 01777, -EPERM, "an empty folder like /tmp"},
        {{"config.toml"}, 0700, 0, "a folder with the user's config.toml alone"},
        {{"kernels/x"}, 0755, 0, "a folder with kernels alone"},
        {{"letter"}, 0755, -EPERM, "a folder with something else in it"},
        {{"letter"}, 0700, -EPERM, "a private folder with something else in it"},
        {{"vms/a", "dev/x"}, 0700, 0, "a private folder that an mvmctl before the marker made"},
        {{"vms/a", "dev/x"}, 0755, -EPERM, "a folder that has names of mvmctl's, no marker, and is not private"},
        {{"vms/a", "letter"}, 0700, -EPERM, "a private folder that has names of mvmctl's, and another one"},
        {{"vms/a", ".mvm/x"}, 0700, -EPERM, "a private folder with a folder in place of the marker"},
        {{"vms/a", ".mvm"}, 0755, 0, "a folder of mvmctl's that others can read"},
        {{"vms/a", ".mvm"}, 0777, -EPERM, "a folder of mvmctl's that others can write"},
    };
    CLEAN_FREE char *was = strdup(getenv("MVM_HOME"));
    char path[512];
    struct stat st;
    snprintf(path, sizeof(path), "%s/../x", was);
    setenv("MVM_HOME", path, 1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        if (path_remove_tree(folder, "x") < 0 || path_make_parents(folder, "x/y", 0700) < 0)
            abort();
        for (size_t k = 0; cases[i].holds[k]; k++)
            put_in_home(cases[i].holds[k]);
        int r = open_home_at(cases[i].mode, &e);
        ok(r == cases[i].expect && fstatat(folder, "x", &st, 0) == 0 &&
               (st.st_mode & 07777) == (r == 0 ? 0700 : cases[i].mode) &&
               (r < 0 ? e.hint[0] != 0 : fstatat(folder, "x/.mvm", &st, 0) == 0),
           "T12: %s is %s", cases[i].what, r == 0 ? "taken and made private" : "refused and left as it is");
    }
    (void)!path_remove_tree(folder, "x");
    if (path_make_parents(folder, "x/y", 0700) < 0 || open_home_at(0700, NULL) < 0)
        abort();
    ok(open_home_at(0700, NULL) == 0, "T12: a folder that was made by mvmctl is taken again");
    put_in_home("dev/x");
    struct mvm_error e = MVM_ERROR_INIT;
    if (geteuid() != 0 || fchownat(folder, "x/dev", 12345, (gid_t)-1, 0) < 0)
        ok(true, "T12: a subfolder of another owner is refused # SKIP only root can make one");
    else
        ok(open_home_at(0700, &e) == -EPERM && strstr(e.msg, "'dev'"), "T12: a subfolder of another owner is refused");
    setenv("MVM_HOME", was, 1);
}

/* R8: threads wait for locks at the same time, each with a deadline of its own. */
static void *wait_in_thread(void *name)
{
    struct lock l = LOCK_INIT;
    struct lock_wait wait = {.deadline = clock_deadline(20)};
    int r = lock_take(&l, folder, name, "a thread", &wait, NULL);
    lock_done(&l);
    return r == -ETIMEDOUT ? name : NULL;
}

static void test_lock_threads(void)
{
    static char names[2][8] = {"one", "two"};
    struct lock held[2] = {LOCK_INIT, LOCK_INIT};
    pthread_t threads[16];
    unsigned timed_out = 0;
    for (size_t i = 0; i < 2; i++)
        if (lock_take(&held[i], folder, names[i], "the test", NULL, NULL) < 0)
            abort();
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        if (pthread_create(&threads[i], NULL, wait_in_thread, names[i % 2]) != 0)
            abort();
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *got = NULL;
        pthread_join(threads[i], &got);
        timed_out += got != NULL;
    }
    ok(timed_out == ARRAY_SIZE(threads), "R8: sixteen threads wait for locks and each meets its deadline (%u)",
       timed_out);
    lock_done(&held[0]);
    lock_done(&held[1]);
}

/* ---- T9: images ---- */

static const char *const image_files[] = {"vmlinux", "rootfs.ext4", "image.json", "manifest.json"};
static char image_digest[SHA256_HEX_SIZE];

/* A small image with metadata, as it is kept; no kernel is looked at in one that is kept. */
static int make_image(void)
{
    static const char metadata[] = "{\"name\": \"x\", \"system\": \"x86_64-linux\", \"memory_mib\": 256}\n";
    const char *const texts[] = {"kernel", "root", metadata};
    struct manifest m = {0};
    char path[512];
    (void)!path_remove_tree(home.cache_fd, "artifacts/made");
    CLEAN_FD int dir = path_open_dir(home.cache_fd, "artifacts/made", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct artifact_info *a = &m.artifacts[artifact_parse(image_files[i])];
        *a = (struct artifact_info){.present = true, .size = strlen(texts[i])};
        if (path_write_file(dir, image_files[i], texts[i], strlen(texts[i]), 0600, false, NULL) < 0)
            abort();
        CLEAN_FD int fd = openat(dir, image_files[i], O_RDONLY | O_CLOEXEC);
        if (sha256_fd(fd, a->sha256) < 0)
            abort();
    }
    manifest_digest(&m, image_digest);
    snprintf(path, sizeof(path), "artifacts/%s", image_digest);
    (void)!path_remove_tree(home.cache_fd, path);
    if (manifest_save(&m, dir, NULL) < 0 || renameat(home.cache_fd, "artifacts/made", home.cache_fd, path) < 0)
        abort();
    return openat(home.cache_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_image(void)
{
    CLEAN_ARTIFACT_IMAGE struct artifact_image img = ARTIFACT_IMAGE_INIT;
    return artifact_image_open(&img, &home, image_digest, NULL);
}

static void test_image_flips(void)
{
    for (size_t f = 0; f < ARRAY_SIZE(image_files); f++) {
        CLEAN_BUF struct buf text = BUF_INIT(4096);
        CLEAN_FD int first = make_image();
        unsigned taken = 0, kept = 0;
        if (path_read_file(first, image_files[f], &text, NULL) < 0)
            abort();
        for (size_t i = 0; i < text.len; i++) {
            CLEAN_FD int dir = make_image();
            text.data[i] ^= (uint8_t)(1 << i % 8);
            if (path_write_file(dir, image_files[f], text.data, text.len, 0600, false, NULL) < 0)
                abort();
            text.data[i] ^= (uint8_t)(1 << i % 8);
            int r = open_image();
            /* White space of a manifest that is other white space says the same: digest and sizes are checked. */
            taken += r == 0 && !(f == 3 && isspace(text.data[i]));
            kept += r < 0 && r != -EBADMSG;
        }
        ok(taken == 0 && kept == 0, "T9: of %zu images with one bit of a byte of %s changed none boots (%u)", text.len,
           image_files[f], taken);
    }
}

static void test_unlisted(void)
{
    static const char *const names[] = {"cmdline.txt", "initrd", "cmdline.txt.new", ".hidden", "manifest.json.bak"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        CLEAN_ARTIFACT_IMAGE struct artifact_image img = ARTIFACT_IMAGE_INIT;
        CLEAN_FD int dir = make_image();
        ok(open_image() == 0 && path_write_file(dir, names[i], "x", 1, 0600, false, NULL) == 0 &&
               artifact_image_open(&img, &home, image_digest, &e) == -EBADMSG && strstr(e.msg, names[i]),
           "T9: an image is refused when it has a %s that its manifest does not list (%s)", names[i], e.msg);
    }
}

/* ---- R2: each open fails in turn ---- */

static int find_last(void)
{
    struct build_record r = sample(DIGEST_A, DIGEST_B), got;
    bool damaged;
    int found = build_record_last(&home, r.ref, r.attr, &got, &damaged, NULL);
    return damaged ? -ENOENT : found;
}

static bool is_not_absent(int r)
{
    return r != -ENOENT;
}

static int count_paths(void)
{
    struct msg_strings got = {0};
    int r = build_record_store_paths(&home, 9, &got, NULL);
    msg_strings_done(&got);
    return r < 0 ? r : (int)got.n;
}

static bool is_one_or_error(int r)
{
    return r < 0 || r == 1;
}

static int index_another(void)
{
    struct stat st;
    char digest[SHA256_HEX_SIZE];
    struct statindex *s = statindex_load(home.cache_fd, "R2");
    if (!s || fstat(folder, &st) < 0)
        abort();
    bool known = statindex_get(s, "first", &st, digest);
    statindex_put(s, "another", &st, UINT64_MAX, DIGEST_A);
    statindex_save(s);
    statindex_free(s);
    return known;
}

static bool first_is_known(int r)
{
    return index_another();
}

static int spoil(void *data, const char *name)
{
    return path_write_file(*(int *)data, name, "{", 1, 0600, false, NULL);
}

static void test_each_unreadable(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct build_record r = sample(DIGEST_A, DIGEST_B), got;
    struct stat st;
    bool damaged;
    unsigned n;
    if (build_record_save(&home, &r, &e) < 0 || path_make_parents(home.cache_fd, "artifacts/" DIGEST_B "/x", 0700) < 0)
        abort();
    bool right = each_open_fails(find_last, is_not_absent, &n);
    ok(right && n >= 4 && find_last() == 0, "R2: what a reference was built to last is not forgotten (%u opens)", n);
    right = each_open_fails(count_paths, is_one_or_error, &n);
    ok(right && n >= 4, "R2: an output that is needed is never left out of the list of needed ones (%u opens)", n);
    struct statindex *s = statindex_load(home.cache_fd, "R2");
    fstat(folder, &st);
    statindex_put(s, "first", &st, UINT64_MAX, DIGEST_A);
    statindex_save(s);
    statindex_free(s);
    right = each_open_fails(index_another, first_is_known, &n);
    ok(right && n >= 4, "R2: a stat index that cannot be read now is not replaced (%u opens)", n);
    CLEAN_FD int refs = openat(home.cache_fd, "builds/refs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)!path_each(refs, ".", spoil, &refs);
    ok(build_record_last(&home, r.ref, r.attr, &got, &damaged, &e) == -ENOENT && damaged,
       "R2: a damaged record of what was built last is said to be damaged, not absent");
    (void)!path_remove_tree(home.cache_fd, "artifacts/" DIGEST_B);
    build_record_remove(&home, DIGEST_A);
}

/* What of the builder's store belongs to images that are there. */
static void test_outputs(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct msg_strings got = {0};
    struct build_record a = sample(DIGEST_A, DIGEST_A), b = sample(DIGEST_B, DIGEST_B);
    a.built_at = 7;
    strcpy(a.store_path, "/nix/store/new");
    if (build_record_save(&home, &a, &e) < 0 || build_record_save(&home, &b, &e) < 0 ||
        path_make_parents(home.cache_fd, "artifacts/" DIGEST_A "/x", 0700) < 0 ||
        path_make_parents(home.cache_fd, "artifacts/" DIGEST_B "/x", 0700) < 0)
        abort();
    ok(build_record_store_paths(&home, 9, &got, &e) == 0 && got.n == 2 && strcmp(got.v[0], "/nix/store/new") == 0 &&
           strcmp(got.v[1], "/nix/store/x") == 0 && !got.v[2],
       "outputs, the newest first");
    msg_strings_done(&got);
    ok(build_record_store_paths(&home, 1, &got, &e) == 0 && got.n == 1 && strcmp(got.v[0], "/nix/store/new") == 0,
       "not more than wanted");
    msg_strings_done(&got);
    (void)!path_remove_tree(home.cache_fd, "artifacts/" DIGEST_A);
    ok(build_record_store_paths(&home, 9, &got, &e) == 0 && got.n == 1 && strcmp(got.v[0], "/nix/store/x") == 0,
       "not of images that are gone");
    msg_strings_done(&got);
    (void)!path_remove_tree(home.cache_fd, "artifacts/" DIGEST_B);
    build_record_remove(&home, DIGEST_A);
    build_record_remove(&home, DIGEST_B);
}

static void test_stages(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    int done[2];
    char name[64] = "";
    if (pipe(done) < 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        struct artifact_stage s = ARTIFACT_STAGE_INIT;
        if (artifact_stage_open(&s, &home, NULL) == 0)
            (void)!write(done[1], s.name, sizeof(s.name));
        _exit(0);
    }
    ok(read(done[0], name, sizeof(name)) == sizeof(name), "(a process stages)");
    waitpid(child, NULL, 0);
    CLEAN_FD int store = openat(home.cache_fd, "artifacts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok(faccessat(store, name, F_OK, 0) == 0, "what a dead process staged lies there");
    struct artifact_stage live = ARTIFACT_STAGE_INIT, s = ARTIFACT_STAGE_INIT;
    ok(artifact_stage_open(&live, &home, &e) == 0 && faccessat(store, name, F_OK, 0) < 0, "until the next one sweeps");
    ok(artifact_stage_open(&s, &home, &e) == 0 && faccessat(store, live.name, F_OK, 0) == 0,
       "which leaves a living one alone");
    static const struct manifest empty;
    char digest[SHA256_HEX_SIZE];
    ok(artifact_stage_commit(&s, &home, &empty, digest, &e) < 0, "an empty stage is no image");
    artifact_stage_done(&s);
    artifact_stage_done(&live);
    ok(faccessat(store, live.name, F_OK, 0) < 0, "what is not committed is removed");
    struct artifact_image img = ARTIFACT_IMAGE_INIT;
    ok(artifact_image_open(&img, &home, DIGEST_A, &e) == -ENOENT &&
           artifact_image_open(&img, &home, "../../etc", &e) == -EINVAL,
       "an image is asked for by its digest");
    close(done[0]);
    close(done[1]);
}

int main(void)
{
    const char *top = tap_folder();
    char path[300];
    struct mvm_error e = MVM_ERROR_INIT;
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/home", top);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", top);
    setenv("MVM_CACHE_DIR", path, 1);
    struct stat st;
    ok(home_open(&home, &e) == 0, "home and cache are made");
    ok(fstat(home.state_fd, &st) == 0 && (st.st_mode & 0777) == 0700, "for this user alone");
    test_fingerprint();
    test_lock();
    test_statindex();
    test_records();
    test_reference();
    test_unreadable();
    test_flipped();
    test_homes();
    test_lock_threads();
    test_image_flips();
    test_unlisted();
    test_each_unreadable();
    test_outputs();
    test_stages();
    home_done(&home);
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
