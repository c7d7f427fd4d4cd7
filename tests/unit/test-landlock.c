/* What a process may still do that has confined itself (jail/landlock.h). Each case is a child of this process. */
#include "tap.h"

#include "base/fd.h"
#include "base/macros.h"
#include "base/path.h"
#include "jail/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *top, *inside, *outside, *program;

static char *below(const char *folder, const char *name)
{
    char *path = path_join(folder, name, NULL);
    if (!path)
        abort();
    return path;
}

static void put(const char *folder, const char *name, mode_t mode)
{
    CLEAN_FREE char *path = below(folder, name);
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    if (fd < 0 || fd_write_all(fd, "text", 4) < 0 || fchmod(fd, mode) < 0)
        abort();
}

/* What can be tried, each a letter. */
enum { READS = 1, WRITES = 2, MAKES = 4, RENAMES = 8, REMOVES = 16, LISTS = 32, REMOVES_FOLDER = 64 };

static bool opens(const char *folder, const char *name, int flags)
{
    CLEAN_FREE char *path = below(folder, name);
    CLEAN_FD int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd >= 0;
}

static unsigned attempts(const char *folder)
{
    CLEAN_FREE char *file = below(folder, "file");
    CLEAN_FREE char *made = below(folder, "made");
    CLEAN_FREE char *renamed = below(folder, "renamed");
    CLEAN_FREE char *empty = below(folder, "empty");
    unsigned can = 0;
    can |= opens(folder, "file", O_RDONLY) ? READS : 0;
    can |= opens(folder, "file", O_WRONLY) ? WRITES : 0;
    can |= opens(folder, ".", O_RDONLY | O_DIRECTORY) ? LISTS : 0;
    can |= opens(folder, "made", O_WRONLY | O_CREAT) ? MAKES : 0;
    can |= rename(file, renamed) == 0 ? RENAMES : 0;
    can |= unlink(can & RENAMES ? renamed : file) == 0 ? REMOVES : 0;
    can |= rmdir(empty) == 0 ? REMOVES_FOLDER : 0;
    unlink(made);
    return can;
}

/* The exit status of a child which may do that inside, and then tries f. */
static int confined(enum landlock_access access, const char *path, int (*f)(const char *), const char *folder)
{
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int abi, rules = landlock_open(true, &abi);
        if (rules < 0 || (path && landlock_path(rules, abi, path, access) < 0) ||
            landlock_path(rules, abi, "/no/such", access) < 0)
            _exit(200);
        if (landlock_enforce(rules) == 0)
            _exit(f(folder));
        _exit(201);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int try_all(const char *folder)
{
    return (int)attempts(folder);
}

static int try_program(const char *path)
{
    char *const argv[] = {program, NULL};
    execv(path, argv);
    return errno == EACCES ? 13 : 14;
}

static void make_folders(void)
{
    static const char *const folders[] = {"inside", "outside"};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        CLEAN_FREE char *folder = below(top, folders[i]);
        CLEAN_FREE char *empty = below(folder, "empty");
        if ((mkdir(folder, 0700) < 0 && errno != EEXIST) || (mkdir(empty, 0700) < 0 && errno != EEXIST))
            abort();
        put(folder, "file", 0600);
    }
}

static void test_files(void)
{
    static const struct {
        enum landlock_access access;
        unsigned can;
        const char *what;
    } cases[] = {
        {LANDLOCK_READ, READS | LISTS, "reading allows to read and list, and no more"},
        {LANDLOCK_RUN, READS | LISTS, "running allows to read and list, too"},
        {LANDLOCK_WRITE, READS | LISTS | WRITES, "writing allows to write what is there, and makes nothing"},
        {LANDLOCK_CLEAR, REMOVES_FOLDER, "clearing allows to remove empty folders alone"},
        {LANDLOCK_OWN, READS | WRITES | MAKES | RENAMES | REMOVES | LISTS | REMOVES_FOLDER,
         "owning allows all that can be done below a folder"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        make_folders();
        int can = confined(cases[i].access, inside, try_all, inside);
        ok(can == (int)cases[i].can, "%s (%#x)", cases[i].what, (unsigned)can);
        can = confined(cases[i].access, inside, try_all, outside);
        ok(can == 0, "where case %zu is allowed inside nothing is allowed outside (%#x)", i, (unsigned)can);
    }
    make_folders();
    ok(confined(LANDLOCK_OWN, NULL, try_all, inside) == 0, "a set of rules that has none allows nothing");
}

static void test_programs(void)
{
    CLEAN_FREE char *copy = below(inside, "program");
    CLEAN_FD int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CLEAN_FD int out = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    if (fd_copy_file(in, out) < 0)
        abort();
    fd_closep(&out);
    ok(confined(LANDLOCK_READ, "/", try_program, copy) == 13, "what may be read may not be run");
    ok(confined(LANDLOCK_OWN, "/", try_program, copy) == 13,
       "what is owned may not be run either: it could be replaced");
    ok(confined(LANDLOCK_RUN, "/", try_program, copy) == 77, "a program that may be run runs");
}

static void test_descriptors(void)
{
    int abi;
    CLEAN_FD int rules = landlock_open(false, &abi);
    ok(rules >= 0 && abi >= 1 && landlock_fd(rules, abi, -1, LANDLOCK_READ) == -EBADF,
       "a descriptor that is none is no rule");
    CLEAN_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ok(landlock_fd(rules, abi, null, LANDLOCK_WRITE) == 0 && landlock_fd(rules, abi, null, LANDLOCK_RUN) == 0,
       "a device may be allowed as a file is");
    ok(landlock_enforce(-1) == -EBADF, "a set of rules that is none is not enforced");
}

int main(int argc, char **argv)
{
    if (argc == 1 && strcmp(argv[0], "confined") == 0)
        return 77;
    static char name[] = "confined";
    int abi = -1, rules = landlock_open(true, &abi);
    program = name;
    if (rules < 0) {
        ok(abi == 0, "a kernel without Landlock says so (%s)", strerror(-rules));
        return tap_end();
    }
    close(rules);
    top = strdup(tap_folder());
    inside = below(top, "inside");
    outside = below(top, "outside");
    test_files();
    test_programs();
    test_descriptors();
    (void)!path_remove_tree(AT_FDCWD, top);
    free(top);
    free(inside);
    free(outside);
    return tap_end();
}
