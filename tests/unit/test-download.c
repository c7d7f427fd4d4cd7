/* One file by libcurl (release/download.h), from file:// URLs; what servers do is in tests/cli. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "host/interrupt.h"
#include "release/download.h"
#include "release/libcurl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 300000u

static const char *folder;
static uint8_t content[SIZE];
static char url[4096];
static struct progress progress = PROGRESS_INIT(NULL, NULL);

static char *path_of(const char *name)
{
    return path_join(folder, name, NULL);
}

/* A file of what has come so far. */
static int begin(const void *p, size_t n)
{
    CLEAN_FREE char *path = path_of("got");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, p, n) < 0)
        abort();
    return fd;
}

static bool is_content(int fd, size_t n)
{
    CLEAN_FREE uint8_t *got = malloc(n + 1);
    struct stat st;
    return fstat(fd, &st) == 0 && (size_t)st.st_size == n && fd_pread_all(fd, got, n, 0) == 0 &&
           memcmp(got, content, n) == 0;
}

static void test_text(void)
{
    const struct download_opts o = {.url = url, .name = "the file", .stall_seconds = 5};
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_BUF struct buf exact = BUF_INIT(SIZE);
    CLEAN_BUF struct buf small = BUF_INIT(SIZE - 1);
    ok(download_text(&o, &exact, &progress, &e) == 0 && exact.len == SIZE && memcmp(exact.data, content, SIZE) == 0,
       "a file that fits exactly comes whole (%s)", e.msg);
    ok(download_text(&o, &small, &progress, &e) == -EMSGSIZE && small.len < SIZE &&
           strstr(e.msg, "the file is larger than the 299999"),
       "one byte more than may come is refused");
    const struct download_opts none = {.url = "file:///no/such/file", .name = "nothing", .stall_seconds = 5};
    ok(download_text(&none, &exact, &progress, &e) == -ENOENT && strstr(e.msg, "nothing: it is not there"),
       "a file that is not there is told by its name");
}

static void test_file(void)
{
    const struct download_opts o = {.url = url, .name = "the file", .stall_seconds = 5};
    struct mvm_error e = MVM_ERROR_INIT;
    {
        CLEAN_FD int fd = begin("", 0);
        ok(download_file(&o, fd, SIZE, &progress, &e) == 0 && is_content(fd, SIZE), "an empty file is filled (%s)",
           e.msg);
        ok(download_file(&o, fd, SIZE, &progress, &e) == 0 && is_content(fd, SIZE),
           "a file that is whole is left alone");
    }
    {
        CLEAN_FD int fd = begin(content, SIZE / 2);
        ok(download_file(&o, fd, SIZE, &progress, &e) == 0 && is_content(fd, SIZE), "a half of a file is gone on from");
    }
    {
        CLEAN_FD int fd = begin(content, SIZE);
        ok(fd_pwrite_all(fd, "more", 4, SIZE) == 0 && download_file(&o, fd, SIZE, &progress, &e) == 0 &&
               is_content(fd, SIZE),
           "a file that has more than it may is begun again");
    }
    {
        CLEAN_FD int fd = begin("", 0);
        struct stat st;
        ok(download_file(&o, fd, SIZE - 1, &progress, &e) == -EMSGSIZE && fstat(fd, &st) == 0 && st.st_size < SIZE,
           "a file that is larger there is refused, and never takes more room than was allowed");
        ok(download_file(&o, fd, SIZE + 1, &progress, &e) == -ENODATA && strstr(e.msg, "300000 bytes where 300001"),
           "one that is smaller there is told with both sizes (%s)", e.msg);
    }
    CLEAN_FD int closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ok(download_file(&o, closed, SIZE, &progress, &e) < 0 && strstr(e.msg, "cannot keep the file"),
       "a file that cannot be written is an error of its own");
}

static void test_schemes(void)
{
    static const char *const bad[] = {"http://127.0.0.1:1/x", "ftp://127.0.0.1:1/x", "gopher://127.0.0.1:1/x"};
    struct mvm_error e = MVM_ERROR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct download_opts o = {.url = bad[i], .name = "x", .stall_seconds = 5};
        CLEAN_BUF struct buf out = BUF_INIT(100);
        ok(download_text(&o, &out, &progress, &e) == -EPROTONOSUPPORT, "%s is no URL to download from (%s)", bad[i],
           e.msg);
    }
    const struct download_opts refused = {.url = "https://127.0.0.1:1/x", .name = "x", .stall_seconds = 5};
    CLEAN_BUF struct buf out = BUF_INIT(100);
    ok(download_text(&refused, &out, &progress, &e) == -EIO && out.len == 0,
       "a server that is not there is an error (%s)", e.msg);
    const struct download_opts no_ca = {
        .url = "https://127.0.0.1:1/x", .name = "x", .ca_file = "/no/such/file", .stall_seconds = 5};
    ok(download_text(&no_ca, &out, &progress, &e) < 0, "so is a file of certificates that is not there");
}

static void test_library(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    const struct libcurl *lib = libcurl_load(&e);
    ok(lib && lib == libcurl_load(&e), "libcurl is loaded once");
    void *const *functions = (void *const *)(const void *)lib;
    bool all = lib != NULL;
    for (size_t i = 0; lib && i < sizeof(*lib) / sizeof(void *); i++)
        all &= functions[i] != NULL;
    ok(all && strcmp(lib->easy_strerror(CURLE_OK), "No error") == 0, "with all of its functions");
}

/* Last: a signal that has come stays. */
static void test_interrupted(void)
{
    const struct download_opts o = {.url = url, .name = "the file", .stall_seconds = 5};
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_BUF struct buf out = BUF_INIT(SIZE);
    interrupt_install();
    raise(SIGINT);
    ok(download_text(&o, &out, &progress, &e) == -EINTR && strstr(e.msg, "interrupted while downloading the file"),
       "a signal ends a download");
}

int main(void)
{
    folder = tap_folder();
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    CLEAN_FREE char *source = path_of("source");
    CLEAN_FD int fd = open(source, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, content, SIZE) < 0)
        return 1;
    snprintf(url, sizeof(url), "file://%s", source);
    test_library();
    test_text();
    test_file();
    test_schemes();
    test_interrupted();
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
