/* A build job and the tidying of a builder's store with a builder that is played here: what it may say, and what the
 * host makes of it. */
#include "played.h"
#include "tap.h"

#include "base/clock.h"
#include "builder/job.h"
#include "builder/store_disk.h"
#include "wire/msg_build.h"
#include "wire/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The builder ---- */

static int emit(void *data, uint8_t channel, const void *p, size_t n)
{
    send_frame(FRAME_DATA, channel, p, n);
    return 0;
}

static void take_job(void)
{
    size_t n = 0;
    if (!take_until(FRAME_CLOSE, MSG_BUILD, &n))
        _exit(1);
}

static void send_phase(const char *name)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    struct msg_phase m = {0};
    snprintf(m.name, sizeof(m.name), "%s", name);
    if (msg_phase_encode(&b, &m) < 0)
        _exit(1);
    send_frame(FRAME_DATA, CHAN_MSG, b.data, b.len);
}

static void send_result(bool good, const char *problem)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    struct msg_result m = {.ok = good, .eval_ns = 7, .build_ns = 8};
    snprintf(m.store_path, sizeof(m.store_path), "/nix/store/x-image");
    snprintf(m.phase, sizeof(m.phase), "%s", good ? "" : "nix-build");
    snprintf(m.problem, sizeof(m.problem), "%s", problem);
    if (msg_result_encode(&b, &m) < 0)
        _exit(1);
    send_frame(FRAME_DATA, CHAN_MSG, b.data, b.len);
}

static void send_files(const char *const *names, bool end)
{
    struct tree_sender s = {.emit = emit, .msg = BUF_INIT(FRAME_MAX_PAYLOAD)};
    for (; *names; names++)
        if (tree_send_memory(&s, *names, S_IFREG | 0644, "abc", 3, NULL) < 0)
            _exit(1);
    if (end && tree_send_end(&s, NULL) < 0)
        _exit(1);
    tree_sender_done(&s);
}

static void builds(void)
{
    static const char *const names[] = {"vmlinux", "rootfs.ext4", "flake.lock", NULL};
    take_job();
    send_phase("eval");
    send_frame(FRAME_DATA, CHAN_LOG, "building\n", 9);
    send_phase("build");
    send_phase("extract");
    send_files(names, true);
    send_result(true, "");
}

static void sends_other_files(void)
{
    static const char *const names[] = {"vmlinux", "authorized_keys", NULL};
    take_job();
    send_files(names, true);
    send_result(true, "");
}

static void sends_manifest(void)
{
    static const char *const names[] = {"manifest.json", NULL};
    take_job();
    send_files(names, true);
    send_result(true, "");
}

static void sends_half(void)
{
    static const char *const names[] = {"vmlinux", NULL};
    take_job();
    send_files(names, false);
    send_result(true, "");
}

static void fails(void)
{
    take_job();
    send_result(false, "the derivation x failed");
}

static void says_other_phase(void)
{
    take_job();
    send_phase("\033[2Jgarbage");
}

static void says_nonsense(void)
{
    take_job();
    send_frame(FRAME_DATA, CHAN_MSG, "\xff\xff\xff", 3);
}

static void gives_up(void)
{
    take_job();
    send_frame(FRAME_RESET, 0, "no memory", 9);
}

static void ends_early(void)
{
    take_job();
    send_frame(FRAME_CLOSE, 0, NULL, 0);
}

/* ---- The host ---- */

static int stage = -1;

/* Runs a job in a builder that does that. */
static int run(const char *name, void (*builder)(void), bool image, struct job_result *ret, struct mvm_error *e)
{
    struct builder_session s = BUILDER_SESSION_INIT;
    char remote[] = "github:a/b";
    struct flake_ref ref = {.remote = remote};
    struct flake_inputs inputs = {0};
    CLEAN_BUILDLOG struct buildlog log = BUILDLOG_INIT;
    struct progress p = PROGRESS_INIT(NULL, NULL);
    const struct job_opts o = {.ref = &ref,
                               .inputs = &inputs,
                               .attr = "packages.x86_64-linux.default",
                               .system = "x86_64-linux",
                               .builder_image = image,
                               .stage_fd = stage,
                               .log = &log};
    *ret = (struct job_result){0};
    *e = (struct mvm_error)MVM_ERROR_INIT;
    static const char *const left[] = {"vmlinux", "rootfs.ext4", "manifest.json"};
    for (size_t i = 0; i < ARRAY_SIZE(left); i++)
        unlinkat(stage, left[i], 0);
    pid_t pid = play(name, builder);
    int r = client_connect(&home, name, &s.vm.client, e);
    if (r == 0)
        r = job_run(&s, &o, &p, ret, e);
    client_free(TAKE_PTR(s.vm.client));
    (void)served(pid); /* it may be cut off in the middle of a word */
    return r;
}

static bool staged(const char *name)
{
    return faccessat(stage, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_build(void)
{
    static const char digest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; /* of abc */
    struct job_result j;
    struct mvm_error e;
    ok(run("builds", builds, false, &j, &e) == 0, "a job gives an image (%s)", e.msg);
    ok(j.manifest.artifacts[ARTIFACT_VMLINUX].present && j.manifest.artifacts[ARTIFACT_VMLINUX].size == 3 &&
           strcmp(j.manifest.artifacts[ARTIFACT_VMLINUX].sha256, digest) == 0 &&
           j.manifest.artifacts[ARTIFACT_ROOTFS].present && !j.manifest.artifacts[ARTIFACT_INITRD].present,
       "its artifacts are digested while they come");
    ok(staged("vmlinux") && staged("rootfs.ext4") && !staged("flake.lock") && strcmp(buf_cstr(&j.lock), "abc") == 0,
       "its lock file is the flake's and none of them");
    ok(strcmp(j.store_path, "/nix/store/x-image") == 0 && j.eval_ns == 7 && j.build_ns == 8,
       "its facts are the result's");
    job_result_done(&j);
}

static void test_refusals(void)
{
    static const struct {
        const char *name;
        void (*builder)(void);
        int r;
        const char *words;
    } bad[] = {
        {"other", sends_other_files, -EPROTO, "'authorized_keys', which is no artifact"},
        {"manifest", sends_manifest, -EPROTO, "'manifest.json', which is no artifact"},
        {"half", sends_half, -EPROTO, "no complete set of artifacts"},
        {"phase", says_other_phase, -EPROTO, "cannot be understood"},
        {"nonsense", says_nonsense, -EPROTO, "does not belong to a tree"},
        {"gives-up", gives_up, -EPIPE, "gave the job up: no memory"},
        {"early", ends_early, -EPIPE, "ended the job without a result"},
    };
    struct job_result j;
    struct mvm_error e;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int r = run(bad[i].name, bad[i].builder, false, &j, &e);
        ok(r == bad[i].r && strstr(e.msg, bad[i].words) && e.phase == MVM_PHASE_ARTIFACT_EXTRACTION &&
               !staged("authorized_keys"),
           "it is refused (%d): %s", r, e.msg);
        job_result_done(&j);
    }
    ok(run("image", sends_manifest, true, &j, &e) == 0 && staged("manifest.json"),
       "a builder image has a manifest (%s)", e.msg);
    job_result_done(&j);
    ok(run("fails", fails, false, &j, &e) < 0 && e.phase == MVM_PHASE_NIX_BUILD &&
           strstr(e.msg, "the derivation x failed"),
       "a build that fails has the phase and the words of its result: %s", e.msg);
    job_result_done(&j);
}

/* ---- The store ---- */

static void answer(const struct msg_store_reply *reply)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    size_t n = 0;
    if (!take_until(FRAME_CLOSE, MSG_STORE, &n) || msg_store_reply_encode(&b, reply) < 0)
        _exit(1);
    send_frame(FRAME_DATA, CHAN_MSG, b.data, b.len);
    send_frame(FRAME_CLOSE, 0, NULL, 0);
}

static void surveys(void)
{
    answer(&(struct msg_store_reply){.size = 1000, .used = 300, .surveyed = true, .reclaimable = 120});
}

static void is_full(void)
{
    answer(&(struct msg_store_reply){.size = STORE_DISK_MIN_CAP, .used = STORE_DISK_MIN_CAP});
}

static void has_problem(void)
{
    struct msg_store_reply m = {.used = 1, .surveyed = true};
    snprintf(m.problem, sizeof(m.problem), "the store is locked");
    answer(&m);
}

/* A seed from before there was that request. */
static void is_older(void)
{
    size_t n = 0;
    (void)take_until(FRAME_CLOSE, MSG_STORE, &n);
    send_exit(1, "no such request");
}

static char noted[512];

static void on_note(void *data, const char *text)
{
    snprintf(noted, sizeof(noted), "%s", text);
}

static void on_other(void *data, const char *text)
{
}

static const struct progress_ops noting = {.note = on_note, .verbose = on_other};

static void tidy(const char *name, void (*builder)(void), struct store_disk *s)
{
    struct progress p = PROGRESS_INIT(&noting, NULL);
    struct client *c = NULL;
    noted[0] = '\0';
    pid_t pid = play(name, builder);
    if (client_connect(&home, name, &c, NULL) < 0)
        abort();
    store_disk_tidy(s, c, &p);
    client_free(c);
    (void)served(pid);
}

static void test_store(void)
{
    struct store_disk s = STORE_DISK_INIT;
    struct progress p = PROGRESS_INIT(&noting, NULL);
    if (store_disk_open(&s, &home, STORE_DISK_MIN_CAP, false, &p, NULL) < 0)
        abort();
    ok(!store_disk_is_full(&s), "a new store is not full");
    tidy("surveyed", surveys, &s);
    ok(s.surveyed_at && s.reclaimable == 120 && s.surveyed == 300 && !noted[0], "what the builder found out is kept");
    tidy("full", is_full, &s);
    ok(strstr(noted, "nearly full: 134 of 134 MB"), "a store from which nothing more can go is told: %s", noted);
    tidy("locked", has_problem, &s);
    ok(strstr(noted, "was not tidied: the store is locked") && s.surveyed == 300, "a failure is a note: %s", noted);
    tidy("older", is_older, &s);
    ok(!noted[0], "a builder that does not know the request is none");
    store_disk_tidy(&s, NULL, &p);
    ok(!noted[0], "nor is one that is not there");
    CLEAN_FD int fd = open(s.path, O_RDWR | O_CLOEXEC);
    ok(fd >= 0 && posix_fallocate(fd, 0, STORE_DISK_MIN_CAP / 16 * 13) == 0 && store_disk_is_full(&s),
       "a disk that takes more than three quarters of its cap is full");
    store_disk_close(&s);
}

int main(void)
{
    root = tap_folder();
    CLEAN_FREE char *state = path_join(root, "state", NULL), *cache = path_join(root, "cache", NULL);
    CLEAN_FREE char *path = path_join(root, "stage", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    unsetenv("MVM_STORE_CAP");
    if (home_open(&home, NULL) < 0 || mkdir(path, 0700) < 0 || (stage = open(path, O_RDONLY | O_DIRECTORY)) < 0)
        abort();
    test_build();
    test_refusals();
    test_store();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, root);
    return tap_end();
}
