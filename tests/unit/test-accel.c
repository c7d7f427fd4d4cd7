/* Which backend there is, and what executes a guest here (vmm/vmm.h). */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"
#include "host/os.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int folder = -1;

static void test_find(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    const struct vmm_ops *by_default = NULL, *named = NULL;
    ok(vmm_find(NULL, &by_default, &e) == 0 && vmm_find(by_default->name, &named, &e) == 0 && named == by_default,
       "the default backend has a name, by which it is found");
    static const char *const absent[] = {"libkrun", "cloud-hypervisor"};
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
        ok(vmm_find(absent[i], &named, &e) == -ENOTSUP && strstr(e.msg, absent[i]) &&
               e.phase == MVM_PHASE_RUNTIME_BACKEND && e.hint[0],
           "%s is known and not there, which is said with the reason", absent[i]);
    const struct vmm_ops *apple = NULL, *alias = NULL;
    ok(vmm_find("apple-container", &apple, &e) == 0 && vmm_find("vz", &alias, &e) == 0 && alias == apple &&
           vmm_find("vfkit", &alias, &e) == 0 && alias == apple && strcmp(apple->name, "apple-container") == 0,
       "Apple Virtualization has its short names");
    ok(vmm_find("xen", &named, &e) == -EINVAL && vmm_find("", &named, &e) == -EINVAL && named == by_default,
       "any other name is none");
}

/* What a backend needs of this host is asked before it is started. */
static void test_host(void)
{
    const struct vmm_accel tcg = {.name = "tcg", .reason = "stone"}, kvm = {.name = "kvm"};
    const struct vmm_ops *firecracker = NULL;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(vmm_check_host(vmm_all[0], &tcg, true, &e) == 0 && e.phase == MVM_PHASE_NONE,
       "the default backend runs everywhere, with a network");
    ok(vmm_find("firecracker", &firecracker, &e) == 0 && vmm_check_host(firecracker, &tcg, false, &e) == -ENOTSUP &&
           strstr(e.msg, "acceleration: stone") && strstr(e.hint, vmm_all[0]->name),
       "one that needs hardware acceleration is refused with the reason why there is none: %s", e.msg);
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(vmm_check_host(firecracker, &kvm, true, &e) == -ENOTSUP && strstr(e.msg, "no network") &&
           strstr(e.hint, vmm_all[0]->name) && vmm_check_host(firecracker, &kvm, false, &e) == 0,
       "one without a card is refused where a network is asked for, with who has one: %s", e.hint);
}

static bool is_kept(void)
{
    return faccessat(folder, "run/accel.json", F_OK, 0) == 0;
}

static void put(const char *text)
{
    CLEAN_FD int fd = openat(folder, "run/accel.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static void test_choose(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_accel first = {0}, a = {0};
    ok(vmm_choose_accel(folder, "hvf", &a, &e) == -EINVAL && !is_kept(), "an acceleration that is none is refused");
    ok(vmm_choose_accel(folder, NULL, &first, &e) == 0 && first.name[0] && first.reason[0] && is_kept(),
       "one is chosen, with a reason, and kept (%s: %s)", first.name, first.reason);
    ok(vmm_choose_accel(folder, NULL, &a, &e) == 0 && strcmp(a.name, first.name) == 0 &&
           strcmp(a.reason, first.reason) == 0 && a.tsc_khz == first.tsc_khz,
       "the second time it is the same, to the last digit: nothing is measured again");
    ok(vmm_choose_accel(folder, "tcg", &a, &e) == 0 && strcmp(a.name, "tcg") == 0 && vmm_accel_emulates(&a) &&
           a.reason[0],
       "emulation is always to be had");
    bool emulates = vmm_accel_emulates(&first);
    int r = vmm_choose_accel(folder, "kvm", &a, &e);
    ok(emulates ? r == -ENOTSUP && strstr(e.msg, first.reason) : r == 0,
       "kvm is to be had where the probe believes it, else the reason is told");

    static const char *const damaged[] = {"", "{", "{}", "{\"accel\":\"kvm\",\"reason\":\"so it is\"}"};
    for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
        put(damaged[i]);
        ok(vmm_choose_accel(folder, NULL, &a, &e) == 0 && strcmp(a.name, first.name) == 0,
           "a verdict that is damaged or forged is judged anew (%zu)", i);
    }
    CLEAN_JSON json_object *o = json_object_new_object();
    CLEAN_FD int run = openat(folder, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_add_int(o, "schema_version", 2);
    json_add_string(o, "boot_id", "of another boot");
    json_add_int(o, "kvm_open", 1);
    json_add_string(o, "accel", emulates ? "kvm" : "tcg");
    json_add_string(o, "reason", "old");
    json_add_int(o, "tsc_khz", 1);
    ok(json_save_sealed(run, "accel.json", o, 0600, false, NULL) == 0 && vmm_choose_accel(folder, NULL, &a, &e) == 0 &&
           strcmp(a.name, first.name) == 0 && strcmp(a.reason, "old") != 0,
       "the verdict of another boot is none of this one");
    char boot[64];
    os_boot_id(boot, sizeof(boot));
    json_add_string(o, "boot_id", boot);
    json_add_int(o, "kvm_open", access("/dev/kvm", R_OK | W_OK) == 0);
    json_add_string(o, "accel", "abacus");
    ok(json_save_sealed(run, "accel.json", o, 0600, false, NULL) == 0 && vmm_choose_accel(folder, NULL, &a, &e) == 0 &&
           strcmp(a.name, first.name) == 0,
       "nor is one that names no acceleration");
    CLEAN_FD int read_only = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *foreign = strcmp(os_arch(), "aarch64") == 0 ? "x86_64" : "aarch64";
    if (vmm_choose_accel(folder, NULL, &first, &e) < 0)
        abort();
    ok(vmm_choose_accel_for(os_arch(), folder, NULL, &a, &e) == 0 && strcmp(a.reason, first.reason) == 0 &&
           vmm_choose_accel_for(NULL, folder, NULL, &a, &e) == 0 && strcmp(a.reason, first.reason) == 0,
       "a guest for this machine's processors gets the same");
    ok(vmm_choose_accel_for(foreign, folder, NULL, &a, &e) == 0 && vmm_accel_emulates(&a) && strstr(a.reason, foreign),
       "one for others is emulated, and that is the reason: %s", a.reason);
    ok(vmm_choose_accel_for(foreign, folder, "kvm", &a, &e) == -ENOTSUP && strstr(e.msg, foreign) && e.hint[0],
       "kvm cannot be forced on it: %s", e.msg);
    ok(vmm_choose_accel_for(foreign, folder, "hvf", &a, &e) == -EINVAL, "nor one that there is not");
    ok(vmm_choose_accel(read_only, NULL, &a, &e) == 0 && a.name[0],
       "where no verdict can be kept one is found all the same");
}

int main(void)
{
    const char *top = tap_folder();
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_find();
    test_host();
    test_choose();
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
