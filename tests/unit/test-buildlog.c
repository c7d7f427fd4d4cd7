#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "buildlog/build_error.h"
#include "buildlog/buildlog.h"
#include "host/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH  "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"

static struct home home = HOME_INIT;

/* What the progress was told last, and how often. */
static struct progress_build told;
static char told_current[64];
static unsigned tellings;

static void on_build(void *data, const char *phase, const struct progress_build *b)
{
    told = *b;
    snprintf(told_current, sizeof(told_current), "%s", b->current);
    tellings++;
}

static const struct progress_ops ops = {.build = on_build};
static struct progress progress = PROGRESS_INIT(&ops, NULL);

static void feed(struct buildlog *l, const char *text)
{
    buildlog_lines(l, text, strlen(text));
}

#define START_BUILD(id, hash, name)                                                                                    \
    "@nix {\"action\":\"start\",\"id\":" id ",\"type\":105,\"text\":\"\",\"fields\":[\"/nix/store/" hash "-" name      \
    ".drv\",\"\",1,1]}\n"
#define LINE(id, text) "@nix {\"action\":\"result\",\"id\":" id ",\"type\":101,\"fields\":[\"" text "\"]}\n"
#define ERROR(text)                                                                                                    \
    "@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"\\u001b[31;1merror:\\u001b[0m x\",\"raw_msg\":\"" text "\"}\n"

/* ---- Text ---- */

static void read_text(struct buildlog *l, struct buf *out)
{
    CLEAN_FD int fd = build_history_open_text(&home, l->entry.id, NULL);
    buf_clear(out);
    while (fd >= 0 && buf_read(out, fd, 4096) > 0)
        ;
}

static int remember(void *data, const char *line, size_t n)
{
    int r = buf_append(data, line, n);
    return r < 0 ? r : buf_append(data, "|", 1);
}

static void extract(const struct buildlog *l, const char *derivation, struct buf *out)
{
    CLEAN_FD int fd = build_history_open_text(&home, l->entry.id, NULL);
    buf_clear(out);
    if (buildlog_extract(fd, derivation, remember, out, NULL) == 0 && buf_str(out, "absent") < 0)
        abort();
}

static void test_text(void)
{
    CLEAN_BUILDLOG struct buildlog l = BUILDLOG_INIT;
    CLEAN_BUF struct buf text = BUF_INIT(1 << 20);
    struct mvm_error e = MVM_ERROR_INIT;
    ok(buildlog_open(&l, &home, "/flake", "packages.x.y", "0123456789abcdef", &progress, &e) == 0 &&
           strstr(l.entry.id, "-01234567"),
       "a log has a file");
    feed(&l, "evaluating\n");
    buildlog_step(&l);
    feed(&l,
         START_BUILD("5", HASH, "web") LINE(
             "5",
             "\\u001b[31mred\\u001b[0m \\u001b]0;title\\u0007words") "@nix "
                                                                     "{\"action\":\"msg\",\"level\":0,\"msg\":\"error: "
                                                                     "builder failed;\\nlast 1 log lines:\\n> red\"}\n"
                                                                     "@nix "
                                                                     "{\"action\":\"msg\",\"level\":5,\"msg\":"
                                                                     "\"chatter\"}\n@nix {broken\n@nix {}\n@nix []\n");
    ok(strcmp(buf_cstr(&l.tail),
              "building web: /nix/store/" HASH "-web.drv\nweb> red ?]0;title?words\nerror: builder failed\n") == 0,
       "Nix's events become text without terminal sequences");
    feed(&l, START_BUILD("6", OTHER, "web") LINE("6", "of the second") LINE("5", "web@fedcba98> forged")
                 LINE("7", "of nobody"));
    read_text(&l, &text);
    ok(strncmp(buf_cstr(&text), "evaluating\nbuilding web: ", 25) == 0, "the file has all steps");
    extract(&l, "/nix/store/" OTHER "-web.drv", &text);
    ok(strcmp(buf_cstr(&text), "of the second|") == 0, "one derivation's lines by its store path");
    extract(&l, "web", &text);
    ok(strcmp(buf_cstr(&text), "red ?]0;title?words|web@fedcba98> forged|") == 0,
       "and by its name, forgeries included");
    extract(&l, "we", &text);
    ok(strcmp(buf_cstr(&text), "absent") == 0, "a part of a name is no name");
    for (int i = 0; i < 1000; i++)
        feed(&l, "a line of a log that is much longer than an error may be\n");
    feed(&l, "the last one\n");
    ok(l.tail.len <= l.tail.max && strncmp(buf_cstr(&l.tail), "a line", 6) == 0 &&
           strstr(buf_cstr(&l.tail), "the last one"),
       "of a long log the last whole lines are kept");
    l.written = 64u << 20; /* as if so much had been written */
    feed(&l, "beyond\nthe very last\n");
    buildlog_finish(&l, &home, NULL);
    read_text(&l, &text);
    ok(strstr(buf_cstr(&text), "[2 lines were left out; the last ones:]\n") && strstr(buf_cstr(&text), "the very last"),
       "a file that is full ends with the log's end");
}

/* ---- Counts ---- */

static void test_counts(void)
{
    CLEAN_BUILDLOG struct buildlog l = BUILDLOG_INIT;
    l.progress = &progress;
    progress_phase(&progress, "build");
    feed(&l, "@nix {\"action\":\"start\",\"id\":1,\"type\":104,\"text\":\"\"}\n"
             "@nix {\"action\":\"start\",\"id\":2,\"type\":103,\"text\":\"\"}\n"
             "@nix {\"action\":\"start\",\"id\":3,\"type\":101,\"fields\":[\"http://h/dir/file.tar\"]}\n"
             "@nix {\"action\":\"result\",\"id\":3,\"type\":105,\"fields\":[1000,4000,0,0]}\n" START_BUILD(
                 "4", HASH, "one") "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[2,7,1,0]}\n"
                                   "@nix {\"action\":\"result\",\"id\":2,\"type\":105,\"fields\":[3,5,0,0]}\n");
    ok(told.built == 2 && told.to_build == 7 && told.copied == 3 && told.to_copy == 5, "derivations and paths");
    ok(told.fetched == 1000 && told.to_fetch == 4000, "bytes");
    ok(strcmp(told_current, "one") == 0, "what is being built");
    feed(&l, "@nix {\"action\":\"stop\",\"id\":4}\n");
    ok(strcmp(told_current, "file.tar") == 0, "or fetched");
    feed(&l, "@nix {\"action\":\"stop\",\"id\":3}\n@nix {\"action\":\"stop\",\"id\":3}\n");
    ok(told.fetched == 1000 && *told_current == '\0', "a download that ended counts once");
    unsigned before = tellings;
    for (int i = 0; i < 1000; i++)
        feed(&l, "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[2,7,1,0]}\n");
    ok(tellings - before < 500, "what does not change is not told each time");
    feed(&l, "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[-1,99999999999,1,0]}\n"
             "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[\"x\"]}\n"
             "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":{}}\n");
    ok(nixlog_counts(&l.nix).built == 0 && nixlog_counts(&l.nix).to_build == 10000000, "absurd numbers are bounded");
    for (int i = 0; i < 1000; i++) {
        char line[200];
        snprintf(line, sizeof(line), START_BUILD("%d", HASH, "n%d"), i + 10, i);
        feed(&l, line);
    }
    ok(l.nix.n_activities == NIXLOG_ACTIVITIES, "as many activities as there is room for");
    buildlog_step(&l);
    ok(l.nix.n_activities == 0 && nixlog_counts(&l.nix).fetched == 1000, "a step forgets them");
    progress_end(&progress);
}

/* ---- Reasons ---- */

static bool host_full;

static struct mvm_error explain(const char *log, const char *phase, const char *kind)
{
    CLEAN_BUILDLOG struct buildlog l = BUILDLOG_INIT;
    struct msg_result r = {.exit_code = 1};
    struct mvm_error e = MVM_ERROR_INIT;
    const struct build_error o = {.result = &r, .log = &l, .system = "x86_64-linux", .host_full = host_full};
    snprintf(r.phase, sizeof(r.phase), "%s", phase);
    snprintf(r.kind, sizeof(r.kind), "%s", kind);
    snprintf(r.problem, sizeof(r.problem), "build of 'x' failed");
    feed(&l, log);
    (void)!build_error_explain(&o, &e);
    return e;
}

static bool is(const struct mvm_error *e, const char *kind, const char *msg, const char *hint)
{
    bool same = strcmp(e->kind, kind) == 0 && strstr(e->msg, msg) && strstr(e->hint, hint);
    if (!same)
        printf("# kind: %s\n# message: %s\n# hint: %s\n", e->kind, e->msg, e->hint);
    return same;
}

static void test_reasons(void)
{
    struct mvm_error e = explain(
        ERROR("builder for '\\u001b[35;1m/nix/store/" HASH "-web.drv\\u001b[0m' failed with exit code 9;\\nlast")
            ERROR("1 dependencies of derivation '/nix/store/" OTHER "-top.drv' failed to build"),
        "nix-build", "");
    ok(is(&e, "builder", "the builder of web failed with exit code 9", "mvmctl build-log web") &&
           strcmp(e.derivation, "/nix/store/" HASH "-web.drv") == 0 && e.phase == MVM_PHASE_NIX_BUILD,
       "a builder that fails");
    e = explain(ERROR("builder for '/nix/store/" HASH "-a.drv' failed with exit code 1")
                    ERROR("builder for '/nix/store/" OTHER "-b.drv' failed due to signal 9 (Killed)"),
                "nix-build", "");
    ok(is(&e, "builder", "the builder of a failed with exit code 1; also failed: b", "a"), "two that fail");
    e = explain(ERROR("Cannot build '/nix/store/" HASH "-a.drv'.\\nReason: builder failed with exit code 3.\\nOutput"),
                "nix-build", "");
    ok(is(&e, "builder", "the builder of a failed with exit code 3", "a"), "in a newer Nix's words");
    e = explain(ERROR("hash mismatch in fixed-output derivation '/nix/store/" HASH
                      "-src.tar.gz.drv':\\n  specified: sha256-AAA=\\n     got:    sha256-BBB="),
                "nix-build", "");
    ok(is(&e, "hash-mismatch", "hash mismatch in src.tar.gz: specified sha256-AAA=, got sha256-BBB=", "to sha256-BBB="),
       "a hash that does not fit");
    e = explain(ERROR("NAR hash mismatch in input 'path:/x?narHash=y', expected 'sha256-AAA=' but got 'sha256-BBB='"),
                "nix-eval", "");
    ok(is(&e, "hash-mismatch",
          "in the input path:/x?narHash=y: specified sha256-AAA=, got sha256-BBB=", "narHash to sha256-BBB=") &&
           e.phase == MVM_PHASE_NIX_EVAL && !*e.derivation,
       "an input whose hash does not fit");
    e = explain(ERROR("unable to download 'http://h/y': Could not connect to server (7) Failed"), "nix-eval", "");
    ok(is(&e, "fetch", "http://h/y cannot be fetched: Could not connect", "network"), "a fetch in evaluation");
    e = explain(START_BUILD("1", HASH, "src")
                    LINE("1", "       \\u001b[31;1merror:\\u001b[0m unable to download 'http://h/z': no way")
                        ERROR("builder for '/nix/store/" HASH "-src.drv' failed with exit code 1"),
                "nix-build", "");
    ok(is(&e, "fetch", "http://h/z cannot be fetched for src: no way", "network") && *e.derivation,
       "a fetch in a build");
    e = explain(START_BUILD("1", HASH, "src") LINE("1", "trying http://h/q.tar")
                    LINE("1", "curl: (6) Could not resolve host: h")
                        LINE("1", "error: cannot download q.tar from any mirror")
                            ERROR("builder for '/nix/store/" HASH "-src.drv' failed with exit code 1"),
                "nix-build", "");
    ok(is(&e, "fetch", "http://h/q.tar cannot be fetched for src: curl: (6)", ""), "with curl, as nixpkgs does it");
    e = explain(START_BUILD("1", HASH, "one") START_BUILD("2", OTHER, "two")
                    LINE("1", "error: unable to download 'u': x")
                        ERROR("builder for '/nix/store/" OTHER "-two.drv' failed with exit code 1"),
                "nix-build", "");
    ok(is(&e, "builder", "the builder of two", ""), "another derivation's fetch is not to blame");
    e = explain(START_BUILD("1", HASH, "x") LINE("1", "error: hash mismatch in fixed-output derivation '/nix/store/y'")
                    ERROR("builder for '/nix/store/" HASH "-x.drv' failed with exit code 1"),
                "nix-build", "");
    ok(is(&e, "builder", "the builder of x", ""), "what a builder prints does not decide");
    e = explain(ERROR("thrown on purpose"), "nix-eval", "");
    ok(is(&e, "eval", "build of 'x' failed: thrown on purpose", "flake.nix"), "an error of the expression");
    e = explain("", "nix-build", "");
    ok(is(&e, "build", "build of 'x' failed", "mvmctl build-log"), "no reason at all");
    e = explain(ERROR("builder for '/nix/store/" HASH "-x.drv' failed due to signal 9"), "nix-build", "out-of-memory");
    ok(is(&e, "out-of-memory", "build of 'x' failed", "less at once"), "what the guest knows goes first");
    e = explain("", "nix-build", "disk-full");
    ok(is(&e, "disk-full", "", "MVM_STORE_CAP"), "a full store");
    e = explain("", "nonsense", "disk-error");
    ok(is(&e, "disk-error", "", "checks the builder's disk") && e.phase == MVM_PHASE_NIX_BUILD, "a phase that is none");
}

static void test_host_full(void)
{
    static const char *const kinds[] = {"disk-full", "disk-error", ""};
    struct mvm_error e;
    host_full = true;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        e = explain("", "builder-bootstrap", kinds[i]);
        ok(is(&e, kinds[i], "build of 'x' failed", "the host's disk is full"),
           "where the host's disk is full, that is said, whatever has failed (%s)", kinds[i]);
    }
    e = explain("", "nix-build", "out-of-memory");
    ok(is(&e, "out-of-memory", "", "less at once"), "unless the reason is known");
    host_full = false;
}

/* ---- The folder ---- */

static void test_folder(void)
{
    struct mvm_error e = MVM_ERROR_INIT, why = MVM_ERROR_INIT;
    struct build_history_entry *all;
    size_t n;
    char first[BUILD_HISTORY_ID] = "";
    mvm_error_set(&why, -ECHILD, "it broke");
    why.phase = MVM_PHASE_NIX_BUILD;
    mvm_error_kind(&why, "builder", "/nix/store/x.drv");
    for (int i = 0; i < BUILD_HISTORY_KEEP + 5; i++) {
        CLEAN_BUILDLOG struct buildlog l = BUILDLOG_INIT;
        if (buildlog_open(&l, &home, "/f", "a", "0123456789abcdef", NULL, &e) < 0)
            abort();
        feed(&l, "text\n");
        if (i == 0)
            snprintf(first, sizeof(first), "%s", l.entry.id);
        if (i == BUILD_HISTORY_KEEP + 3)
            buildlog_finish(&l, &home, &why);
    }
    ok(build_history_list(&home, &all, &n, &e) == 0 && n == BUILD_HISTORY_KEEP, "as many logs as are kept");
    ok(build_history_open_text(&home, first, &e) == -ENOENT, "old ones go");
    bool sorted = true, found = false;
    for (size_t i = 0; i + 1 < n; i++)
        sorted &= strcmp(all[i].id, all[i + 1].id) > 0;
    for (size_t i = 0; i < n; i++)
        found |= strcmp(all[i].status, "error") == 0 && strcmp(all[i].kind, "builder") == 0 &&
                 strcmp(all[i].error, "it broke") == 0 && strcmp(all[i].phase, "nix-build") == 0 && all[i].size == 5;
    ok(sorted, "the newest comes first");
    ok(found && strcmp(all[n - 1].status, "unfinished") == 0, "each says what became of it");
    char name[512];
    snprintf(name, sizeof(name), "%s/logs/%s.log", home.cache, all[1].id);
    ok(truncate(name, (off_t)BUILD_HISTORY_BYTES) == 0, "a log of the greatest size");
    free(all);
    CLEAN_BUILDLOG struct buildlog l = BUILDLOG_INIT;
    ok(buildlog_open(&l, &home, "/f", "a", "0123456789abcdef", NULL, &e) == 0 &&
           build_history_list(&home, &all, &n, &e) == 0 && n == 2,
       "and all that are older make room");
    free(all);
}

int main(void)
{
    const char *top = tap_folder();
    char path[300];
    struct mvm_error e = MVM_ERROR_INIT;
    snprintf(path, sizeof(path), "%s/state", top);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", top);
    setenv("MVM_CACHE_DIR", path, 1);
    if (home_open(&home, &e) < 0)
        abort();
    test_text();
    test_counts();
    test_reasons();
    test_host_full();
    test_folder();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
