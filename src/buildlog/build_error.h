/* What a failed job becomes for its user: message, kind, derivation, last lines of the log and what to do next. */
#pragma once

#include "base/error.h"
#include "buildlog/buildlog.h"
#include "wire/msg_build.h"

struct build_error {
    const struct msg_result *result;
    const struct buildlog *log;
    const char *system; /* whose packages were looked for */
    bool offline, host_full;
};

/* Fills err, its phase included. Returns its code. */
int build_error_explain(const struct build_error *o, struct mvm_error *err);
