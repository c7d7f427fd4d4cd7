/* The distribution's packages that a builder is made of. apt and mmdebstrap are scripts of the test, first in PATH. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "bootstrap/packages.h"
#include "bootstrap/stage0.h"
#include "builder/builder_image.h"
#include "cache/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct home home = HOME_INIT;
static char *top;
static int bin = -1;

/* ---- Lists ---- */

static void lists(const char *list, const char *want, const char *what)
{
    json_object *o = packages_to_json(list);
    const char *got = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
    ok(strcmp(got, want) == 0, "%s", what);
    if (strcmp(got, want) != 0)
        printf("# %s\n", got);
    json_object_put(o);
}

static void test_lists(void)
{
    lists("", "[]", "an empty list has no packages");
    lists(HEX64 "  git_1%3a2.47.3-0_amd64.deb\n" HEX64 "  tar_1.35_amd64.deb",
          "[{\"name\":\"git\",\"version\":\"1:2.47.3-0\",\"sha256\":\"" HEX64 "\"},"
          "{\"name\":\"tar\",\"version\":\"1.35\",\"sha256\":\"" HEX64 "\"}]",
          "each archive is a package with its version, whose colon is written as %3a");
    lists(HEX64 "  git_1%3A2_all.deb\n", "[{\"name\":\"git\",\"version\":\"1:2\",\"sha256\":\"" HEX64 "\"}]",
          "the colon may have large digits");
    lists("words\n\n" HEX64 "  git.deb\n" HEX64 "  git_1.deb\n" HEX64 "  git_1_amd64.tar\nG" HEX64 "  a_1_b.deb\n" HEX64
          ".deb\n",
          "[]", "lines that are none of an archive are left out");
    char longest[1000] = HEX64 "  a_";
    memset(longest + strlen(longest), '1', 600);
    strcat(longest, "_b.deb\n");
    json_object *o = packages_to_json(longest);
    ok(json_object_array_length(o) == 1, "an endless version is cut");
    json_object_put(o);
}

/* ---- Fetching ---- */

static void script(const char *name, const char *text)
{
    CLEAN_FD int fd = openat(bin, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

/* The host's apt, which knows its release's repository among others. */
static void good_apt(void)
{
    script("apt-get", "#!/bin/sh\n. /etc/os-release\necho 'other|main|http://127.0.0.1/other'\n"
                      "echo \"$VERSION_CODENAME|contrib|http://127.0.0.1/contrib\"\n"
                      "echo \"$VERSION_CODENAME|main|http://127.0.0.1/debian\"\n");
    script("apt-config", "#!/bin/sh\necho http://127.0.0.1:3128\n");
}

static int ensure(char **path, struct mvm_error *e)
{
    struct progress p = PROGRESS_INIT(NULL, NULL);
    *path = NULL;
    return packages_ensure(&home, &p, path, e);
}

static bool stage_is_left(void)
{
    CLEAN_FD int dir = openat(home.cache_fd, "stage0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    return dir >= 0 && fstat(dir, &st) == 0 && st.st_nlink > 2; /* more folders than itself */
}

static void test_failures(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char *path;
    script("apt-get", "#!/bin/sh\nexit 0\n");
    script("apt-config", "#!/bin/sh\n");
    ok(ensure(&path, &e) == -ENOENT && !path && strstr(e.msg, "apt knows no repository") &&
           strstr(e.hint, "apt-get update"),
       "an apt without this release's repository is an error with a hint (%s)", e.msg);
    good_apt();
    script("mmdebstrap", "#!/bin/sh\nmkdir \"$9\"\necho 'I: downloading' \nyes long words of apt | head -1000\n"
                         "echo 'E: the last words' >&2\nexit 25\n");
    ok(ensure(&path, &e) == -ECHILD && strstr(e.msg, "status 25") && strstr(e.detail, "E: the last words") &&
           strlen(e.detail) <= 3000 && !stage_is_left(),
       "when mmdebstrap fails its last words are told, and nothing is left (%s)", e.msg);
    script("mmdebstrap", "#!/bin/sh\nkill -9 $$\n");
    ok(ensure(&path, &e) == -ECHILD && strstr(e.msg, "137"), "one that is killed is told as a shell does");
}

static void test_fetch(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char *path, *again;
    good_apt();
    script("mmdebstrap", "#!/bin/sh\nfor a; do target=$source; source=$a; done\nmkdir \"$target\"\n"
                         "echo \"$source $http_proxy $*\" >\"$target/packages.txt\"\n");
    ok(ensure(&path, &e) == 0 && path && strncmp(path, home.cache, strlen(home.cache)) == 0,
       "packages are fetched into the cache (%s)", e.msg);
    CLEAN_FREE char *list = path ? path_join(path, "packages.txt", NULL) : NULL;
    CLEAN_BUF struct buf text = BUF_INIT(64 * 1024);
    ok(list && path_read_file(AT_FDCWD, list, &text, NULL) == 0 &&
           strstr(buf_cstr(&text), "http://127.0.0.1/debian " PACKAGES_SUITE),
       "they come from the repository of the host's own release");
    ok(strstr(buf_cstr(&text), "http://127.0.0.1:3128"), "by apt's proxy, which is in the environment");
    bool all = strstr(buf_cstr(&text), packages_kernel()) && strstr(buf_cstr(&text), packages_arch());
    for (size_t i = 0; packages_list[i]; i++)
        all &= strstr(buf_cstr(&text), packages_list[i]) != NULL;
    ok(all, "all that a builder is made of is asked for");
    script("mmdebstrap", "#!/bin/sh\nexit 1\n");
    ok(ensure(&again, &e) == 0 && path && strcmp(path, again) == 0, "what is in the cache is not fetched again");
    free(path);
    free(again);
}

/* ---- What is made of them ---- */

static void make_build(const char *name)
{
    CLEAN_FREE char *path = path_join("dev/builds", name, "vmlinux", NULL);
    if (path_make_parents(home.state_fd, path, 0700) < 0)
        abort();
    CLEAN_FD int fd = openat(home.state_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
}

static bool has_build(const char *name)
{
    CLEAN_FREE char *path = path_join("dev/builds", name, NULL);
    return faccessat(home.state_fd, path, F_OK, 0) == 0;
}

static void test_sweep(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    stage0_sweep(&home);
    ok(!has_build(".stage-0"), "where no image was ever made nothing is swept");
    make_build(".stage-0");
    make_build("0123456789abcdef");
    CLEAN_FD int builds = openat(home.state_fd, "dev/builds", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok(lock_take(&lock, builds, ".lock", "assembling", NULL, &e) == 0, "(another process makes one)");
    stage0_sweep(&home);
    ok(has_build(".stage-0"), "what a living process makes is left alone");
    lock_done(&lock);
    stage0_sweep(&home);
    ok(!has_build(".stage-0") && has_build("0123456789abcdef"), "what a killed one left goes, and nothing else");
}

static void test_report(void)
{
    struct builder_image_report r = {.kind = "source-checkout", .reason = CACHE_HIT};
    json_object *o = builder_image_report_json(&r);
    ok(strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
              "{\"kind\":\"source-checkout\",\"ready\":true,\"reason\":\"hit\"}") == 0,
       "a builder image from the cache has a verdict and no seed");
    json_object_put(o);
    r = (struct builder_image_report){.kind = "release",
                                      .reason = CACHE_MISSING_ARTIFACT,
                                      .seed = "dev/current",
                                      .passed = {{"dev/builds", "too old"}},
                                      .n_passed = 1};
    o = builder_image_report_json(&r);
    ok(strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
              "{\"kind\":\"release\",\"ready\":false,\"reason\":\"missing_artifact\",\"seed\":\"dev/current\","
              "\"passed_over\":[{\"seed\":\"dev/builds\",\"reason\":\"too old\"}]}") == 0,
       "one that was built tells in which seed, and why not in another");
    json_object_put(o);
}

int main(void)
{
    char environment[8192];
    top = strdup(tap_folder());
    CLEAN_FREE char *state = path_join(top, "state", NULL);
    CLEAN_FREE char *cache = path_join(top, "cache", NULL);
    CLEAN_FREE char *programs = path_join(top, "bin", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    unsetenv("http_proxy");
    if (home_open(&home, NULL) < 0 || mkdir(programs, 0700) < 0)
        return 1;
    bin = open(programs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(environment, sizeof(environment), "%s:%s", programs, getenv("PATH"));
    setenv("PATH", environment, 1);
    test_lists();
    test_failures();
    test_fetch();
    test_sweep();
    test_report();
    close(bin);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    free(top);
    return tap_end();
}
