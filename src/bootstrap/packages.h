/*
 * The distribution's packages that a builder is made of, extracted into a folder of the cache by mmdebstrap. Mirror,
 * proxy and keys are the host's own apt configuration; apt checks the signatures.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/json.h"
#include "host/progress.h"
#include "host/sha256.h"

/* What is taken from where: covered by the dev image's id. */
#define PACKAGES_SUITE "trixie"
const char *packages_arch(void);          /* Debian's name: "amd64" */
extern const char *const packages_list[]; /* NULL-terminated; the kernel is packages_kernel() */
const char *packages_kernel(void);

/* The folder with the extracted packages (absolute, the caller frees) and its file list `packages.txt` (sha256sum's
 * format: digests, and archive names with versions): from the cache, or fetched now. Errors: phase builder-bootstrap.
 */
int packages_ensure(struct home *h, struct progress *p, char **ret_path, struct mvm_error *err) MVM_MUST_CHECK;

#define PACKAGES_MAX_LIST (1u << 20)
#define PACKAGES_IN_IMAGE "/usr/share/mvm/packages.txt" /* where an image has the list of what it consists of */
/* The list as an array of {name, version, sha256}. Lines that are none of an archive are left out. */
json_object *packages_to_json(const char *list);
