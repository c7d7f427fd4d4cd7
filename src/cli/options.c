#include "cli/options.h"
#include "vmm/vmm.h"

#define QUOTED_(number) #number
#define QUOTED(number)  QUOTED_(number)

const struct option_spec opt_flake = {.name = "flake",
                                      .argument = "REF",
                                      .help =
                                          "the flake: a folder, a folder with #NAME, or a reference that Nix fetches"};

const struct option_spec opt_profile = {
    .name = "profile", .argument = "NAME", .help = "build packages.<system>.NAME (default: default)"};

const struct option_spec opt_attr = {
    .name = "attr", .argument = "ATTR", .help = "build this attribute: a package's name, or a whole path with dots"};

const struct option_spec opt_system = {.name = "system",
                                       .argument = "SYSTEM",
                                       .help = "the system to build for (default: this machine's)",
                                       .values = "x86_64-linux|aarch64-linux"};

const struct option_spec opt_force = {.name = "force", .help = "build even where the cache has the result"};

const struct option_spec opt_no_write_lock_file = {.name = "no-write-lock-file",
                                                   .help = "leave the flake's flake.lock as it is"};

const struct option_spec opt_offline = {.name = "offline", .help = "let Nix fetch nothing"};

const struct option_spec opt_allow_input = {
    .name = "allow-input",
    .argument = "PATH",
    .help = "stage this folder or file, too, if the flake has it as input (may be given several times)"};

const struct option_spec opt_no_persistent_builder = {.name = "no-persistent-builder",
                                                      .help = "build in a builder VM of its own"};

const struct option_spec opt_verify_all = {
    .name = "verify", .help = "read every byte of images and snapshots instead of trusting timestamps"};

const struct option_spec opt_jobs = {
    .name = "jobs", .argument = "N", .help = "wait while N builds run in the builder (default: 8)"};

const struct option_spec opt_json = {.name = "json", .help = "print one JSON object on standard output"};

const struct option_spec opt_verbose = {
    .name = "verbose", .letter = 'v', .help = "say more: decisions, and the build's whole log"};

const struct option_spec opt_cpus = {
    .name = "cpus", .argument = "N", .help = "virtual processors (default: the image's wish, or 1)"};

const struct option_spec opt_memory = {
    .name = "memory", .argument = "SIZE", .help = "memory, such as 512M or 1G (default: the image's wish, or 256M)"};

const struct option_spec opt_hypervisor = {
    .name = "hypervisor",
    .argument = "NAME",
    .help =
        "the backend that runs the VM; auto: the first of them that can here (default: auto, or what config.toml says)",
    .values = VMM_AUTO "|" VMM_BACKENDS};

const struct option_spec opt_cold = {.name = "cold",
                                     .help = "boot, even where a snapshot of the booted image could be restored"};

const struct option_spec opt_trace = {
    .name = "trace", .argument = "FILE", .help = "write what it did when, as a Chrome trace (JSON, for Perfetto)"};

const struct option_spec opt_publish = {
    .name = "publish",
    .letter = 'p',
    .argument = "[ADDR:]HOST:GUEST",
    .help = "publish a port of the guest on this host: 8080:80, [::1]:8080:80, 53:53/udp, 8000-8009:8000-8009, "
            "0:80 for a free port, unix:PATH:80 (ADDR: 127.0.0.1; may be given several times)"};

const struct option_spec opt_publish_all = {
    .name = "publish-all", .letter = 'P', .help = "publish the ports that the image names, on free ports of this host"};

const struct option_spec opt_timeout = {.name = "timeout",
                                        .argument = "SECONDS",
                                        .help = "how long the VM may take (default: " QUOTED(DEFAULT_TIMEOUT_S) ")"};
