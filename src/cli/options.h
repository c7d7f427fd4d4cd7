/* Options and fields of --json that commands of several files have; one command's own stand beside it. */
#pragma once

#include "vmm/vmm.h"

#include "cli/command.h"

/* How long a VM may take to start where --timeout says nothing else. */
#define DEFAULT_TIMEOUT_S  60
#define DEFAULT_TIMEOUT_MS (DEFAULT_TIMEOUT_S * 1000)

extern const struct option_spec opt_flake, opt_profile, opt_attr, opt_system, opt_force, opt_no_write_lock_file,
    opt_offline, opt_allow_input, opt_no_persistent_builder, opt_verify_all, opt_jobs, opt_json, opt_verbose, opt_cpus,
    opt_memory, opt_hypervisor, opt_cold, opt_trace, opt_timeout, opt_publish, opt_publish_all;
/* network_options.h */
extern const struct option_spec opt_network, opt_allow;
/* network_limits.h */
extern const struct option_spec opt_net_rate, opt_net_connections, opt_net_queries, opt_pcap;
#define NETWORK_OPTIONS &opt_network, &opt_allow, &opt_net_rate, &opt_net_connections, &opt_net_queries, &opt_pcap

/* What may be the matter with the builder's cache, in the order of judging. */
#define REASONS                                                                                                        \
    "missing_artifact, invalid_stage0_artifacts, missing_fingerprint, fingerprint_mismatch, "                          \
    "missing_artifact_digest_manifest, artifact_digest_mismatch, missing_provenance, provenance_mismatch "             \
    "or hit"

#define PORTS_JSON                                                                                                     \
    "ports: what it publishes: a list of objects with address, host_port, guest_port, protocol (tcp, udp) and path "   \
    "(of a socket in the file system, without address and host_port; else null)\n"

/* A VM that was started. */
#define UP_JSON                                                                                                        \
    "status: ok\n"                                                                                                     \
    "name: the VM's name\n"                                                                                            \
    "image: the image's digest\n"                                                                                      \
    "backend: what runs it\n"                                                                                          \
    "accel: " VMM_ACCELS " (software emulation)\n"                                                                     \
    "accel_reason: why that one\n"                                                                                     \
    "confinement: what confines its VMM, or none and why\n"                                                            \
    "limits: the bounds of its cgroup, or none and why\n"                                                              \
    "mode: warm (restored from a snapshot) or cold (booted)\n"                                                         \
    "cold_reason: why it was booted, or null\n"                                                                        \
    "ready_ms: from the start of this command's boot to the configured agent\n"                                        \
    "timings: spawn_ms (the backend runs), hello_ms (the agent spoke or was restored), ready_ms, "                     \
    "guest_ready_ms (guest's own clock), steps: a list of objects with name, process, start_ms and ms\n"               \
    "address: the guest's network address\n"                                                                           \
    "member_of: the network of VMs that it is in, or null\n"                                                           \
    "problem: what went wrong in the guest, or null\n" PORTS_JSON

/* A VM that there is. */
#define VM_JSON                                                                                                        \
    "name: the VM's name\n"                                                                                            \
    "state: starting, ready, paused, cut off (the guest broke the protocol), halted (nothing wakes its "               \
    "processors), stopping, stopped, failed (its services, too), or not responding (its supervisor "                   \
    "process)\n"                                                                                                       \
    "role: runtime or builder\n"                                                                                       \
    "image: its digest\n"                                                                                              \
    "backend: " VMM_BACKENDS "\n"                                                                                      \
    "accel: " VMM_ACCELS "\n"                                                                                          \
    "accel_reason: why that one\n"                                                                                     \
    "memory_mib: its memory\n"                                                                                         \
    "cpus: its processors\n"                                                                                           \
    "started_at: seconds since 1970\n"                                                                                 \
    "vmm_pid: of its backend\n"                                                                                        \
    "supervisor_pid: of its supervisor\n"                                                                              \
    "address: in its network\n"                                                                                        \
    "member_of: the network of VMs that it is in, or null\n"                                                           \
    "address6: its IPv6 address there, or null\n"                                                                      \
    "confinement: what confines its VMM, or none and why\n"                                                            \
    "limits: the bounds of its cgroup, or none and why\n"                                                              \
    "problem: what is wrong with it, where something is\n"                                                             \
    "ended: how it ended, where it is stopped\n" PORTS_JSON
