/* snapshot create, ls and rm. */
#include "base/clock.h"
#include "cli/boot.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "machine/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static json_object *snapshot_json(const struct snapshot *u)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "name", u->vm);
    json_add_string(o, "tag", u->tag);
    json_add_string(o, "image", u->image[0] ? u->image : NULL);
    json_add_int(o, "memory_mib", (int64_t)u->memory_mib);
    json_add_int(o, "cpus", (int64_t)u->vcpus);
    json_add_int(o, "bytes", (int64_t)u->bytes);
    json_add_int(o, "created_at", (int64_t)(u->created_at / NSEC_PER_SEC));
    json_add_bool(o, "damaged", u->damaged);
    return o;
}

static int fail_runtime(struct mvm_error *err)
{
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    return ui_fail(err);
}

/* NAME:TAG, or NAME and TAG as two words, which may be absent: tag "". */
static int parse_words(const struct args *a, struct snapshot *u, struct mvm_error *err)
{
    int r = snapshot_parse(a->words[0], u->vm, u->tag, err);
    if (r == 0 && a->n_words == 2) {
        if (u->tag[0]) {
            mvm_error_set(err, -EINVAL, "two tags: '%s' and '%.70s'", u->tag, a->words[1]);
            mvm_error_phase(err, MVM_PHASE_USAGE);
            mvm_error_hint(err, "give NAME TAG or NAME:TAG");
            return -EINVAL;
        }
        r = snapshot_check_tag(a->words[1], err);
        if (r == 0)
            snprintf(u->tag, sizeof(u->tag), "%s", a->words[1]);
    }
    return r;
}

static int run_snapshot_create(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct snapshot wish = {0}, u;
    if (a->n_words < 1 || a->n_words > 2 || a->rest)
        return ui_usage("mvmctl snapshot create NAME [TAG]", "snapshot create: a VM and at most a tag are wanted");
    interrupt_install();
    if (parse_words(a, &wish, &err) < 0 || home_open(&h, &err) < 0 ||
        snapshot_create(&h, wish.vm, wish.tag[0] ? wish.tag : NULL, &u, &err) < 0)
        return fail_runtime(&err);
    double stopped_ms = (double)u.stopped_ns / NSEC_PER_MSEC;
    if (!ui.json) {
        ui_line("%s:%s  %.1f MB, the vm stood still for %.1f ms", u.vm, u.tag, (double)u.bytes / 1e6, stopped_ms);
        return 0;
    }
    json_object *o = snapshot_json(&u);
    json_add_string(o, "status", "ok");
    json_add_double(o, "stopped_ms", stopped_ms);
    ui_print_json(o);
    return 0;
}

/* ---- ls ---- */

static void print_snapshots(const struct snapshot *list, size_t n)
{
    if (n)
        ui_line("%-20s %-20s %-12s %8s %4s %10s  %s", "NAME", "TAG", "IMAGE", "MEMORY", "CPUS", "SIZE", "CREATED");
    for (size_t i = 0; i < n; i++) {
        const struct snapshot *u = &list[i];
        char created[32] = "";
        time_t t = (time_t)(u->created_at / NSEC_PER_SEC);
        struct tm tm;
        strftime(created, sizeof(created), "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
        if (u->damaged)
            ui_line("%-20s %-20s damaged", u->vm, u->tag);
        else
            ui_line("%-20s %-20s %-12.12s %6llu M %4llu %7.1f MB  %s", u->vm, u->tag, u->image[0] ? u->image : "-",
                    (unsigned long long)u->memory_mib, (unsigned long long)u->vcpus, (double)u->bytes / 1e6, created);
    }
}

static int run_snapshot_ls(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct snapshot *list = NULL;
    const char *vm = a->n_words ? a->words[0] : NULL;
    size_t n = 0;
    if (a->n_words > 1 || a->rest)
        return ui_usage("mvmctl snapshot ls [NAME]", "snapshot ls: unexpected argument");
    if ((vm && vmdir_check_name(vm, &err) < 0) || home_open(&h, &err) < 0 || snapshot_list(&h, vm, &list, &n, &err) < 0)
        return fail_runtime(&err);
    if (arg_flag(a, "names")) {
        for (size_t i = 0; i < n; i++)
            ui_line("%s:%s", list[i].vm, list[i].tag);
    } else if (ui.json) {
        json_object *o = json_object_new_object(), *all = json_object_new_array();
        for (size_t i = 0; i < n; i++)
            json_object_array_add(all, snapshot_json(&list[i]));
        json_add(o, "snapshots", all);
        ui_print_json(o);
    } else {
        print_snapshots(list, n);
    }
    return 0;
}

/* ---- rm ---- */

static int remove_all(struct home *h, const struct snapshot *list, size_t n, json_object *removed,
                      struct mvm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        char name[VMDIR_MAX_NAME + SNAPSHOT_MAX_TAG + 2];
        int r = snapshot_remove(h, list[i].vm, list[i].tag, err);
        if (r < 0)
            return r;
        snprintf(name, sizeof(name), "%s:%s", list[i].vm, list[i].tag);
        json_object_array_add(removed, json_object_new_string(name));
        if (!ui.json)
            ui_line("%s", name);
    }
    return 0;
}

/* Which ones are meant. */
static int choose(struct home *h, const struct args *a, const struct snapshot *wish, struct snapshot **ret,
                  size_t *ret_n, struct mvm_error *err)
{
    if (wish->tag[0]) {
        *ret = calloc(1, sizeof(**ret));
        if (!*ret)
            return mvm_error_errno(err, -ENOMEM, "snapshots");
        **ret = *wish;
        *ret_n = 1;
        return 0;
    }
    int r = snapshot_list(h, wish->vm, ret, ret_n, err);
    if (r < 0 || *ret_n == 1 || (arg_flag(a, "all") && *ret_n))
        return r;
    if (*ret_n == 0) {
        mvm_error_set(err, -ENOENT, "there is no snapshot of '%s'", wish->vm);
        mvm_error_hint(err, "mvmctl snapshot ls shows the ones there are");
        return -ENOENT;
    }
    mvm_error_set(err, -EINVAL, "'%s' has %zu snapshots", wish->vm, *ret_n);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "name one: mvmctl snapshot rm %s TAG, or give --all", wish->vm);
    return -EINVAL;
}

static int run_snapshot_rm(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_FREE struct snapshot *list = NULL;
    struct snapshot wish = {0};
    size_t n = 0;
    if (a->n_words < 1 || a->n_words > 2 || a->rest)
        return ui_usage("mvmctl snapshot rm NAME TAG", "snapshot rm: a VM and a tag are wanted");
    int r = parse_words(a, &wish, &err);
    if (r == 0 && wish.tag[0] && arg_flag(a, "all"))
        return ui_usage("mvmctl snapshot rm NAME TAG, or NAME --all", "snapshot rm: a tag and --all at once");
    if (r == 0)
        r = home_open(&h, &err);
    if (r == 0)
        r = choose(&h, a, &wish, &list, &n, &err);
    json_object *o = json_object_new_object(), *removed = json_object_new_array();
    if (r == 0)
        r = remove_all(&h, list, n, removed, &err);
    json_add_string(o, "status", "ok");
    json_add(o, "removed", removed);
    if (r == 0 && ui.json)
        ui_print_json(o);
    else
        json_object_put(o);
    return r < 0 ? fail_runtime(&err) : 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_all = {.name = "all", .help = "every snapshot of NAME"};

static const struct option_spec opt_names = {.name = "names", .help = "NAME:TAG only, one a line"};

#define SNAPSHOT_JSON                                                                                                  \
    "name: the VM's name\n"                                                                                            \
    "tag: the snapshot's tag\n"                                                                                        \
    "image: the image's digest, or null\n"                                                                             \
    "memory_mib, cpus: what it has\n"                                                                                  \
    "bytes: what it takes on the disk\n"                                                                               \
    "created_at: seconds since 1970\n"                                                                                 \
    "damaged: true where its description cannot be read\n"

const struct command cmd_snapshot_create = {
    .name = "snapshot create",
    .synopsis = "NAME [TAG] [OPTION]...",
    .summary = "save a running VM",
    .text = "Saves a running VM, memory, processes, files and all, as NAME:TAG (default: the time in UTC), for "
            "up --from. The VM goes on; it stands still only for the last milliseconds. The image it runs is "
            "kept with the snapshot, whatever happens to the cache. What is in the VM's memory is in the "
            "snapshot too: secrets, sessions, keys.",
    .options = OPTIONS(&opt_json),
    .json = "status: ok\n" SNAPSHOT_JSON "stopped_ms: how long the VM stood still\n",
    .words = WORDS_VMS,
    .run = run_snapshot_create,
};

const struct command cmd_snapshot_ls = {
    .name = "snapshot ls",
    .synopsis = "[NAME] [OPTION]...",
    .summary = "list snapshots",
    .text = "Lists the snapshots of a VM, or all, the oldest first.",
    .options = OPTIONS(&opt_names, &opt_json),
    .json = "snapshots: a list of objects with\n" SNAPSHOT_JSON,
    .words = WORDS_VMS,
    .run = run_snapshot_ls,
};

const struct command cmd_snapshot_rm = {
    .name = "snapshot rm",
    .synopsis = "NAME TAG | NAME:TAG | NAME --all [OPTION]...",
    .summary = "remove snapshots",
    .text = "Removes a snapshot. VMs that continued from it are not affected. NAME alone is enough where it has "
            "one snapshot.",
    .options = OPTIONS(&opt_all, &opt_json),
    .json = "status: ok\n"
            "removed: a list of NAME:TAG\n",
    .words = WORDS_SNAPSHOTS,
    .run = run_snapshot_rm,
};
