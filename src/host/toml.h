/*
 * TOML 1.0 (toml.io/en/v1.0.0), read whole into a tree. Every value knows the line its key stands on, so that whoever
 * consumes a file walks the tables and says where an unknown key is. Dates and times are checked for their form and
 * range and kept as text. Refused, though TOML allows them: keys with NUL, more than 32 levels, more than TOML_MAX_SIZE
 * bytes or TOML_MAX_VALUES values.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define TOML_MAX_SIZE   ((size_t)256 * 1024)
#define TOML_MAX_DEPTH  32
#define TOML_MAX_VALUES 10000

enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOL,
    TOML_DATETIME, /* any of the four kinds; string has it as written */
    TOML_ARRAY,
    TOML_TABLE,
    TOML_TYPE_COUNT
};

struct toml_value {
    enum toml_type type;
    unsigned line;           /* from 1 */
    char *key;               /* owned; NULL for the elements of an array and for the root */
    struct toml_value *next; /* the following one of the same table or array, in the file's order */
    union {
        struct {
            char *text; /* owned, with a NUL behind it */
            size_t len; /* the text itself may have NULs, by \u0000 */
        } string;
        int64_t integer;
        double number;
        bool boolean;
        struct {
            struct toml_value *first, *last; /* owned */
        } list;                              /* TOML_ARRAY, TOML_TABLE */
    };
    uint8_t origin, depth; /* the reader's own */
};

/* Parses a whole file: the root table, owned by the caller, or -EINVAL with "line N: ..." in err. -EMSGSIZE for what is
 * too much. */
int toml_parse(const char *text, size_t len, struct toml_value **ret, struct mvm_error *err) MVM_MUST_CHECK;
void toml_free(struct toml_value *v);

static inline void toml_freep(struct toml_value **v)
{
    toml_free(*v);
}
#define CLEAN_TOML CLEANUP(toml_freep)

/* The value of a key in a table, NULL where there is none. */
const struct toml_value *toml_find(const struct toml_value *table, const char *key);

/* "string", "integer", ... */
const char *toml_type_name(enum toml_type type);
