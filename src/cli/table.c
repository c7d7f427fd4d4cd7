/* Every command and option, once. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define OPTION(id, ...) static const struct option_spec id = {__VA_ARGS__}

OPTION(o_flake, "flake", 0, "REF", "the flake: a folder, a folder with #NAME, or a reference that Nix fetches", NULL);
OPTION(o_profile, "profile", 0, "NAME", "build packages.<system>.NAME (default: default)", NULL);
OPTION(o_attr, "attr", 0, "ATTR", "build this attribute: a package's name, or a whole path with dots", NULL);
OPTION(o_system, "system", 0, "SYSTEM", "the system to build for (default: this machine's)",
       "x86_64-linux|aarch64-linux");
OPTION(o_force, "force", 0, NULL, "build even where the cache has the result", NULL);
OPTION(o_no_lock, "no-write-lock-file", 0, NULL, "leave the flake's flake.lock as it is", NULL);
OPTION(o_offline, "offline", 0, NULL, "let Nix fetch nothing", NULL);
OPTION(o_allow_input, "allow-input", 0, "PATH",
       "stage this folder or file, too, if the flake has it as input (may be given several times)", NULL);
OPTION(o_no_persistent, "no-persistent-builder", 0, NULL, "build in a builder VM of its own", NULL);
OPTION(o_workspace, "workspace", 0, "DIR", "the folder that submitted flakes are in (default: .)", NULL);
OPTION(o_shell, "shell", 0, NULL, "open a shell in it, as dev shell does", NULL);
OPTION(o_reset, "reset", 0, NULL, "remove the builder's store too", NULL);
OPTION(o_verify, "verify", 0, NULL, "read every byte of the builder image instead of trusting its files' timestamps",
       NULL);
OPTION(o_verify_all, "verify", 0, NULL, "read every byte of images and snapshots instead of trusting timestamps", NULL);
OPTION(o_prune_all, "all", 0, NULL, "the builder image and the dev images too", NULL);
OPTION(o_prune_store, "store", 0, NULL, "the builder's store too", NULL);
OPTION(o_jobs, "jobs", 0, "N", "wait while N builds run in the builder (default: 8)", NULL);
OPTION(o_list, "list", 0, NULL, "list the builds whose logs are kept, the newest first", NULL);
OPTION(o_of_flake, "flake", 0, "REF", "look only at builds of this flake", NULL);
OPTION(o_json, "json", 0, NULL, "print one JSON object on standard output", NULL);
OPTION(o_verbose, "verbose", 'v', NULL, "say more: decisions, and the build's whole log", NULL);
OPTION(o_name, "name", 0, "NAME", "the VM's name (default: the image's, with a number where it is taken)", NULL);
OPTION(o_cpus, "cpus", 0, "N", "virtual processors (default: the image's wish, or 1)", NULL);
OPTION(o_memory, "memory", 0, "SIZE", "memory, such as 512M or 1G (default: the image's wish, or 256M)", NULL);
OPTION(o_hypervisor, "hypervisor", 0, "NAME", "the backend that runs the VM", "qemu");
OPTION(o_attach, "attach", 0, NULL, "follow the VM's logs; Ctrl-C stops it", NULL);
OPTION(o_cold, "cold", 0, NULL, "boot, even where a snapshot of the booted image could be restored", NULL);
OPTION(o_ready, "ready", 0, "WHAT", "return when the agent answers, or when the services are ready (default: services)",
       "agent|services");
OPTION(o_from, "from", 0, "NAME[:TAG]", "continue from a snapshot instead (default: the newest of NAME)", NULL);
OPTION(o_rm_all, "all", 0, NULL, "every snapshot of NAME", NULL);
OPTION(o_snapshot_names, "names", 0, NULL, "NAME:TAG only, one a line", NULL);
OPTION(o_trace, "trace", 0, "FILE", "write what it did when, as a Chrome trace (JSON, for Perfetto)", NULL);
OPTION(o_timing, "timing", 0, NULL, "print a table of the steps of the start", NULL);
OPTION(o_timeout, "timeout", 0, "SECONDS", "how long the VM may take (default: 60)", NULL);
OPTION(o_grace, "timeout", 0, "SECONDS", "how long the guest may take to end by itself (default: 10)", NULL);
OPTION(o_terminal, "terminal", 't', NULL, "give the program a terminal", NULL);
OPTION(o_interactive, "interactive", 'i', NULL, "for those who are used to -it: standard input is always connected",
       NULL);
OPTION(o_env, "env", 'e', "NAME=VALUE", "set a variable of its environment (may be given several times)", NULL);
OPTION(o_cwd, "cwd", 0, "FOLDER", "the folder it starts in (default: the user's home)", NULL);
OPTION(o_user, "user", 'u', "USER", "the user it runs as, by name or number (default: root)", NULL);
OPTION(o_follow, "follow", 'f', NULL, "go on printing what is added, until the VM ends", NULL);
OPTION(o_tail, "tail", 'n', "N", "of the lines that are there only the last N (default: all)", NULL);
OPTION(o_since, "since", 0, "TIME",
       "only lines that came since then: 10m or 1h30m ago, 2026-11-27T16:00:00Z, 16:00, yesterday", NULL);
OPTION(o_timestamps, "timestamps", 't', NULL, "print in front of each line when it came", NULL);
OPTION(o_service, "service", 0, "NAME", "only what this service said, and what became of it", NULL);
OPTION(o_follow_link, "follow-link", 'L', NULL, "copy what a symlink in the guest points to", NULL);
OPTION(o_all, "all", 0, NULL, "every VM there is", NULL);
OPTION(o_ls_all, "all", 0, NULL, "builder VMs too", NULL);
OPTION(o_names, "names", 0, NULL, "names only, one a line", NULL);
OPTION(o_to, "to", 0, "FOLDER", "the folder to make", NULL);
OPTION(o_kind, "kind", 0, "KIND", "which image: the dev image (default), or the live builder image", "dev|builder");
OPTION(o_version, "version", 0, "N", "its version, higher than all before (default: the seconds since 1970)", NULL);
OPTION(o_key, "key", 0, "FILE", "a minisign secret key", NULL);
OPTION(o_password_file, "password-file", 0, "FILE", "its password, on the first line (default: ask on the terminal)",
       NULL);
OPTION(o_public_key, "public-key", 0, "KEY", "a minisign public key or its file (default: those of config.toml)", NULL);

OPTION(o_config, "config", 0, "FILE", "what is measured, from a TOML file (see bench boot)", NULL);
OPTION(o_compare, "compare", 0, "A B", "measure A and B in turn and print the ratio of their medians", NULL);
OPTION(o_baseline, "baseline", 0, "COMMAND",
       "measure another program in turn: its words are split as by a shell, but no shell is run", NULL);
OPTION(o_samples, "samples", 0, "N", "how many samples of each side to take (default: 20)", NULL);
OPTION(o_warmups, "warmups", 0, "N", "how many to take before these and throw away (default: 2)", NULL);
OPTION(o_count, "count-instructions", 0, NULL, "count guest instructions instead of time", NULL);
OPTION(o_report, "report", 0, "FILE", "write a page with plots and all samples (HTML)", NULL);
OPTION(o_budget, "budget", 0, "MS", "exit with 15 where the first side's median is above so many milliseconds", NULL);
OPTION(o_bench_cold, "cold", 0, NULL, "measure boots instead of restores", NULL);
OPTION(o_vms, "count", 0, "N", "how many VMs (default: 10)", NULL);
OPTION(o_sample_timeout, "timeout", 0, "SECONDS", "how long one sample may take (default: 60; of a build: 1800)", NULL);

#define OPTIONS(id, ...) static const struct option_spec *const id[] = {__VA_ARGS__, NULL}

OPTIONS(build_options, &o_flake, &o_profile, &o_attr, &o_system, &o_force, &o_no_lock, &o_offline, &o_allow_input,
        &o_no_persistent, &o_verify_all, &o_jobs, &o_trace, &o_json, &o_verbose);
OPTIONS(up_options, &o_flake, &o_profile, &o_attr, &o_from, &o_name, &o_cpus, &o_memory, &o_hypervisor, &o_attach,
        &o_cold, &o_verify_all, &o_ready, &o_timeout, &o_timing, &o_trace, &o_json, &o_verbose);
OPTIONS(run_options, &o_flake, &o_profile, &o_attr, &o_force, &o_no_lock, &o_offline, &o_allow_input, &o_no_persistent,
        &o_jobs, &o_name, &o_cpus, &o_memory, &o_hypervisor, &o_attach, &o_cold, &o_verify_all, &o_ready, &o_timeout,
        &o_timing, &o_trace, &o_json, &o_verbose);
OPTIONS(bench_boot_options, &o_flake, &o_profile, &o_attr, &o_config, &o_compare, &o_baseline, &o_bench_cold, &o_count,
        &o_samples, &o_warmups, &o_cpus, &o_memory, &o_budget, &o_report, &o_sample_timeout, &o_json, &o_verbose);
OPTIONS(bench_exec_options, &o_flake, &o_profile, &o_attr, &o_config, &o_compare, &o_baseline, &o_samples, &o_warmups,
        &o_cpus, &o_memory, &o_budget, &o_report, &o_sample_timeout, &o_json, &o_verbose);
OPTIONS(bench_build_options, &o_flake, &o_profile, &o_attr, &o_config, &o_compare, &o_baseline, &o_samples, &o_warmups,
        &o_offline, &o_allow_input, &o_no_persistent, &o_budget, &o_report, &o_sample_timeout, &o_json, &o_verbose);
OPTIONS(bench_density_options, &o_flake, &o_profile, &o_attr, &o_config, &o_vms, &o_memory, &o_sample_timeout, &o_json,
        &o_verbose);
OPTIONS(build_log_options, &o_of_flake, &o_list, &o_json);
OPTIONS(exec_options, &o_flake, &o_profile, &o_attr, &o_interactive, &o_terminal, &o_env, &o_cwd, &o_user, &o_cpus,
        &o_memory, &o_hypervisor, &o_cold, &o_verify_all, &o_timeout, &o_trace, &o_verbose);
OPTIONS(ls_options, &o_ls_all, &o_names, &o_json);
OPTIONS(logs_options, &o_follow, &o_tail, &o_since, &o_timestamps, &o_service, &o_json);
OPTIONS(down_options, &o_all, &o_grace, &o_json);
OPTIONS(fork_options, &o_timeout, &o_json, &o_verbose);
OPTIONS(snapshot_ls_options, &o_snapshot_names, &o_json);
OPTIONS(snapshot_rm_options, &o_rm_all, &o_json);
OPTIONS(cp_options, &o_follow_link);
OPTIONS(image_export_options, &o_to, &o_kind, &o_version, &o_json);
OPTIONS(image_sign_options, &o_key, &o_password_file, &o_json);
OPTIONS(image_verify_options, &o_public_key, &o_json, &o_verbose);
OPTIONS(json_options, &o_json);
OPTIONS(judge_options, &o_verify, &o_json);
OPTIONS(cache_inspect_options, &o_verify_all, &o_json);
OPTIONS(verify_options, &o_json);
OPTIONS(prune_options, &o_prune_all, &o_prune_store, &o_json);
OPTIONS(repair_options, &o_json, &o_verbose);
OPTIONS(dev_up_options, &o_shell, &o_flake, &o_allow_input, &o_json, &o_verbose);
OPTIONS(dev_shell_options, &o_flake, &o_allow_input, &o_verbose);
OPTIONS(dev_down_options, &o_reset, &o_json);
OPTIONS(persistent_start_options, &o_workspace, &o_json, &o_verbose);
OPTIONS(submit_options, &o_flake, &o_profile, &o_attr, &o_system, &o_force, &o_no_lock, &o_offline, &o_allow_input,
        &o_json, &o_verbose);
static const struct option_spec *const no_options[] = {NULL};

/* The builder's cache as JSON describes it; the reason codes are in the order of judging. */
#define REASONS                                                                                                        \
    "missing_artifact, invalid_stage0_artifacts, missing_fingerprint, fingerprint_mismatch, "                          \
    "missing_artifact_digest_manifest, artifact_digest_mismatch, missing_provenance, provenance_mismatch or hit"
#define VERIFIED_JSON                                                                                                  \
    "verified: with --verify and of repair, an object of images, boot_snapshots and snapshots: each has good, "        \
    "damaged "                                                                                                         \
    "and unreadable (how many)\n"
#define CACHE_JSON                                                                                                     \
    "schema_version: 1\nbuilder_cache: an object with kind (source-checkout, release), ready, reason (" REASONS        \
    "), building, previous_kept, stale_stages\n"

#define PERSISTENT_JSON                                                                                                \
    "schema_version: 1\nstate: absent, starting, ready, stopping or not responding\nclients: connections it serves\n"  \
    "held: true where dev up keeps it up\nidle_stop_ms: stops by itself after so long without a client, 0: never\n"    \
    "started_at: seconds since 1970\nsupervisor_pid: of its supervisor\nmemory_mib, cpus: what it has\n"               \
    "workspace: the folder that is /work in it, or null\nstale_record_removed: true where the record of one that is "  \
    "gone was removed\n"

#define UP_JSON                                                                                                        \
    "status: ok\nname: the VM's name\nimage: the image's digest\nbackend: what runs it\n"                              \
    "accel: kvm or tcg (software emulation)\naccel_reason: why that one\n"                                             \
    "confinement: what confines its VMM, or none and why\nlimits: the bounds of its cgroup, or none and why\n"         \
    "mode: warm (restored from a snapshot) or cold (booted)\ncold_reason: why it was booted, or null\n"                \
    "ready_ms: from the start of this command's boot to the configured agent\n"                                        \
    "timings: spawn_ms (the backend runs), hello_ms (the agent spoke or was restored), ready_ms, guest_ready_ms "      \
    "(guest's own clock), steps: a list of objects with name, process, start_ms and ms\n"                              \
    "address: the guest's network address\nproblem: what went wrong in the guest, or null\n"

#define RELEASE_JSON                                                                                                   \
    "status: ok\nkind: dev or builder\narch: the machine it is for\nversion: its version\n"                            \
    "created: when it was exported\nartifacts: the names of its files\n"

#define VM_JSON                                                                                                        \
    "name: the VM's name\nstate: starting, ready, paused, cut off (the guest broke the protocol), halted (nothing "    \
    "wakes its processors), stopping, stopped, "                                                                       \
    "failed (its services, too), or not responding (its supervisor process)\nrole: runtime or "                        \
    "builder\nimage: "                                                                                                 \
    "its digest\nbackend: qemu\naccel: kvm or tcg\naccel_reason: why that one\nmemory_mib: its memory\ncpus: its "     \
    "processors\nstarted_at: seconds since 1970\nvmm_pid: of its backend\nsupervisor_pid: of its supervisor\n"         \
    "address: in its network\nconfinement: what confines its VMM, or none and why\nlimits: the bounds of its "         \
    "cgroup, or none and why\nproblem: what is wrong with it, "                                                        \
    "where something is\nended: how it ended, where it is "                                                            \
    "stopped\n"
#define SNAPSHOT_JSON                                                                                                  \
    "name: the VM's name\ntag: the snapshot's tag\nimage: the image's digest, or null\nmemory_mib, cpus: what it "     \
    "has\n"                                                                                                            \
    "bytes: what it takes on the disk\ncreated_at: seconds since 1970\ndamaged: true where its description cannot be " \
    "read\n"
#define BENCH_JSON                                                                                                     \
    "status: ok, or over-budget\nbench: the command\ntaken: when, in UTC\n"                                            \
    "host: cpu, cores, memory_mib, machine, kernel, backend_version, load and load_after (of the last minute)\n"       \
    "warmups: how many samples of each side were thrown away\n"                                                        \
    "instructions: with --count-instructions, the median of the first side\n"                                          \
    "sides: a list of objects with name, kind (boot, exec, build, baseline), unit (ms or instructions), mode, flake, " \
    "image, backend, accel, accel_reason, memory_mib, cpus, command, n, p50, p90, p99, min, max, samples (in the "     \
    "order they were taken), phases (the same for each)\n"                                                             \
    "ratios: of the first side's median to each other's: of, to, ratio, low, high, confidence, resamples\n"            \
    "budget: where one was given: ms, over_by_ms, kept\n"

const struct command commands[] = {
    {"bench boot", "[--flake REF | --config FILE | --compare A B] [OPTION]...", "measure starts of VMs",
     "Starts VMs of an image that exists, one after another, and says how long they take from the first step of the "
     "start to the configured agent: restored from a snapshot, or with --cold booted. With --count-instructions each "
     "boots with a clock that counts the guest's instructions from reset until its agent is ready, which does not "
     "depend on what else this machine does. Nothing is built, and neither making the first snapshot nor stopping VMs "
     "is "
     "part of a figure.\n\n"
     "The file of --config has name, flake or kernel, rootfs, initrd, cmdline (files relative to it), backend, memory, "
     "cpus, mode (warm or cold). With --compare, A and B are each a flake, or a file that ends in .toml.\n\n"
     "Percentiles are interpolated between the nearest ranks. The interval of a ratio of medians is a percentile "
     "bootstrap of 4000 resamples with a fixed seed.",
     bench_boot_options, BENCH_JSON, 0, cmd_bench_boot},
    {"bench exec", "[--flake REF | --config FILE | --compare A B] [OPTION]... [-- COMMAND [ARGUMENT]...]",
     "measure running a program in a VM",
     "Starts a VM, and measures running the program in it (default: /bin/true), from connecting to its exit, which "
     "must "
     "be with status 0.",
     bench_exec_options, BENCH_JSON, 0, cmd_bench_exec},
    {"bench build", "[--flake REF | --config FILE | --compare A B] [OPTION]...", "measure builds",
     "Builds the flake again and again although its result is there, in the persistent builder, and says what each "
     "phase "
     "takes. The flake must have been built once. The first warm-up starts the builder.",
     bench_build_options, BENCH_JSON, 0, cmd_bench_build},
    {"bench density", "[--flake REF | --config FILE] [--count N] [OPTION]...", "measure many VMs at once",
     "Starts N VMs of an image at once, restored from its snapshot, and says when they were ready and how much memory "
     "each takes while all run: the proportional set sizes of its backend and its supervisor, in which what several "
     "share is divided among them. Then all are stopped; so they are when this command is interrupted.",
     bench_density_options,
     "status: ok\nbench: the command\nhost: as bench boot has it\ncount: how many VMs\nwarm: how many were restored\n"
     "all_ready_ms: from the first start to the last one ready\ndown_ms: from the first stop to the last one gone\n"
     "ready_ms, pss_mib, vmm_pss_mib, supervisor_pss_mib: objects with p50, p90, p99, max\n"
     "vms: a list of objects with warm, ready_ms, vmm_pss_kib, supervisor_pss_kib\n",
     0, cmd_bench_density},
    {"build", "[--flake REF] [OPTION]...", "build a microVM image from a flake",
     "Builds packages.<system>.default of the flake inside the builder VM and keeps kernel and root file system in the "
     "host's cache. Where "
     "nothing that goes into the image has changed, the cached one is taken and no VM starts.\n\n"
     "The first build on a machine assembles the builder from the distribution's signed packages. The flake's "
     "flake.lock is written "
     "where Nix created or changed it.\n\n"
     "Of more builds than may run in a builder at once, those that came later wait for their turn, in the order they "
     "came. A build that is interrupted, or whose terminal is closed, ends in the builder too; others go on. So does "
     "one that uses more memory or processes than a build may.\n\n"
     "With --json, progress is told on standard error, one JSON object a line. Its field event says what it is: phase "
     "(phase: its name), progress (phase, and either detail or built, to_build, copied_paths, paths_to_copy, "
     "fetched_bytes, bytes_to_fetch and current: the derivation or file at work, or null), note and, with --verbose, "
     "log (text), error (the fields of a failure, see DESCRIPTION).\n\n"
     "Where a build fails, kind says which of its phase's failures it is. nix-eval: attribute (there is no such one), "
     "eval, fetch, hash-mismatch. nix-build: builder (a derivation's builder failed), fetch, hash-mismatch, "
     "out-of-memory, too-many-processes, disk-full, build (anything else). artifact-extraction: artifacts (the output "
     "is no image). boot-budget: instructions, warm-start (a start of the image costs more than the flake's "
     "bootBudget).",
     build_options,
     "status: ok\ncached: true where nothing had to be built\nimage: the image's digest\nkernel: path of the kernel\n"
     "rootfs: path of the root file system\ninitrd: path of the initrd, or null\ncmdline: path of the kernel command "
     "line, or null\nkernel_kind: distribution, slim, or null where the image does not say\n"
     "builder: null where no builder was needed; else an object with kind, ready and reason of its image as it was "
     "found "
     "(" REASONS "), and where it was built now, seed (what it was built in) and passed_over (objects with seed and "
     "reason), mode (persistent or single-shot), fallback_reason (why not persistent, where it was wanted)\n"
     "store_path: the output in the builder's store\nattr: the attribute that was built\n"
     "timings: milliseconds spent in each phase, and total\n",
     0, cmd_build},
    {"build-log", "[DERIVATION | last] [OPTION]...", "show what a build said",
     "Prints the log of the last build, whether it succeeded or not. DERIVATION, a name or a store path, prints what "
     "that derivation's builder printed in the newest build that built it. Logs of the last 50 builds are kept, of "
     "256 MiB at most.",
     build_log_options,
     "builds: with --list, a list of objects with id, flake, attr, status (ok, error, interrupted, or unfinished: "
     "running, "
     "or killed), phase, kind, error, derivation, started_at (seconds since 1970), bytes\n",
     0, cmd_build_log},
    {"up", "[--flake REF | IMAGE | --from NAME[:TAG]] [OPTION]...", "boot an image that has been built",
     "Boots an image and returns when the services in the guest are ready; where one has failed, or is not ready in "
     "time, the exit status is 16 and the VM runs on, to be looked at. IMAGE is the beginning of an image's digest, or "
     "a folder with "
     "vmlinux and rootfs.ext4; with --flake it is the image last built from that flake. Nothing is built: mvmctl run "
     "does that.\n\n"
     "The first boot of an image leaves a snapshot of its memory, taken before the guest is told anything of its own; "
     "later VMs with as much memory and as many processors are restored from it, copy on write, unless --cold is "
     "given.\n\n"
     "With --from, a VM continues from a snapshot that snapshot create has made: with the processes and files that "
     "were "
     "there, and with an identity of its own (random numbers, machine id, host name). It never boots instead: where "
     "the "
     "snapshot is damaged or does not fit, that is an error.",
     up_options, UP_JSON "from: with --from, the snapshot it continues from: NAME:TAG\n", WORDS_FOLDERS, cmd_up},
    {"run", "[--flake REF] [OPTION]...", "build if needed, then boot",
     "Does what build and up do, one after the other, and looks a little longer (half a second, or a quarter "
     "of what the start took) whether a service fails.",
     run_options, UP_JSON "cached: true where nothing had to be built\n", 0, cmd_run},
    {"exec", "[OPTION]... NAME | --flake REF [OPTION]... [--] COMMAND [ARGUMENT]...", "run a program in a VM",
     "Runs the program in a running VM, with standard input, output and error, signals and window size carried "
     "through, and exits with its "
     "exit status (128 + N where signal N ended it, 127 where there is no such program). The options end at the first "
     "word behind NAME, which is the program; what follows is its own: exec -it NAME sh -c 'ls -l'.\n\n"
     "Signals are the program's, but whatever it and the VM do with them: 1.5 s after SIGTERM, SIGHUP or a second "
     "Ctrl-C "
     "(on a terminal: one that stays without an answer) exec ends with 128 + N.\n\n"
     "With --flake, a VM is booted from the image last built from that flake for this one program and removed "
     "afterwards. --profile, --attr, --cpus, --memory, --hypervisor, --cold and --timeout are about that VM: without "
     "--flake they are refused, because a VM that runs keeps what it was started with.",
     exec_options, NULL, WORDS_VMS | WORDS_PROGRAM, cmd_exec},
    {"cp", "[-L] SOURCE NAME:/PATH | NAME:/PATH DESTINATION", "copy files into a VM or out of it",
     "Copies a file or a whole folder between this machine and a running VM. Where the destination is a folder (or "
     "ends with "
     "a slash in the guest), the source goes into it; else it gets that name. Permission bits are kept, set-user-ID, "
     "set-group-ID and sticky bits are not. Sparse files stay sparse; a file of /proc is copied as it reads. What is "
     "there already is replaced by its own kind only: nothing is written through a symlink, and a device, fifo or "
     "socket is neither replaced nor copied (in a folder they are left out). The user in the guest is root.",
     cp_options, NULL, WORDS_COPIES, cmd_cp},
    {"ls", "[OPTION]...", "list VMs",
     "Lists the VMs there are, running or stopped, with what they run and since when. All are asked at the "
     "same time: those whose supervisor process does not answer within 1.5 s are not responding.",
     ls_options, "vms: a list of objects with\n" VM_JSON, 0, cmd_ls},
    {"inspect", "NAME [--json]", "show all that is known of a VM",
     "Shows a VM's state, what it runs, how it was started, what confines its VMM, and the folder with its logs.",
     json_options,
     VM_JSON "mode: warm (restored) or cold (booted)\ncold_reason: why it was booted\nnetwork: what the guest reaches\n"
             "supervisor_confinement: what confines its supervisor\nfolder: where its logs are\n",
     WORDS_VMS, cmd_inspect},
    {"logs", "NAME [OPTION]...", "show a VM's console and agent log",
     "Prints what the guest's kernel wrote to its console, what the agent and the services said, and what the backend "
     "complained about, in the order in which it came. Of a VM that has stopped, too. --tail counts the lines that the "
     "other options leave. A line of more than 4096 bytes is printed in pieces. With --json and --follow, each line is "
     "an object of its own, as it comes.",
     logs_options,
     "lines: a list of objects with time (RFC 3339 in UTC, or null where it is not known), log (console, agent or "
     "vmm), "
     "service (its name, or null) and text\n",
     WORDS_VMS, cmd_logs},
    {"down", "NAME... | --all [OPTION]...", "stop VMs",
     "Asks the guest to end its services and power off, then the backend, then kills it. Returns as soon as the VM is "
     "gone. The "
     "VM's folder with its logs is removed.",
     down_options, "status: ok or error\ndown: the names that were stopped\nfailed: objects with name and error\n",
     WORDS_VMS, cmd_down},
    {"pause", "NAME [--json]", "stop a VM's processors",
     "Lets a VM stand still, with everything in it, until resume. What is running in it, exec too, waits.",
     json_options, "status: ok\nname: the VM's name\nstate: paused\n", WORDS_VMS, cmd_pause},
    {"resume", "NAME [--json]", "let a paused VM go on", "Lets a paused VM go on, and sets its clock.", json_options,
     "status: ok\nname: the VM's name\nstate: ready\n", WORDS_VMS, cmd_resume},
    {"fork", "NAME NEW [OPTION]...", "copy a running VM",
     "Starts the VM NEW as a copy of the running VM NAME: memory, processes, files and all. Both go on, each with its "
     "own. NEW gets random numbers, a machine id and a host name of its own, its services are not started again, and "
     "what clients ran in NAME with exec is ended in NEW, as if they had gone away. NAME stands still only for the "
     "last "
     "milliseconds of the copying.",
     fork_options, UP_JSON "stopped_ms: how long NAME stood still\n", WORDS_VMS, cmd_fork},
    {"snapshot create", "NAME [TAG] [OPTION]...", "save a running VM",
     "Saves a running VM, memory, processes, files and all, as NAME:TAG (default: the time in UTC), for up --from. The "
     "VM "
     "goes on; it stands still only for the last milliseconds. The image it runs is kept with the snapshot, whatever "
     "happens to the cache. What is in the VM's memory is in the snapshot too: secrets, sessions, keys.",
     json_options, "status: ok\n" SNAPSHOT_JSON "stopped_ms: how long the VM stood still\n", WORDS_VMS,
     cmd_snapshot_create},
    {"snapshot ls", "[NAME] [OPTION]...", "list snapshots", "Lists the snapshots of a VM, or all, the oldest first.",
     snapshot_ls_options, "snapshots: a list of objects with\n" SNAPSHOT_JSON, WORDS_VMS, cmd_snapshot_ls},
    {"snapshot rm", "NAME TAG | NAME:TAG | NAME --all [OPTION]...", "remove snapshots",
     "Removes a snapshot. VMs that continued from it are not affected. NAME alone is enough where it has one snapshot.",
     snapshot_rm_options, "status: ok\nremoved: a list of NAME:TAG\n", WORDS_SNAPSHOTS, cmd_snapshot_rm},
    {"dev up", "[OPTION]...", "keep the builder up",
     "Starts the persistent builder where it does not run, and keeps it up until dev down: it does not stop itself "
     "when "
     "it has nothing to do. No build needs this.",
     dev_up_options, "status: ok\nstate: ready\n", 0, cmd_dev_up},
    {"dev shell", "[--flake DIR] [[--] COMMAND [ARGUMENT]...]", "open a shell in the builder",
     "Opens a shell (or runs the command) in the persistent builder, in /work, where the files of the flake are as a "
     "build "
     "would take them (default: the present folder, if it has a flake.nix). Nix is set up as for builds. What is "
     "changed "
     "there stays there.",
     dev_shell_options, NULL, WORDS_PROGRAM, cmd_dev_shell},
    {"dev down", "[OPTION]...", "stop the builder", "Stops the persistent builder. Builds that run in it fail.",
     dev_down_options, "status: ok\nwas_up: true where it ran\nreset: true where its store was removed\n", 0,
     cmd_dev_down},
    {"dev status", "[OPTION]...", "show the builder's state",
     "Shows the dev VM's state, and whether the builder image in the cache is fresh, with the reason code of the "
     "verdict. Nothing is built or changed.",
     judge_options, CACHE_JSON "dev_vm: an object with state\n", 0, cmd_dev_status},
    {"dev cache inspect", "[OPTION]...", "show the builder's caches",
     "Shows the verdict on the builder image as dev status does, what else lies in its cache, and which dev images "
     "there are. With --verify every byte of the builder image, of built images and of snapshots is read.",
     cache_inspect_options,
     CACHE_JSON "dev_images: a list of objects with image (its label) and state (valid, absent, invalid_kernel, "
                "invalid_rootfs, no_host_vm_init, no_package_list)\nstore: an object with state (absent, clean, in "
                "use, to be checked), allocated and cap in bytes, and reclaimable (bytes of what no "
                "cached image needs, once that is known)\nsnapshots: an object with images (that have snapshots of "
                "their first boots), snapshots (how many), unfinished (how many killed processes left), allocated "
                "(bytes)\n" VERIFIED_JSON,
     0, cmd_dev_cache_inspect},
    {"dev cache prune", "[OPTION]...", "remove what the next build does not need",
     "Removes unfinished images and snapshots that killed processes left, dev images that are no good, and the archive "
     "of packages. "
     "With --all also the builder image and every dev image: the next build begins from nothing. "
     "With --store also the disk of the builder's store: the next build fetches and builds everything again.",
     prune_options, "status: ok\n" CACHE_JSON, 0, cmd_dev_cache_prune},
    {"dev cache repair", "[OPTION]...", "make the builder image whole",
     "Reads every byte of the builder image, of built images and of snapshots, removes what is damaged or unfinished, "
     "and builds the builder image anew where it is not fresh. Built images are built again when they are asked for; a "
     "damaged snapshot that a user made is told of and kept.",
     repair_options,
     "status: ok, or repaired where the image was built anew or something was removed\n" CACHE_JSON VERIFIED_JSON, 0,
     cmd_dev_cache_repair},
    {"dev image export", "--to FOLDER [OPTION]...", "make a release set of a local image",
     "Copies the dev image (or the live builder image) into a new folder and writes manifest.json with the size and "
     "digest of each file. Signed with dev image sign and put on a server, it is what dev_url or builder_url in "
     "config.toml points to.",
     image_export_options, RELEASE_JSON, 0, cmd_dev_image_export},
    {"dev image sign", "FOLDER --key FILE [OPTION]...", "sign a release set",
     "Checks that the files are what manifest.json says and writes manifest.json.minisig, a signature that minisign "
     "verifies as well. The key is one that minisign -G made.",
     image_sign_options, RELEASE_JSON "key: the number of the key that signed it\n", WORDS_FOLDERS, cmd_dev_image_sign},
    {"dev image verify", "FOLDER | URL [OPTION]...", "verify a release set",
     "Verifies the signature over manifest.json and reads every byte of every file. From an https:// or file:// URL "
     "the set is downloaded as it would be for use, an older version than one that was used is refused, and nothing "
     "is kept.",
     image_verify_options, RELEASE_JSON "key: the number of the key that signed it\n", WORDS_FOLDERS,
     cmd_dev_image_verify},
    {"image verify", "[OPTION]...", "read every byte of images and snapshots",
     "Compares all built images, the snapshots of their first boots and the snapshots that snapshot create made with "
     "the digests that were taken when they were made, whatever the files' timestamps say, and lists them. Nothing is "
     "changed. The exit status is 14 where one is damaged or cannot be read.",
     verify_options,
     "status: ok or error\nfound: a list of objects with kind (image, boot snapshot, snapshot), name, state (good, "
     "damaged, unreadable) and reason\n",
     0, cmd_image_verify},
    {"persistent-builder start", "[--workspace DIR]", "start the persistent builder",
     "Starts the builder that builds share, where it does not run, and notes the workspace: submit calls it "
     "path:/work. "
     "mvmctl build needs none of this.",
     persistent_start_options, PERSISTENT_JSON, 0, cmd_persistent_start},
    {"persistent-builder status", "[OPTION]...", "show the persistent builder",
     "Shows whether it runs, who uses it, and when it stops by itself.", json_options, PERSISTENT_JSON, 0,
     cmd_persistent_status},
    {"persistent-builder submit", "[--flake path:/work[/DIR]] [OPTION]...", "build a flake of its workspace",
     "Builds a flake of the workspace in the persistent builder, where it lies at /work, and prints what build prints.",
     submit_options, "the fields of build: see there\n", 0, cmd_persistent_submit},
    {"persistent-builder stop", "[OPTION]...", "stop the persistent builder", "Stops it in an orderly way.",
     json_options, "status: ok\n", 0, cmd_persistent_stop},
    {"doctor", "[OPTION]...", "check what this machine can do",
     "Checks what builds and boots need, and says what to do about what is missing. Exits with 1 where something "
     "needed is.",
     json_options, "status: ok or error\nchecks: a list of objects with name, state (ok, warn, fail), detail, hint\n",
     0, cmd_doctor},
    {"version", "[OPTION]...", "show the version", "Prints the program's version.", json_options,
     "version: the program's version\nprotocol: version of the agent protocol\n", 0, cmd_version},
    {"completion", "bash | zsh | fish", "print a completion script",
     "Prints a script that completes commands, options and VM names in that shell: source <(mvmctl completion bash).",
     no_options, NULL, WORDS_SHELLS, cmd_completion},
    {"help", "[COMMAND]", "show help", "Shows the commands, or one command's options.", no_options, NULL, 0, cmd_help},
};
const size_t n_commands = ARRAY_SIZE(commands);

/* How many of the words of a command's name argv begins with; *whole where that is all of them. */
static int match(const char *name, int argc, char **argv, bool *whole)
{
    int n = 0;
    for (; n < argc && *name; n++) {
        size_t len = strcspn(name, " ");
        if (strlen(argv[n]) != len || strncmp(argv[n], name, len) != 0)
            break;
        name += len + (name[len] == ' ');
    }
    *whole = !*name;
    return n;
}

const struct command *command_find(int argc, char **argv, int *ret_words)
{
    const struct command *found = NULL;
    int longest = 0, partial = 0;
    for (size_t i = 0; i < n_commands; i++) {
        bool whole;
        int n = match(commands[i].name, argc, argv, &whole);
        partial = MAX_OF(partial, n);
        if (whole && n > longest) {
            longest = n;
            found = &commands[i];
        }
    }
    *ret_words = found ? longest : partial;
    return found;
}

void command_join(int n, char **words, char *out, size_t size)
{
    *out = '\0';
    for (int i = 0; i < n; i++) {
        size_t len = strlen(out);
        snprintf(out + len, size - len, "%s%s", i ? " " : "", words[i]);
    }
}

size_t command_next_words(const char *group, char (*ret)[32], const char **summaries, size_t max)
{
    size_t len = strlen(group), n = 0;
    for (size_t i = 0; i < n_commands && n < max; i++) {
        const char *rest = commands[i].name;
        if (len && (strncmp(rest, group, len) != 0 || rest[len] != ' '))
            continue;
        rest += len + (len > 0);
        size_t word = strcspn(rest, " ");
        char next[32];
        size_t k = 0;
        snprintf(next, sizeof(next), "%.*s", (int)word, rest);
        while (k < n && strcmp(ret[k], next) != 0)
            k++;
        if (k < n)
            continue;
        strcpy(ret[n], next);
        if (summaries)
            summaries[n] = rest[word] ? NULL : commands[i].summary;
        n++;
    }
    return n;
}

size_t command_groups(char (*ret)[64], size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < n_commands; i++) {
        for (const char *space = strchr(commands[i].name, ' '); space; space = strchr(space + 1, ' ')) {
            char group[64];
            size_t k = 0;
            snprintf(group, sizeof(group), "%.*s", (int)(space - commands[i].name), commands[i].name);
            while (k < n && strcmp(ret[k], group) != 0)
                k++;
            if (k == n && n < max)
                strcpy(ret[n++], group);
        }
    }
    return n;
}
