/* Why a VM is not there any more: what its folder tells those who lost it. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "cache/home.h"

#include <stdbool.h>
#include <sys/types.h>

/* Adds the last lines of what VMM, guest and agent wrote; dirfd is the VM's folder. */
void explain_logs(int dirfd, struct buf *text);

/* For whoever lost the connection to that supervisor: whether the VM ended without that anybody asked for it or the
 * guest announced it. Waits for an end under way, at most 5 s. Where so, err's detail says how its VMM ended and what
 * was written last. */
bool explain_vanished(struct home *h, const char *name, pid_t supervisor, struct mvm_error *err);
