/* up and run: an image becomes a running VM. */
#include "base/fd.h"
#include "base/path.h"
#include "builder/persistent.h"
#include "cli/boot.h"
#include "cli/network_limits.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/publish.h"
#include "cli/trace.h"
#include "host/interrupt.h"
#include "machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_SETTLE_MS 500 /* run looks at the services for so long */

/* 0, or what is the matter with the services that were waited for. */
static int judge_services(const struct args *a, const struct machine_info *info, struct mvm_error *err)
{
    const struct msg_status *st = &info->status;
    const char *ready = arg_value(a, "ready");
    if (!st->services[0] || services_state_parse(st->services) == SERVICES_READY ||
        (ready && strcmp(ready, "agent") == 0))
        return 0;
    mvm_error_set(err, -EIO, "vm '%s': %s", info->name, st->services_problem);
    mvm_error_phase(err, MVM_PHASE_SERVICES);
    mvm_error_hint(err, "the VM runs on: mvmctl logs %s shows what its services said", info->name);
    return -EIO;
}

static int finish(const struct args *a, struct home *h, const struct artifact_image *img, struct trace *t,
                  const struct build_result *built, struct progress *p, struct mvm_error *err)
{
    struct machine_info info;
    const char *file = arg_value(a, "trace");
    struct progress boot = PROGRESS_INIT(&ui_progress, &boot);
    progress_phase(&boot, "boot");
    if (boot_image(a, h, img, false, built ? RUN_SETTLE_MS : 0, &boot, &info, err) < 0)
        return ui_fail(err);
    trace_machine(t, &info);
    if (file && trace_write(t, file, err) < 0)
        return ui_fail(err);
    bool attach = arg_flag(a, "attach");
    int bad = judge_services(a, &info, err);
    if (bad < 0 && (!attach || ui.json))
        return ui_fail(err);
    boot_print(&info, built, p, t, arg_flag(a, "timing"), NULL);
    if (bad < 0)
        ui_say("%s", err->msg);
    int status = attach ? boot_attach(h, info.name, err) : 0;
    return bad < 0 && status == 0 ? EXIT_SERVICES : status;
}

/* IMAGE: a folder, or the beginning of a digest. */
static int open_named_image(struct home *h, const char *word, bool verify, struct artifact_image *img,
                            struct mvm_error *err)
{
    struct stat st;
    char digest[SHA256_HEX_SIZE];
    if (!strchr(word, '/') && !(stat(word, &st) == 0 && S_ISDIR(st.st_mode))) {
        int r = artifact_find(h, word, digest, err);
        if (r < 0) {
            mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
            mvm_error_hint(err,
                           "mvmctl build prints an image's digest; a folder with vmlinux and rootfs.ext4 works too");
            return r;
        }
        r = verify ? artifact_image_read(h, digest, true, err) : 0;
        return r < 0 ? r : artifact_image_open(img, h, digest, err);
    }
    return artifact_image_open_folder(img, h, word, verify, err);
}

/* ---- up --from ---- */

static void print_from(const struct args *a, const struct snapshot *u, const struct machine_info *info,
                       const struct trace *t)
{
    char from[VMDIR_MAX_NAME + SNAPSHOT_MAX_TAG + 2];
    snprintf(from, sizeof(from), "%s:%s", u->vm, u->tag);
    json_object *more = json_object_new_object();
    json_add_string(more, "from", from);
    boot_print(info, NULL, NULL, t, arg_flag(a, "timing"), more);
}

static int up_from(struct args *a)
{
    static const char *const others[] = {"flake",      "profile", "attr",  "cpus",       "memory",
                                         "hypervisor", "cold",    "ready", "publish-all"};
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct snapshot *u = calloc(1, sizeof(*u));
    struct snapshot wish = {0};
    struct machine_info info;
    struct progress boot = PROGRESS_INIT(&ui_progress, &boot);
    if (a->n_words || a->rest)
        return ui_usage("give either one IMAGE, --flake REF or --from NAME", "up: --from and an image");
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (arg_value(a, others[i]))
            return ui_usage("a snapshot says what it is of", "up: --from and --%s", others[i]);
    CLEAN_PORT_SOCKETS struct port_sockets *ports = NULL;
    struct machine_config c = {.name = arg_value(a, "name"), .timeout_ms = DEFAULT_TIMEOUT_MS};
    struct trace t = {0};
    char network[NETWORK_OPTIONS_MAX], limits[NETWORK_LIMITS_MAX];
    const char *timeout = arg_value(a, "timeout");
    interrupt_install();
    steps_add(&t.own, "startup", ui.born);
    int r = network_options(a, network, &err);
    if (r == 0)
        r = network_limits_check(a, &err);
    if (r == 0)
        r = snapshot_parse(arg_value(a, "from"), wish.vm, wish.tag, &err);
    if (r == 0 && c.name)
        r = boot_check_name(c.name, &err);
    if (r == 0 && timeout)
        r = parse_timeout(timeout, &c.timeout_ms, &err);
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = u ? snapshot_find(&h, wish.vm, wish.tag, arg_flag(a, "verify"), u, &err)
              : mvm_error_errno(&err, -ENOMEM, "snapshot");
    if (r == 0)
        r = network_limits(a, &h, u->network_limits, limits, &err);
    if (r == 0)
        r = publish_open(a, NULL, &h, &ports, &err);
    if (r == 0) {
        progress_phase(&boot, "boot");
        c.network = network[0] ? network : NULL;
        c.member_of = network_named(a);
        snapshot_fill(u, &c);
        c.network_limits = limits;
        r = boot_named(a, &h, &c, u->vm, ports, &boot, &info, &err);
    }
    if (r < 0) {
        mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
        return ui_fail(&err);
    }
    trace_machine(&t, &info);
    if (arg_value(a, "trace") && trace_write(&t, arg_value(a, "trace"), &err) < 0)
        return ui_fail(&err);
    print_from(a, u, &info, &t);
    return arg_flag(a, "attach") ? boot_attach(&h, info.name, &err) : 0;
}

static int run_up(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_ARTIFACT_IMAGE struct artifact_image img = ARTIFACT_IMAGE_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    const char *word = a->n_words ? a->words[0] : NULL;
    if (arg_value(a, "from"))
        return up_from(a);
    if (a->n_words > 1 || a->rest || (word && arg_value(a, "flake")))
        return ui_usage("give either one IMAGE or --flake REF", "up: more than one image");
    if (word && (arg_value(a, "profile") || arg_value(a, "attr")))
        return ui_usage("they choose the image of a flake: give --flake REF instead of IMAGE", "up: --%s and an image",
                        arg_value(a, "profile") ? "profile" : "attr");
    interrupt_install();
    if (boot_check_options(a, &err) < 0 || home_open(&h, &err) < 0 || network_check_named(a, &h, &err) < 0)
        return ui_fail(&err);
    struct build_opts o = build_opts_from(a);
    struct trace t = {0};
    o.steps = &t.own;
    steps_add(&t.own, "startup", ui.born);
    int r = word ? open_named_image(&h, word, o.verify, &img, &err) : build_find_last(&o, &h, &img, &err);
    if (r < 0) {
        mvm_error_phase(&err, MVM_PHASE_RUNTIME_BACKEND);
        return ui_fail(&err);
    }
    return finish(a, &h, &img, &t, NULL, &p, &err);
}

static int run_run(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_BUILD_RESULT struct build_result b = BUILD_RESULT_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    if (a->n_words || a->rest)
        return ui_usage("name the flake with --flake", "run: unexpected argument '%.60s'",
                        a->n_words ? a->words[0] : "--");
    struct trace t = {0};
    p.steps = &t.own;
    interrupt_install();
    steps_add(&t.own, "startup", ui.born);
    if (boot_check_options(a, &err) < 0 || home_open(&h, &err) < 0 || network_check_named(a, &h, &err) < 0 ||
        build_with_progress(a, &h, &p, &b, &err) < 0)
        return ui_fail(&err);
    return finish(a, &h, &b.image, &t, &b, &p, &err);
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_name = {
    .name = "name",
    .argument = "NAME",
    .help = "the VM's name (default: the image's, with a number where it is taken)"};

static const struct option_spec opt_attach = {.name = "attach", .help = "follow the VM's logs; Ctrl-C stops it"};

static const struct option_spec opt_ready = {
    .name = "ready",
    .argument = "WHAT",
    .help = "return when the agent answers, or when the services are ready (default: services)",
    .values = "agent|services"};

static const struct option_spec opt_from = {
    .name = "from", .argument = "NAME[:TAG]", .help = "continue from a snapshot instead (default: the newest of NAME)"};

static const struct option_spec opt_timing = {.name = "timing", .help = "print a table of the steps of the start"};

const struct command cmd_up = {
    .name = "up",
    .synopsis = "[--flake REF | IMAGE | --from NAME[:TAG]] [OPTION]...",
    .summary = "boot an image that has been built",
    .text = "Boots an image and returns when the services in the guest are ready; where one has failed, or is "
            "not ready in time, the exit status is 16 and the VM runs on, to be looked at. IMAGE is the "
            "beginning of an image's digest, or a folder with vmlinux and rootfs.ext4; with --flake it is the "
            "image last built from that flake. Nothing is built: mvmctl run does that.\n\n"
            "The first boot of an image leaves a snapshot of its memory, taken before the guest is told anything "
            "of its own; later VMs with as much memory and as many processors are restored from it, copy on "
            "write, unless --cold is given.\n\n"
            "With --from, a VM continues from a snapshot that snapshot create has made: with the processes and "
            "files that were there, and with an identity of its own (random numbers, machine id, host name). It "
            "never boots instead: where the snapshot is damaged or does not fit, that is an error.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_from, &opt_name, &opt_cpus, &opt_memory,
                       &opt_hypervisor, NETWORK_OPTIONS, &opt_publish, &opt_publish_all, &opt_attach, &opt_cold,
                       &opt_verify_all, &opt_ready, &opt_timeout, &opt_timing, &opt_trace, &opt_json, &opt_verbose),
    .json = UP_JSON "from: with --from, the snapshot it continues from: NAME:TAG\n",
    .words = WORDS_FOLDERS,
    .run = run_up,
};

const struct command cmd_run = {
    .name = "run",
    .synopsis = "[--flake REF] [OPTION]...",
    .summary = "build if needed, then boot",
    .text = "Does what build and up do, one after the other, and looks a little longer (half a second, or a "
            "quarter of what the start took) whether a service fails.",
    .options = OPTIONS(&opt_flake, &opt_profile, &opt_attr, &opt_force, &opt_no_write_lock_file, &opt_offline,
                       &opt_allow_input, &opt_no_persistent_builder, &opt_jobs, &opt_name, &opt_cpus, &opt_memory,
                       &opt_hypervisor, NETWORK_OPTIONS, &opt_publish, &opt_publish_all, &opt_attach, &opt_cold,
                       &opt_verify_all, &opt_ready, &opt_timeout, &opt_timing, &opt_trace, &opt_json, &opt_verbose),
    .json = UP_JSON "cached: true where nothing had to be built\n",
    .run = run_run,
};
