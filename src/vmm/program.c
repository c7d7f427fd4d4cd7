#include "vmm/program.h"
#include "base/clock.h"
#include "base/fd.h"
#include "vmm/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *program_find(const struct program *p, struct mvm_error *err)
{
    CLEAN_FREE char *found = process_find(p->name);
    char *program = found ? realpath(found, NULL) : NULL;
    if (program)
        return program;
    mvm_error_set(err, -ENOENT, "%s is not installed", p->name);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err, "%s", p->hint);
    return NULL;
}

int program_available(const struct program *p, struct mvm_error *err)
{
    CLEAN_FREE char *path = program_find(p, err);
    return path ? 0 : -ENOENT;
}

int program_version(const struct program *p, char *out, size_t size, struct mvm_error *err)
{
    const char *const argv[] = {p->name, "--version", NULL};
    const struct process_opts o = {.argv = argv, .stdin_fd = -1};
    CLEAN_BUF struct buf text = BUF_INIT(4096);
    int r = process_capture(&o, &text, NULL, clock_deadline(10000), err);
    if (r != 0)
        return r < 0 ? r : mvm_error_set(err, -EIO, "%s --version exits with %d", p->name, r);
    snprintf(out, size, "%.*s", (int)strcspn(buf_cstr(&text), "\n"), buf_cstr(&text));
    return 0;
}

int program_confinement(const struct program *p, struct jail_report *ret, struct mvm_error *err)
{
    const char *const argv[] = {p->name, "--version", NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    CLEAN_PROCESS struct process process = PROCESS_INIT;
    CLEAN_FD int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CLEAN_FREE char *path = program_find(p, err);
    if (!path)
        return -ENOENT;
    const struct jail_spec spec = {
        .program = path, .argv = argv, .envp = env, .device = "/dev/kvm", .log_fd = null, .sockets = p->sockets};
    int r = jail_start(&spec, &process, ret, err);
    if (r == -ENOEXEC)
        return 0;
    if (r == 0)
        r = process_wait(&process, clock_deadline(10000));
    if (r == 0 && process_exit_code(process.status) != 0)
        r = mvm_error_set(err, -EIO, "%s --version exits with %d in the jail", p->name,
                          process_exit_code(process.status));
    return r;
}

uint64_t program_largest_file(const struct vmm_config *c)
{
    uint64_t most = (2 * c->memory_mib + 1024) << 20;
    struct stat st;
    for (unsigned i = 0; i < c->n_disks; i++)
        if (!c->disks[i].read_only && stat(c->disks[i].path, &st) == 0 && (uint64_t)st.st_size > most)
            most = (uint64_t)st.st_size;
    return most;
}

/* Asking the program for its version would take half as long as restoring: its file says whether it is the same. */
int program_identity(const struct program *p, char *out, size_t size, struct mvm_error *err)
{
    CLEAN_FREE char *path = process_find(p->name);
    struct stat st;
    if (!path || stat(path, &st) < 0)
        return mvm_error_errno(err, -ENOENT, "%s", p->name);
    snprintf(out, size, "%s %llu.%llu %lld %lld.%09ld", p->name, (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return 0;
}

/* With KVM the guest has seen the host's processor. An emulated one is always the same. */
int program_identify_cpu(const struct vmm_accel *accel, char out[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    out[0] = '\0';
    if (accel_parse(accel->name) != ACCEL_KVM)
        return 0;
    CLEAN_FD int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    char text[8192]; /* the first processor: all are alike to the guest */
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return mvm_error_errno(err, -errno, "/proc/cpuinfo");
    text[n] = '\0';
    struct sha256 sha;
    uint8_t digest[SHA256_SIZE];
    sha256_init(&sha);
    static const char *const wanted[] = {"model name", "microcode", "flags", "Features", "CPU part"};
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0)
                sha256_update(&sha, line, strlen(line));
    sha256_final(&sha, digest);
    sha256_hex(digest, out);
    return 0;
}
