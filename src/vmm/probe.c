/*
 * Is KVM worth believing?
 *
 * A device file that answers every capability check proves nothing: where the host is itself a guest, KVM may emulate
 * each instruction (190 ns each, seen on such a machine), and ordinary kernels then die or spin. So a guest of a few
 * instructions is run: 32-bit code counting down in a loop and halting. Hardware needs tens of microseconds for it; a
 * timer ends it after 50 ms. Only a time near hardware speed counts. KVM interface: kernel,
 * Documentation/virt/kvm/api.rst.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "host/os.h"
#include "vmm/accel.h"
#include "vmm/vfkit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define PROBE_LOOPS      20000u
#define PROBE_TIMER_NS   (50 * NSEC_PER_MSEC)
#define MAX_NS_PER_INSTR 20 /* nested hardware stays below 2, emulation is near 200 */
#define VERDICT_FILE     "accel.json"
#define VERDICT_SCHEMA   2

/* ---- The host's TSC ---- */

#if defined(__x86_64__)
struct tsc_sample {
    uint64_t tsc, ns;
};

/* The pair whose two clock readings lie closest together: a busy host delays one of several, not all. */
static struct tsc_sample tsc_sample(void)
{
    struct tsc_sample best = {0};
    uint64_t best_gap = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = clock_now();
        uint64_t tsc = __rdtsc();
        uint64_t after = clock_now();
        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct tsc_sample){tsc, before + (after - before) / 2};
        }
    }
    return best;
}

/* Measured against the monotonic clock over 20 ms: good to some parts in 100,000, which is what a guest kernel's own
 * calibration reaches. */
static uint64_t measure_tsc_khz(void)
{
    struct tsc_sample a = tsc_sample();
    struct timespec pause = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
    while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
        ;
    struct tsc_sample b = tsc_sample();
    if (b.ns <= a.ns || b.tsc <= a.tsc)
        return 0;
    return (uint64_t)((__uint128_t)(b.tsc - a.tsc) * 1000000 / (b.ns - a.ns));
}
#else
static uint64_t measure_tsc_khz(void)
{
    return 0;
}
#endif

/* ---- The small guest ---- */

#if defined(__x86_64__)
/* mov ecx, PROBE_LOOPS; again: dec ecx; jnz again; hlt */
static const uint8_t probe_code[] = {
    0xb9, PROBE_LOOPS & 0xff, (PROBE_LOOPS >> 8) & 0xff, 0, 0, 0x49, 0x75, 0xfd, 0xf4,
};

static int setup_vcpu(int vcpu)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    /* Flat 32-bit protected mode: what kernels start in, and what hardware without "unrestricted guest" runs natively.
     */
    struct kvm_segment flat = {.limit = 0xffffffff, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1, .selector = 16};
    struct kvm_segment code = flat;
    code.type = 11;
    code.selector = 8;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    sregs.cr0 |= 1;
    struct kvm_regs regs = {.rip = 0, .rflags = 2};
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        return -errno;
    return 0;
}

static void on_alarm(int sig)
{
}

/* Runs the vcpu with a timer that interrupts it. 0 when it halted, else -errno. */
static int run_bounded(int vcpu, struct kvm_run *run, uint64_t *ret_ns)
{
    struct sigaction sa = {.sa_handler = on_alarm}, old;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGALRM, &sa, &old);
    timer_t timer;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    int r = timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0 ? -errno : 0;
    if (r == 0) {
        /* Repeats, so that a signal that comes just before KVM_RUN does not leave it without one. */
        struct itimerspec when = {.it_value.tv_nsec = (long)PROBE_TIMER_NS,
                                  .it_interval.tv_nsec = (long)PROBE_TIMER_NS};
        timer_settime(timer, 0, &when, NULL);
        uint64_t start = clock_now();
        if (ioctl(vcpu, KVM_RUN, 0) < 0)
            r = errno == EINTR ? -ETIMEDOUT : -errno;
        else if (run->exit_reason != KVM_EXIT_HLT)
            r = -EIO;
        *ret_ns = clock_now() - start;
        timer_delete(timer);
    }
    sigaction(SIGALRM, &old, NULL);
    return r;
}

static int run_probe_guest(int kvm, uint64_t *ret_ns)
{
    CLEAN_FD int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0)
        return -errno;
    uint8_t *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return -errno;
    memcpy(mem, probe_code, sizeof(probe_code));
    struct kvm_userspace_memory_region region = {.memory_size = 4096, .userspace_addr = (uintptr_t)mem};
    CLEAN_FD int vcpu = -1;
    struct kvm_run *run = MAP_FAILED;
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    int r = 0;
    if (size <= 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 || (vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0 ||
        (run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0)) == MAP_FAILED)
        r = -errno;
    if (r == 0)
        r = setup_vcpu(vcpu);
    if (r == 0)
        r = run_bounded(vcpu, run, ret_ns);
    if (run != MAP_FAILED)
        munmap(run, (size_t)size);
    munmap(mem, 4096);
    return r;
}

/* True where KVM ran the guest at hardware speed; the reason either way. */
static bool probe_kvm(int kvm, char *reason, size_t size)
{
    uint64_t ns = 0;
    int r = run_probe_guest(kvm, &ns);
    unsigned instructions = 2 * PROBE_LOOPS + 2;
    if (r < 0 && r != -ETIMEDOUT) {
        snprintf(reason, size, "kvm could not run a small guest: %s", strerror(-r));
        return false;
    }
    if (r == 0 && ns <= (uint64_t)MAX_NS_PER_INSTR * instructions) {
        snprintf(reason, size, "kvm ran %u guest instructions in %.2f ms", instructions, (double)ns / 1e6);
        return true;
    }
    snprintf(reason, size, "kvm here emulates instruction by instruction (%u took %s%.1f ms)", instructions,
             r < 0 ? "over " : "", (double)ns / 1e6);
    return false;
}
#else
static bool probe_kvm(int kvm, char *reason, size_t size)
{
    snprintf(reason, size, "kvm has no probe for this architecture");
    return false;
}
#endif

/* ---- The verdict, kept for this boot ---- */

static int verdict_load(int state_fd, const char *boot_id, bool kvm_open, struct vmm_accel *a)
{
    CLEAN_FD int run = openat(state_fd, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_JSON json_object *o = NULL;
    if (run < 0 || json_load_sealed(run, VERDICT_FILE, 4096, &o, NULL) < 0)
        return -ENOENT;
    const char *boot, *name, *reason;
    int64_t khz, schema, had_kvm;
    if (json_get_string(o, "boot_id", &boot, NULL) < 0 || json_get_string(o, "accel", &name, NULL) < 0 ||
        json_get_string(o, "reason", &reason, NULL) < 0 || json_get_int(o, "tsc_khz", &khz, NULL) < 0 ||
        json_get_int(o, "schema_version", &schema, NULL) < 0 || json_get_int(o, "kvm_open", &had_kvm, NULL) < 0 ||
        accel_parse(name) == ACCELS)
        return -EINVAL;
    if (schema != VERDICT_SCHEMA || strcmp(boot, boot_id) != 0 || had_kvm != kvm_open || khz < 0)
        return -ESTALE;
    snprintf(a->name, sizeof(a->name), "%s", name);
    snprintf(a->reason, sizeof(a->reason), "%s", reason);
    a->tsc_khz = (uint64_t)khz;
    return 0;
}

static void verdict_save(int state_fd, const char *boot_id, bool kvm_open, const struct vmm_accel *a)
{
    CLEAN_FD int run = path_open_dir(state_fd, "run", NULL);
    if (run < 0)
        return; /* it is measured again next time */
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", VERDICT_SCHEMA);
    json_add_string(o, "boot_id", boot_id);
    json_add_int(o, "kvm_open", kvm_open);
    json_add_string(o, "accel", a->name);
    json_add_string(o, "reason", a->reason);
    json_add_int(o, "tsc_khz", (int64_t)a->tsc_khz);
    (void)!json_save_sealed(run, VERDICT_FILE, o, 0600, false, NULL);
}

static void judge(int kvm, int kvm_errno, struct vmm_accel *a)
{
    bool good = false;
    if (kvm >= 0)
        good = probe_kvm(kvm, a->reason, sizeof(a->reason));
    else if (kvm_errno == ENOENT)
        snprintf(a->reason, sizeof(a->reason), "this machine has no /dev/kvm");
    else
        snprintf(a->reason, sizeof(a->reason), "/dev/kvm cannot be opened: %s", strerror(kvm_errno));
    snprintf(a->name, sizeof(a->name), "%s", accel_name(good ? ACCEL_KVM : ACCEL_EMULATION));
    a->tsc_khz = measure_tsc_khz();
}

int vmm_choose_accel(int state_fd, const char *force, struct vmm_accel *ret, struct mvm_error *err)
{
    enum accel forced = force ? accel_parse(force) : ACCELS;
    if (force && forced == ACCELS)
        return mvm_error_set(err, -EINVAL, "acceleration '%s': neither kvm nor tcg", force);
    CLEAN_FD int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int kvm_errno = kvm < 0 ? errno : 0;
    char boot_id[64];
    os_boot_id(boot_id, sizeof(boot_id));
    struct vmm_accel a = {0};
    if (verdict_load(state_fd, boot_id, kvm >= 0, &a) < 0) {
        judge(kvm, kvm_errno, &a);
        verdict_save(state_fd, boot_id, kvm >= 0, &a);
    }
    if (force && forced != accel_parse(a.name)) {
        if (forced == ACCEL_KVM)
            return mvm_error_set(err, -ENOTSUP, "kvm was asked for but cannot be used: %s", a.reason);
        snprintf(a.name, sizeof(a.name), "%s", accel_name(forced));
        snprintf(a.reason, sizeof(a.reason), "asked for");
    }
    *ret = a;
    return 0;
}

double vmm_creation_ms(const char **ret_hint)
{
    *ret_hint = "mount the cgroup root with favordynmods, or set kvm.nx_huge_pages=never";
    CLEAN_FD int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    uint64_t start = clock_now();
    CLEAN_FD int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    return vm < 0 ? -1 : (double)(clock_now() - start) / NSEC_PER_MSEC;
}

/* What has its name here is a stand-in. */
int vfkit_host(struct mvm_error *err)
{
    return 0;
}
