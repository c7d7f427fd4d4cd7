/* The command line of QEMU, word by word: what a guest's devices are stands here. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "vmm/qemu_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define QEMU_PROGRAM "qemu-system-x86_64"

static const char *line_of(const struct vmm_config *c)
{
    static char line[4096];
    CLEAN_ARGS struct args a = {0};
    line[0] = '\0';
    if (qemu_args(&a, c, NULL) < 0)
        return "refused";
    for (size_t i = 0; i < a.n; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", i ? " " : "", a.v[i]);
    return line;
}

static struct vmm_config config(void)
{
    return (struct vmm_config){
        .name = "web",
        .arch = "x86_64",
        .kernel = "/i/vmlinux",
        .kernel_offers =
            KERNEL_OFFER(KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_PCI) | KERNEL_OFFER(KERNEL_CONSOLE), /* Debian's */
        .cmdline = "mvm.root=vda",
        .disks = {{.path = "/i/root,fs", .read_only = true}, {.path = "/v/own", .discard = true}},
        .n_disks = 2,
        .memory_mib = 256,
        .vcpus = 2,
        .memory_fd = -1,
        .net = VMM_NET_FRAMES,
        .accel = {.name = "tcg", .tsc_khz = 2000000},
        .channel_fd = 10,
        .console_fd = 11,
        .control_fd = 12,
        .frames_fd = 13,
        .mac = "52:54:00:12:34:56",
    };
}

#define MACHINE                                                                                                        \
    " -name mvm-web -M microvm,acpi=on,memory-backend=ram -nodefaults -no-user-config -display none -no-reboot "       \
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -accel "
#define DISKS                                                                                                          \
    " -blockdev driver=raw,node-name=disk0,read-only=on,discard=ignore,file.driver=file,file.filename=/i/root,,fs,"    \
    "file.locking=off -device virtio-blk-device,drive=disk0,serial=disk0,werror=report,rerror=report"                  \
    " -blockdev driver=raw,node-name=disk1,read-only=off,discard=unmap,file.driver=file,file.filename=/v/own"          \
    " -device virtio-blk-device,drive=disk1,serial=disk1,werror=report,rerror=report"
#define NETWORK                                                                                                        \
    " -netdev dgram,id=net0,local.type=fd,local.str=13 -device virtio-net-device,netdev=net0,mac=52:54:00:12:34:56"
#define CHANNELS                                                                                                       \
    " -chardev socket,id=console,fd=11 -serial chardev:console -chardev socket,id=control,fd=12"                       \
    " -mon chardev=control,mode=control -device virtio-serial-device,max_ports=2 -chardev socket,id=channel,fd=10"     \
    " -device virtserialport,chardev=channel,name=mvm.agent"
#define KERNEL                                                                                                         \
    " -kernel /i/vmlinux -append console=ttyS0 quiet panic=-1 reboot=t no_timer_check nokaslr mitigations=off "        \
    "random.trust_cpu=on tsc_early_khz=2000000 tsc=reliable mvm.root=vda"

static void is_line(const struct vmm_config *c, const char *wanted, const char *what)
{
    const char *line = line_of(c), *words = strchr(line, ' ');
    bool same = words && strcmp(words, wanted) == 0;
    ok(same, "%s", what);
    if (!same)
        printf("# got: %s\n", line);
}

#define BOTH(a, b) KERNEL_OFFER(a) | KERNEL_OFFER(b)

/* What a machine has depends on what the image's kernel can find. */
static void test_offers(void)
{
    struct vmm_config c = config();
    c.kernel_offers |= KERNEL_OFFER(KERNEL_MMIO_CMDLINE);
    ok(strstr(line_of(&c), " -M microvm,acpi=off,memory-backend=ram -") && strstr(line_of(&c), " virtio-blk-device,") &&
           strstr(line_of(&c), " lapic_timer_khz="),
       "a kernel that reads devices off its command line gets no ACPI");
    c.kernel_offers = BOTH(KERNEL_PCI, KERNEL_CONSOLE);
    ok(strstr(line_of(&c), " -M microvm,acpi=on,memory-backend=ram,pcie=on ") &&
           strstr(line_of(&c), " virtio-blk-pci,") && strstr(line_of(&c), " virtio-net-pci,") &&
           strstr(line_of(&c), " virtio-serial-pci,") && !strstr(line_of(&c), "-device,"),
       "one that knows PCI alone gets all its devices there");
    static const struct {
        unsigned offers;
        const char *words;
    } bad[] = {
        {0, "offers nothing"},
        {KERNEL_OFFER(KERNEL_VSOCK), "offers vsock:"},
        {BOTH(KERNEL_VSOCK, KERNEL_CONSOLE), "offers vsock, console:"},
        {BOTH(KERNEL_MMIO_CMDLINE, KERNEL_VSOCK), "offers mmio-cmdline, vsock:"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        CLEAN_ARGS struct args a = {0};
        c.kernel_offers = bad[i].offers;
        ok(qemu_takes_kernel(c.arch, c.kernel_offers, NULL) == -ENOTSUP && qemu_args(&a, &c, &e) == -ENOTSUP &&
               a.n == 0 && strstr(e.msg, bad[i].words) && e.phase == MVM_PHASE_RUNTIME_BACKEND &&
               strstr(e.hint, "kernel_offers"),
           "a kernel that %s is refused by name, with the way out", bad[i].words);
    }
}

/* ---- What others ask of the backend ---- */

static struct vmm_identity identity_of(const struct vmm_config *c)
{
    struct vmm_identity id = {0};
    if (vmm_qemu.identity(c, &id, NULL) < 0)
        abort();
    return id;
}

/* What a snapshot depends on, and what not: a program of that name stands in for QEMU. */
static void test_identity(void)
{
    const char *folder = tap_folder();
    CLEAN_FREE char *path = strdup(getenv("PATH"));
    CLEAN_FREE char *program = path_join(folder, QEMU_PROGRAM, NULL);
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_config c = config();
    char text[200];
    setenv("PATH", folder, 1);
    ok(vmm_qemu.available("x86_64", &e) == -ENOENT && strstr(e.msg, QEMU_PROGRAM) && strstr(e.hint, "qemu-system-x86"),
       "where QEMU is missing its package is named");
    ok(vmm_qemu.available("aarch64", &e) == -ENOENT && strstr(e.msg, "qemu-system-aarch64") &&
           strstr(e.hint, "qemu-system-arm"),
       "and that of another architecture's guests");
    static const char script[] = "#!/bin/sh\necho 'QEMU emulator version 7'\necho more\n";
    CLEAN_FD int fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (fd < 0 || fd_write_all(fd, script, sizeof(script) - 1) < 0)
        abort();
    fd_closep(&fd);
    ok(vmm_qemu.available("x86_64", NULL) == 0 && vmm_qemu.version(text, sizeof(text), NULL) == 0 &&
           strcmp(text, "QEMU emulator version 7") == 0,
       "its version is the first line that it says");
    struct vmm_identity one = identity_of(&c), other;
    c.name = "another";
    c.kernel = "/j/vmlinux";
    c.disks[1].path = "/v/another";
    c.channel_fd = 20;
    c.accel.tsc_khz++;
    other = identity_of(&c);
    ok(strcmp(one.machine, other.machine) == 0 && one.machine[0],
       "names, paths, descriptors and the clock's rate are no part of what a machine is");
    c.vcpus++;
    other = identity_of(&c);
    ok(strcmp(one.machine, other.machine) != 0, "a machine with a processor more is another");
    ok(strcmp(one.backend, other.backend) == 0 && !one.cpu[0],
       "under software emulation the host's processor is no matter");
    snprintf(c.accel.name, sizeof(c.accel.name), "kvm");
    other = identity_of(&c);
    ok(other.cpu[0], "with hardware acceleration it is");
    unlink(program);
    rmdir(folder);
    setenv("PATH", path, 1);
}

static void test_disks(void)
{
    const char *folder = tap_folder();
    CLEAN_FREE char *path = path_join(folder, "disk", NULL);
    CLEAN_FD int first = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CLEAN_FD int second = open(path, O_RDWR | O_CLOEXEC);
    ok(first >= 0 && vmm_qemu.lock_disk(first, false) == 0 && vmm_qemu.lock_disk(second, false) == -EAGAIN,
       "a disk has one that writes to it");
    fd_closep(&first);
    ok(vmm_qemu.lock_disk(second, false) == 0, "until that one is gone");
    unlink(path);
    rmdir(folder);
}

/* Nothing but the machine differs: what the host gives and takes is the same. */
static void test_virt(void)
{
    struct vmm_config c = config();
    c.arch = "aarch64";
    is_line(&c,
            " -name mvm-web -M virt,memory-backend=ram,gic-version=2 -nodefaults -no-user-config -display none "
            "-no-reboot -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -accel "
            "tcg,thread=multi -cpu max,pauth=off -smp 2 -m 256 -object memory-backend-ram,id=ram,size=256M"
            " -kernel /i/vmlinux -append console=ttyAMA0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on "
            "mvm.root=vda"
            " -blockdev driver=raw,node-name=disk0,read-only=on,discard=ignore,file.driver=file,"
            "file.filename=/i/root,,fs,file.locking=off"
            " -device virtio-blk-pci,drive=disk0,serial=disk0,werror=report,rerror=report"
            " -blockdev driver=raw,node-name=disk1,read-only=off,discard=unmap,file.driver=file,file.filename=/v/own"
            " -device virtio-blk-pci,drive=disk1,serial=disk1,werror=report,rerror=report"
            " -netdev dgram,id=net0,local.type=fd,local.str=13"
            " -device virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile="
            " -chardev socket,id=console,fd=11 -serial chardev:console -chardev socket,id=control,fd=12"
            " -mon chardev=control,mode=control -device virtio-serial-pci,max_ports=2 -chardev socket,id=channel,fd=10"
            " -device virtserialport,chardev=channel,name=mvm.agent",
            "a guest for aarch64 has the virt machine, with its devices on PCI");
    ok(strncmp(line_of(&c), "qemu-system-aarch64 ", 20) == 0 &&
           strcmp(qemu_program("x86_64")->name, "qemu-system-x86_64") == 0,
       "and that machine's own QEMU");
    c.vcpus = 9;
    ok(strstr(line_of(&c), ",gic-version=3 "), "with more than eight processors it has another interrupt controller");
    snprintf(c.accel.name, sizeof(c.accel.name), "kvm");
    ok(strstr(line_of(&c), ",gic-version=host ") && strstr(line_of(&c), " -cpu host "),
       "with hardware acceleration it has the host's");
    struct mvm_error e = MVM_ERROR_INIT;
    ok(qemu_takes_kernel("aarch64", BOTH(KERNEL_MMIO_ACPI, KERNEL_CONSOLE), &e) == -ENOTSUP &&
           strstr(e.msg, "qemu wants console and pci"),
       "an aarch64 kernel without PCI is refused, and what is wanted is told");
}

int main(void)
{
    test_identity();
    test_virt();
    test_disks();
    test_offers();
    struct vmm_config c = config();
    is_line(&c,
            MACHINE "tcg,thread=multi -cpu max,erms=off,fsrm=off -smp 2 -m 256 -object "
                    "memory-backend-ram,id=ram,size=256M" KERNEL DISKS NETWORK CHANNELS,
            "a guest that boots in software emulation has these devices, a comma in a path doubled");
    c.incoming = true;
    c.memory_fd = 7;
    is_line(&c,
            MACHINE "tcg,thread=multi -cpu max,erms=off,fsrm=off -smp 2 -m 256 -object memory-backend-file,id=ram,"
                    "size=256M,mem-path=/proc/self/fd/7,share=off -incoming defer -S" DISKS NETWORK CHANNELS,
            "one that continues has the same devices, no kernel, its own copy of the memory, and is paused");
    c = config();
    snprintf(c.accel.name, sizeof(c.accel.name), "kvm");
    c.vcpus = 1;
    c.net = VMM_NET_NONE;
    is_line(&c, MACHINE "kvm -cpu host -smp 1 -m 256 -object memory-backend-ram,id=ram,size=256M" KERNEL DISKS CHANNELS,
            "with hardware acceleration the processor is the host's; without a network there is no card");
    c = config();
    c.count = true;
    ok(strstr(line_of(&c), " -accel tcg,thread=single -icount shift=0,sleep=off ") != NULL &&
           strstr(line_of(&c), " lpj=4000000 mvm.count ") != NULL,
       "a guest whose instructions are counted has one thread and a clock of instructions");
    return tap_end();
}
