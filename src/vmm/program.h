/* What every backend asks of its VMM's program in the same way. */
#pragma once

#include "vmm/vmm.h"

struct program {
    const char *name; /* looked up in PATH */
    const char *hint; /* how to get it */
    bool sockets;     /* it makes sockets of its own (jail.h) */
};

/* Its true path, which the caller frees; NULL where it is not installed. */
char *program_find(const struct program *p, struct mvm_error *err);
int program_available(const struct program *p, struct mvm_error *err);
/* The first line that it says of its version. */
int program_version(const struct program *p, char *out, size_t size, struct mvm_error *err) MVM_MUST_CHECK;
/* What would be in force around it: it runs in the jail for a moment, to say its version. */
int program_confinement(const struct program *p, struct jail_report *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* What a snapshot depends on: which program that is, and the host's processor where the guest sees it ("" else). */
int program_identity(const struct program *p, char *out, size_t size, struct mvm_error *err) MVM_MUST_CHECK;
int program_identify_cpu(const struct vmm_accel *accel, char out[static SHA256_HEX_SIZE],
                         struct mvm_error *err) MVM_MUST_CHECK;
/* No file of its grows beyond the largest disk that it may write, or what a saved state can take. */
uint64_t program_largest_file(const struct vmm_config *c);
