/* The words of a TOML text: what toml.c builds trees from. Private to the two. */
#pragma once

#include "host/toml.h"

struct toml_scan {
    const char *at; /* a NUL is behind the text, and none in it */
    unsigned line;
    unsigned n_values;
    struct mvm_error *err;
};

/* Records "line N: ..." and returns -EINVAL. */
int toml_fail(struct toml_scan *s, const char *fmt, ...) MVM_PRINTF(2, 3);

/* UTF-8, and no control characters but tabs and line ends: holds for the whole text before anything else is looked at.
 */
int toml_check_text(struct toml_scan *s) MVM_MUST_CHECK;

void toml_skip_blanks(struct toml_scan *s);
/* Blanks, line ends and comments. */
void toml_skip_lines(struct toml_scan *s);
/* A line ends here, perhaps behind a comment. */
int toml_end_line(struct toml_scan *s) MVM_MUST_CHECK;

/* One part of a dotted key, and the blanks around it. *ret_last: no dot follows. */
int toml_scan_key(struct toml_scan *s, char **ret, bool *ret_last) MVM_MUST_CHECK;
/* A value that is neither array nor table: fills type and content of v. */
int toml_scan_scalar(struct toml_scan *s, struct toml_value *v) MVM_MUST_CHECK;
