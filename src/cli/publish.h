/* Published ports, as the options of several commands say them and as they are shown. */
#pragma once

#include "cli/cli.h"
#include "image/manifest.h"
#include "machine/ports.h"

/* port_spec_parse; a path may be relative to where the command was given. */
int publish_parse(const char *text, struct port_spec *ret, size_t max, size_t *ret_n,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* Reads every --publish, or --unpublish. */
int publish_specs(const struct args *a, const char *option, struct port_spec ret[static PORTS_MAX], size_t *ret_n,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* Whether the options can be understood, before anything long begins. */
int publish_check(const struct args *a, struct mvm_error *err) MVM_MUST_CHECK;
/* Binds what the options say; m: the image with --publish-all, or NULL. *ret stays NULL where that is nothing. */
int publish_open(const struct args *a, const struct image_metadata *m, struct home *h, struct port_sockets **ret,
                 struct mvm_error *err) MVM_MUST_CHECK;
/* One line for each of a VM's ports. */
void publish_print(const struct msg_status *st, const char *before);
json_object *publish_json(const struct msg_status *st);
/* The same of ports that no status tells of. */
json_object *publish_json_of(const struct port_spec *v, size_t n);
