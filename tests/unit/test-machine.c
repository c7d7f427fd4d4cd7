/* Warm snapshots without a VM: what fits and what does not. */
#include "tap.h"
#include "unreadable.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "machine/snapshot.h"
#include "machine/snapshot_dir.h"
#include "vmdir/boot_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MEMORY_MIB 16
#define DIGEST     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SNAP       "cache/snapshots/" DIGEST "/16m-1c"

static char top[256];
static int folder = -1;
static struct runfile run;
static const struct vmm_identity id = {.backend = "qemu 7", .machine = "devices", .cpu = "cpu"};

/* ---- Names of user snapshots ---- */

static void test_parse(void)
{
    static const struct {
        const char *word;
        int want;
        const char *vm, *tag;
    } cases[] = {
        {"web", 0, "web", ""},
        {"web:a.1-b_c", 0, "web", "a.1-b_c"},
        {"web:", -EINVAL, "", ""},
        {":tag", -EINVAL, "", ""},
        {"", -EINVAL, "", ""},
        {"web:a:b", -EINVAL, "", ""},
        {"../x", -EINVAL, "", ""},
        {"web:../x", -EINVAL, "", ""},
        {".images", -EINVAL, "", ""},
        {"web:.new", -EINVAL, "", ""},
        {"web:a/b", -EINVAL, "", ""},
        {"web:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -EINVAL, "", ""},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:b", -EINVAL, "", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        char vm[VMDIR_MAX_NAME + 1], tag[SNAPSHOT_MAX_TAG + 1];
        int r = snapshot_parse(cases[i].word, vm, tag, &e);
        ok(r == cases[i].want && (r < 0 ? e.phase == MVM_PHASE_USAGE && e.hint[0]
                                        : strcmp(vm, cases[i].vm) == 0 && strcmp(tag, cases[i].tag) == 0),
           "'%s'", cases[i].word);
    }
}

/* ---- Snapshots ---- */

/* change: what is written into its memory after it was measured, NULL: nothing. */
static int make_changed(struct boot_snapshot *s, const char *change, struct mvm_error *e)
{
    static const char state[] = "the devices";
    static const struct msg_hello hello = {
        .protocol = MVM_PROTOCOL_VERSION, .role = "runtime", .kernel = "6.1", .boot_ns = 1, .ready_ns = 2};
    int r = boot_snapshot_begin(s, &run, &id, e);
    if (r == 0)
        r = fd_pwrite_all(s->memory_fd, "guest", 5, 3 << 20);
    if (r == 0)
        r = fd_write_all(s->state_fd, state, sizeof(state));
    if (r == 0) {
        boot_snapshot_saved(s, &hello);
        r = boot_snapshot_measure(s, e);
    }
    if (r == 0 && change) {
        CLEAN_FD int fd = openat(s->dir, BOOT_SNAPSHOT_MEMORY, O_RDWR | O_CLOEXEC);
        r = fd_pwrite_all(fd, change, strlen(change), 3 << 20);
    }
    if (r == 0)
        r = boot_snapshot_seal(s, e);
    boot_snapshot_done(s);
    return r;
}

static int make(struct boot_snapshot *s, struct mvm_error *e)
{
    return make_changed(s, NULL, e);
}

/* A VMM that the first guest of an image has taken over can write where it has the memory open for writing. */
static void test_changed_by_first_guest(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct stat st;
    int r = make_changed(&s, "hosts", &e);
    ok(r == -ESTALE && strstr(e.msg, "'memory' was changed after the guest had gone on"),
       "T6: memory that changes while the first guest runs is noticed: digests are taken before it goes on");
    ok(fstatat(folder, SNAP, &st, 0) < 0, "T6: and no later VM starts from it");
}

/* VMs of one image with other devices do not throw each other's snapshot away. */
static void test_sets(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct vmm_identity more = id;
    struct stat st;
    snprintf(more.set, sizeof(more.set), "-qemu-01234567");
    ok(boot_snapshot_find(&s, &run, &more, &e) == -ENOENT, "a VM with other devices has no snapshot yet");
    boot_snapshot_done(&s);
    ok(boot_snapshot_begin(&s, &run, &more, &e) == 0, "one is begun for it (%s)", e.msg);
    boot_snapshot_done(&s);
    ok(fstatat(folder, SNAP, &st, 0) == 0 && boot_snapshot_find(&s, &run, &id, &e) == 0,
       "and that of the VM with the plain ones stays");
    boot_snapshot_done(&s);
}

static void test_make(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT, other = BOOT_SNAPSHOT_INIT;
    char byte[6] = "";
    struct stat st;
    ok(boot_snapshot_find(&s, &run, &id, &e) == -ENOENT, "there is none at first");
    boot_snapshot_done(&s);
    test_changed_by_first_guest();
    ok(boot_snapshot_begin(&s, &run, &id, &e) == 0, "one is begun");
    ok(boot_snapshot_begin(&other, &run, &id, &e) == -EAGAIN, "by one alone");
    boot_snapshot_done(&other);
    ok(fstatat(folder, SNAP, &st, 0) < 0, "it is not there yet");
    boot_snapshot_done(&s);
    ok(fstatat(folder, "cache/snapshots/" DIGEST "/.16m-1c.new", &st, 0) < 0, "given up, it leaves nothing");
    ok(make(&s, &e) == 0, "one is made (%s)", e.msg);
    ok(boot_snapshot_find(&s, &run, &id, &e) == 0, "and found (%s)", e.msg);
    ok(s.hello.protocol == MVM_PROTOCOL_VERSION && strcmp(s.hello.kernel, "6.1") == 0 && s.hello.ready_ns == 2,
       "with its hello");
    ok(fd_pread_all(s.memory_fd, byte, 5, 3 << 20) == 0 && strcmp(byte, "guest") == 0, "and its memory");
    ok(fstat(s.memory_fd, &st) == 0 && st.st_size == MEMORY_MIB << 20 && st.st_blocks < 2048, "which has its holes");
    boot_snapshot_done(&s);
    ok(fstatat(folder, SNAP, &st, 0) == 0, "closing it keeps it");
    struct boot_snapshot_usage usage;
    CLEAN_FD int cache = openat(folder, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    boot_snapshot_survey(cache, &usage);
    ok(usage.images == 1 && usage.snapshots == 1 && usage.bytes > 0 && usage.bytes < 1 << 20,
       "it is counted with what it takes (%llu)", (unsigned long long)usage.bytes);
}

/* A snapshot is sealed while its VM runs, or has ended already and the next builder has made the disk anew. */
static void test_store(void)
{
    static const char state[] = "the devices";
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    char path[300];
    snprintf(path, sizeof(path), "%s/store.img", top);
    snprintf(run.store_disk, sizeof(run.store_disk), "%s", path);
    CLEAN_FD int disk = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int r = ftruncate(disk, 8 << 20) < 0 ? -errno : boot_snapshot_begin(&s, &run, &id, &e);
    ok(r == 0 && fd_write_all(s.state_fd, state, sizeof(state)) == 0, "a builder's snapshot is begun (%s)", e.msg);
    boot_snapshot_saved(&s, &(struct msg_hello){.protocol = MVM_PROTOCOL_VERSION, .role = "builder", .kernel = "6.1"});
    ok(ftruncate(disk, 4 << 20) == 0 && boot_snapshot_measure(&s, &e) == 0 && boot_snapshot_seal(&s, &e) == 0,
       "and sealed when the disk has another size (%s)", e.msg);
    boot_snapshot_done(&s);
    r = boot_snapshot_find(&s, &run, &id, &e);
    ok(r == -ESTALE, "a disk of another size than the guest in the snapshot has seen does not fit it (%d)", r);
    boot_snapshot_done(&s);
    ok(ftruncate(disk, 8 << 20) == 0 && boot_snapshot_find(&s, &run, &id, &e) == 0, "one of that size does (%s)",
       e.msg);
    boot_snapshot_done(&s);
    run.store_disk[0] = '\0';
}

static void test_unfinished(void)
{
    static const char stage[] = "cache/snapshots/" DIGEST "/.16m-1c.new", other[] = "cache/snapshots/" DIGEST "/.x.new";
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct boot_snapshot_usage usage;
    struct stat st;
    CLEAN_FD int cache = openat(folder, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int left = path_open_dir(folder, other, NULL);
    ok(left >= 0 && path_write_file(left, "memory", "guest", 5, 0600, false, NULL) == 0, "what a killed process left");
    ok(boot_snapshot_begin(&s, &run, &id, &e) == 0, "and one in the making");
    boot_snapshot_survey(cache, &usage);
    ok(usage.snapshots == 0 && usage.unfinished == 1 && usage.bytes >= MEMORY_MIB << 20,
       "what a killed process left of a snapshot is counted, with the room of all");
    boot_snapshot_sweep(cache);
    ok(fstatat(folder, other, &st, 0) < 0 && fstatat(folder, stage, &st, 0) == 0,
       "what a killed process left is removed, a snapshot in the making is not");
    boot_snapshot_done(&s);
}

/* A VM that was started then, seconds from now, finds the snapshot and could not continue, or could: whether the
 * snapshot is still there. */
static bool kept_after(int64_t seconds, bool worked)
{
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct stat st;
    if (boot_snapshot_find(&s, &run, &id, NULL) < 0)
        return false;
    if (worked)
        boot_snapshot_worked(&s);
    else if (boot_snapshot_failed(&s, clock_wall() + (uint64_t)seconds * NSEC_PER_SEC))
        boot_snapshot_remove(&s);
    boot_snapshot_done(&s);
    return fstatat(folder, SNAP, &st, 0) == 0;
}

static void test_failures(void)
{
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct stat st;
    ok(kept_after(-1, false),
       "R9: a snapshot stays when a VM could not continue from it, which may be the host's fault");
    ok(kept_after(-1, false) && kept_after(-1, false) && kept_after(-1, false),
       "R9: any number of VMs that were started at the same time count as one");
    ok(kept_after(1, false), "R9: a second time it stays, too");
    ok(kept_after(0, true) && kept_after(1, false) && kept_after(2, false),
       "R9: once a VM could, the count begins anew");
    ok(!kept_after(3, false), "R9: after three in a row it goes");
    ok(make(&s, NULL) == 0 && kept_after(1, false), "R9: the next one made is not blamed for them");
    ok(kept_after(0, true) && fstatat(folder, "cache/snapshots/" DIGEST "/.16m-1c.failures", &st, 0) < 0,
       "R9: and nothing of the count stays");
}

/* Each damage to a good snapshot has its reason. */
static void edit_meta(const char *key, json_object *value)
{
    CLEAN_FD int dir = openat(folder, SNAP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_JSON json_object *o = NULL;
    if (dir < 0 || json_load_sealed(dir, "meta.json", 65536, &o, NULL) < 0)
        abort();
    json_add(o, key, value);
    if (json_save_sealed(dir, "meta.json", o, 0600, false, NULL) < 0)
        abort();
}

static void overwrite(const char *name, off_t at)
{
    CLEAN_FD int dir = openat(folder, SNAP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fchmodat(dir, name, 0600, 0) < 0)
        abort();
    CLEAN_FD int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fd_pwrite_all(fd, "X", 1, (uint64_t)at) < 0)
        abort();
}

static void damage_nothing(void)
{
}
static void damage_meta(void)
{
    overwrite("meta.json", 0);
}
static void damage_schema(void)
{
    edit_meta("schema_version", json_object_new_int(99));
}
static void damage_hello(void)
{
    edit_meta("hello", json_object_new_int(1));
}
static void damage_backend(void)
{
    edit_meta("backend", json_object_new_string("qemu 8"));
}
static void damage_machine(void)
{
    edit_meta("machine", json_object_new_string(""));
}
static void damage_cpu(void)
{
    edit_meta("cpu", json_object_new_string("another"));
}
static void damage_clock(void)
{
    edit_meta("tsc_khz", json_object_new_int(2001000));
}
static void damage_store(void)
{
    edit_meta("store_size", json_object_new_int(1));
}
static void damage_memory(void)
{
    overwrite("memory", (3 << 20) + 1);
}
static void damage_hole(void)
{
    overwrite("memory", 9 << 20);
}
static void damage_state(void)
{
    overwrite("state", 0);
}
static void damage_size(void)
{
    overwrite("state", 100);
}
static void damage_digest(void)
{
    edit_meta("memory", json_object_new_object());
}
static void damage_gone(void)
{
    unlinkat(folder, SNAP "/memory", 0);
}

static void test_fit(void)
{
    static const struct {
        void (*damage)(void);
        int want;
        const char *reason;
    } cases[] = {
        {damage_nothing, 0, ""},
        {damage_meta, -ESTALE, "the snapshot's description is damaged or of another version"},
        {damage_schema, -ESTALE, "the snapshot's description is damaged or of another version"},
        {damage_hello, -ESTALE, "the snapshot's description is damaged or of another version"},
        {damage_backend, -ESTALE, "the snapshot was made by another version of the backend"},
        {damage_machine, -ESTALE, "the snapshot is of a machine with other devices or another command line"},
        {damage_cpu, -ESTALE, "the snapshot was made on another processor"},
        {damage_clock, -ESTALE, "the snapshot was made with another clock rate"},
        {damage_store, -ESTALE, "the snapshot was made with another size of the store's disk"},
        {damage_memory, -ESTALE, "the snapshot's file 'memory' has another content than recorded"},
        {damage_hole, -ESTALE, "the snapshot's file 'memory' has another content than recorded"},
        {damage_state, -ESTALE, "the snapshot's file 'state' has another content than recorded"},
        {damage_size, -ESTALE, "the snapshot's file 'state' has another size than recorded"},
        {damage_digest, -ESTALE, "the snapshot's file 'memory' has another size than recorded"},
        {damage_gone, -ESTALE, "the snapshot's file 'memory' is missing"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
        int r = make(&s, &e);
        if (r == 0) {
            cases[i].damage();
            r = boot_snapshot_find(&s, &run, &id, &e);
        }
        boot_snapshot_done(&s);
        ok(r == cases[i].want && strcmp(e.msg, cases[i].reason) == 0, "case %zu: %s", i, r ? e.msg : "fits");
    }
}

static void test_sweep(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct stat st;
    ok(make(&s, &e) == 0, "the image has a snapshot");
    struct runfile before = run;
    run.image[0] = '\0';
    ok(make(&s, &e) == 0, "so has one without a digest (%s)", e.msg);
    ok(fstatat(folder, SNAP, &st, 0) == 0, "both stay");
    CLEAN_FD int image = open(run.image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image < 0 || path_write_file(image, "vmlinux", "new", 3, 0600, false, NULL) < 0)
        abort();
    ok(boot_snapshot_find(&s, &run, &id, &e) == -ENOENT, "its files replaced, it has none");
    boot_snapshot_done(&s);
    run = before;
    if (path_remove_tree(folder, "images") < 0)
        abort();
    strcpy(run.image, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
    ok(make(&s, &e) == 0, "another image gets one");
    ok(fstatat(folder, SNAP, &st, 0) < 0, "and those without image are gone");
}

/* ---- T9: what decides what boots is covered by a digest ---- */

/* How many of the file's versions with one bit of a byte changed are taken. */
static unsigned taken_flips(const char *path, const char *name, int (*load)(void), size_t *ret_n)
{
    CLEAN_FD int dir = openat(folder, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_BUF struct buf text = BUF_INIT(65536);
    unsigned taken = 0;
    if (dir < 0 || path_read_file(dir, name, &text, NULL) < 0)
        abort();
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= (uint8_t)(1 << i % 8);
        if (path_write_file(dir, name, text.data, text.len, 0600, false, NULL) < 0)
            abort();
        taken += load() == 0;
        text.data[i] ^= (uint8_t)(1 << i % 8);
    }
    *ret_n = text.len;
    if (path_write_file(dir, name, text.data, text.len, 0600, false, NULL) < 0 || load() != 0)
        abort();
    return taken;
}

static int find(void)
{
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    int r = boot_snapshot_find(&s, &run, &id, NULL);
    boot_snapshot_done(&s);
    return r;
}

static int load_run(void)
{
    CLEAN_FD int dir = openat(folder, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct runfile got;
    return runfile_load(&got, dir, NULL);
}

static void test_flipped(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    size_t n;
    if (make(&s, &e) < 0 || path_make_parents(folder, "vm/x", 0700) < 0)
        abort();
    CLEAN_FD int dir = openat(folder, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (runfile_save(&run, dir, &e) < 0)
        abort();
    unsigned taken = taken_flips(SNAP, "meta.json", find, &n);
    ok(taken == 0, "T9: of %zu descriptions of a snapshot with one bit of a byte changed none is believed (%u)", n,
       taken);
    taken = taken_flips("vm", "run.json", load_run, &n);
    ok(taken == 0, "T9: of %zu run.json with one bit of a byte changed none is believed (%u)", n, taken);
}

/* ---- T8: reading all there is ---- */

static void on_read(void *data, const char *name, int r, const char *why)
{
    int *found = data;
    *found = strcmp(name, "aaaaaaaaaaaa/16m-1c") == 0 ? r : 1;
}

static void test_read_all(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct stat st;
    int found = 1;
    CLEAN_FD int cache = openat(folder, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (make(&s, &e) < 0)
        abort();
    ok(boot_snapshot_read_all(cache, true, on_read, &found) == 0 && found == 0 && fstatat(folder, SNAP, &st, 0) == 0,
       "T8: a snapshot is read, and good");
    overwrite("memory", (3 << 20) + 1);
    ok(boot_snapshot_read_all(cache, false, on_read, &found) == 0 && found == -ESTALE &&
           fstatat(folder, SNAP, &st, 0) == 0,
       "T8: with another byte in its memory it is damaged");
    ok(boot_snapshot_read_all(cache, true, on_read, &found) == 0 && found == -ESTALE &&
           fstatat(folder, SNAP, &st, 0) < 0,
       "T8: and goes where that is asked for");
}

/* ---- R2: what cannot be read now is kept ---- */

static bool is_there(const char *path)
{
    return faccessat(folder, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_no_verdict(int r)
{
    return r != -ENOENT && r != -ESTALE && is_there(SNAP "/memory") && is_there(SNAP "/meta.json");
}

/* Of another image; what is left of others is swept by the way. */
static int begin_another(void)
{
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct runfile another = run;
    strcpy(another.image, "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc");
    int r = boot_snapshot_begin(&s, &another, &id, NULL);
    boot_snapshot_done(&s);
    return r;
}

static bool both_are_there(int r)
{
    char by_files[160];
    struct runfile plain = run;
    char key[SHA256_HEX_SIZE];
    (void)!boot_snapshot_key_of_files(plain.image_path, key, NULL);
    snprintf(by_files, sizeof(by_files), "cache/snapshots/%s/16m-1c/memory", key);
    return is_there(SNAP "/memory") && is_there(by_files);
}

static void test_unreadable(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct boot_snapshot s = BOOT_SNAPSHOT_INIT;
    struct runfile before = run;
    unsigned n;
    if (make(&s, &e) < 0)
        abort();
    run.image[0] = '\0';
    if (make(&s, &e) < 0)
        abort();
    run = before;
    bool kept = each_open_fails(find, is_no_verdict, &n);
    ok(kept && n >= 6 && find() == 0, "R2: a snapshot that cannot be read now is neither absent nor stale (%u opens)",
       n);
    kept = each_open_fails(begin_another, both_are_there, &n);
    ok(kept && n >= 12, "R2: and no other image's making removes it (%u opens)", n);
    ok(begin_another() == 0 && both_are_there(0), "R2: nor where all can be read");
}

/* Images that a snapshot, a VM, a snapshot in the making and nothing need. */
static struct home home;
static const char *const keys[] = {"1111", "2222", "3333", "4444"};

static bool image_is_kept(size_t i)
{
    char path[512];
    snprintf(path, sizeof(path), "home/snapshots/.images/%s", keys[i]);
    return is_there(path);
}

static void make_images(void)
{
    char path[512];
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        snprintf(path, sizeof(path), "home/snapshots/.images/%s/x", keys[i]);
        if (path_make_parents(folder, path, 0700) < 0)
            abort();
    }
}

static int tidy(void)
{
    CLEAN_FD int root = snapshot_dir_open(&home, NULL);
    if (root >= 0)
        snapshot_dir_tidy(&home, root);
    return 0;
}

static bool needed_are_kept(int r)
{
    bool kept = image_is_kept(0) && image_is_kept(1) && image_is_kept(2);
    make_images();
    return kept;
}

static int list_all(void)
{
    struct snapshot *list = NULL;
    size_t n = 0;
    int r = snapshot_list(&home, NULL, &list, &n, NULL);
    free(list);
    return r < 0 ? r : (int)n;
}

static bool is_whole_or_error(int r)
{
    return r < 0 || r == 1;
}

static void test_needed(void)
{
    CLEAN_JSON json_object *o = json_object_new_object();
    struct snapshot u = {.image_key = "1111", .backend = "qemu", .accel = "tcg"};
    struct runfile vm = {.name = "v", .state = "/x", .image_path = "/x/.images/2222"};
    make_images();
    if (path_make_parents(folder, "home/snapshots/web/one/x", 0700) < 0 ||
        path_make_parents(folder, "home/snapshots/.new-1/x", 0700) < 0 ||
        path_make_parents(folder, "home/vms/v/x", 0700) < 0 || path_make_parents(folder, "home/cache/x", 0700) < 0)
        abort();
    home.state_fd = openat(folder, "home", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    home.cache_fd = openat(folder, "home/cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int one = openat(folder, "home/snapshots/web/one", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int stage = openat(folder, "home/snapshots/.new-1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int v = openat(folder, "home/vms/v", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_add_int(o, "schema_version", SNAPSHOT_DIR_SCHEMA);
    snapshot_dir_put_facts(o, &u);
    if (json_save_sealed(one, "meta.json", o, 0600, false, NULL) < 0 || runfile_save(&vm, v, NULL) < 0 ||
        path_write_file(stage, SNAPSHOT_DIR_NEEDS, "3333", 4, 0600, false, NULL) < 0 || flock(stage, LOCK_EX) < 0)
        abort();
    unsigned n;
    bool kept = each_open_fails(tidy, needed_are_kept, &n);
    ok(kept && n >= 20, "R2: an image that something needs outlives tidying while something is unreadable (%u opens)",
       n);
    tidy();
    ok(image_is_kept(0) && image_is_kept(1) && image_is_kept(2) && !image_is_kept(3),
       "R2: with all of it readable the image that nothing needs goes, and that alone");
    kept = each_open_fails(list_all, is_whole_or_error, &n);
    ok(kept && n >= 6, "R2: a list of snapshots is whole or an error (%u opens)", n);
    fd_closep(&home.state_fd);
    fd_closep(&home.cache_fd);
}

int main(void)
{
    snprintf(top, sizeof(top), "%s", tap_folder());
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || path_make_parents(folder, "images/" DIGEST "/x", 0700) < 0)
        return 1;
    run = (struct runfile){.memory_mib = MEMORY_MIB, .vcpus = 1, .image = DIGEST, .accel = {.tsc_khz = 2000000}};
    snprintf(run.image_path, sizeof(run.image_path), "%s/images/" DIGEST, top);
    snprintf(run.snapshots, sizeof(run.snapshots), "%s/cache/snapshots", top);
    test_parse();
    test_make();
    test_sets();
    test_failures();
    test_store();
    test_unfinished();
    test_fit();
    test_flipped();
    test_read_all();
    test_unreadable();
    test_needed();
    test_sweep();
    fd_closep(&folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
