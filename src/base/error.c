#include "base/error.h"
#include "base/name_table.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const phase_names[] = {
    [MVM_PHASE_NONE] = "",
    [MVM_PHASE_USAGE] = "usage",
    [MVM_PHASE_CONFIG] = "config",
    [MVM_PHASE_BUILDER_BOOTSTRAP] = "builder-bootstrap",
    [MVM_PHASE_NIX_EVAL] = "nix-eval",
    [MVM_PHASE_NIX_BUILD] = "nix-build",
    [MVM_PHASE_ARTIFACT_EXTRACTION] = "artifact-extraction",
    [MVM_PHASE_RUNTIME_BACKEND] = "runtime-backend",
    [MVM_PHASE_BOOT_BUDGET] = "boot-budget",
    [MVM_PHASE_SERVICES] = "services",
};
_Static_assert(ARRAY_SIZE(phase_names) == MVM_PHASE_COUNT, "every phase has a name");

const char *mvm_phase_name(enum mvm_phase phase)
{
    return (unsigned)phase < MVM_PHASE_COUNT ? phase_names[phase] : "";
}

enum mvm_phase mvm_phase_parse(const char *name)
{
    size_t i = name_find(phase_names, MVM_PHASE_COUNT, name);
    return i < MVM_PHASE_COUNT ? (enum mvm_phase)i : MVM_PHASE_NONE;
}

int mvm_error_set(struct mvm_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    text_one_line(err->msg);
    err->code = code;
    err->hint[0] = '\0';
    err->detail[0] = '\0';
    err->kind[0] = '\0';
    err->derivation[0] = '\0';
    return code;
}

int mvm_error_code(const struct mvm_error *err)
{
    return err ? err->code : 0;
}

int mvm_error_errno(struct mvm_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    char text[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return mvm_error_set(err, code, "%s: %s", text, strerror(-code));
}

bool mvm_error_is_damage(int r)
{
    return r == -EINVAL || r == -EBADMSG || r == -EMSGSIZE || r == -ELOOP || r == -EISDIR || r == -EPROTO;
}

bool mvm_error_is_absent(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

int mvm_error_wrap(struct mvm_error *err, const char *fmt, ...)
{
    if (!err)
        return -EIO;
    char text[sizeof(err->msg)], inner[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(inner, err->msg, sizeof(inner));
    size_t n = (size_t)snprintf(err->msg, sizeof(err->msg), "%s: ", text);
    if (n < sizeof(err->msg) - 1)
        snprintf(err->msg + n, sizeof(err->msg) - n, "%.*s", (int)(sizeof(err->msg) - n - 1), inner);
    text_one_line(err->msg);
    return err->code ? err->code : -EIO;
}

void mvm_error_phase(struct mvm_error *err, enum mvm_phase phase)
{
    if (err && err->phase == MVM_PHASE_NONE)
        err->phase = phase;
}

void mvm_error_hint(struct mvm_error *err, const char *fmt, ...)
{
    if (!err || err->hint[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
    va_end(ap);
    text_one_line(err->hint);
}

void mvm_error_kind(struct mvm_error *err, const char *kind, const char *derivation)
{
    if (!err)
        return;
    snprintf(err->kind, sizeof(err->kind), "%s", kind);
    snprintf(err->derivation, sizeof(err->derivation), "%s", derivation ? derivation : "");
    text_one_line(err->kind);
    text_one_line(err->derivation);
}

void mvm_error_detail(struct mvm_error *err, const char *text, size_t len)
{
    if (!err)
        return;
    size_t max = sizeof(err->detail) - 1;
    if (len > max) {
        text += len - max;
        len = max;
        const char *nl = memchr(text, '\n', len);
        if (nl) {
            len -= (size_t)(nl + 1 - text);
            text = nl + 1;
        }
    }
    memcpy(err->detail, text, len);
    size_t out = text_clean(err->detail, len, true);
    while (out && err->detail[out - 1] == '\n')
        out--;
    err->detail[out] = '\0';
}
