/* What build, up, run and exec share: images from arguments, VMs from images. */
#pragma once

#include "builder/build.h"
#include "cli/cli.h"
#include "cli/trace.h"
#include "machine/machine.h"

struct build_opts build_opts_from(const struct args *a);
/* Builds the flake and prints the result as build does: its whole command. */
int build_and_print(const struct args *a, struct home *h, const char *ref);
int build_with_progress(const struct args *a, struct home *h, struct progress *p, struct build_result *ret,
                        struct mvm_error *err) MVM_MUST_CHECK;

/* Boots the image as the options say. transient: nobody waits for its services; else they have to stay ready for
 * settle_ms. */
int boot_image(const struct args *a, struct home *h, const struct artifact_image *img, bool transient,
               uint64_t settle_ms, struct progress *p, struct machine_info *info, struct mvm_error *err) MVM_MUST_CHECK;

/* Starts a VM: c->name, or a free name made from base; and has it publish those ports (NULL: none). Of the options
 * only --pcap counts here. */
struct port_sockets;
int boot_named(const struct args *a, struct home *h, struct machine_config *c, const char *base,
               struct port_sockets *ports, struct progress *p, struct machine_info *info,
               struct mvm_error *err) MVM_MUST_CHECK;
/* Checks what the options wish of a VM, before anything long begins. */
int boot_check_options(const struct args *a, struct mvm_error *err) MVM_MUST_CHECK;
/* vmdir_check_name, and no builder's name. */
int boot_check_name(const char *name, struct mvm_error *err) MVM_MUST_CHECK;
/* Prints a VM that was started; table: with the steps of the start. built, trace and more may be NULL. more: an object
 * with further fields for --json, taken. */
void boot_print(const struct machine_info *info, const struct build_result *built, const struct progress *p,
                const struct trace *trace, bool table, json_object *more);
/* Follows its logs until it ends; an interrupt stops it. The exit status. */
int boot_attach(struct home *h, const char *name, struct mvm_error *err);
