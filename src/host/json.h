/*
 * JSON by json-c, with the checks that untrusted files need: size and depth caps, typed field access with errors
 * that name the field. Objects own what they contain; json_put() (CLEAN_JSON) releases a reference.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void json_putp(json_object **o)
{
    json_object_put(*o);
}
#define CLEAN_JSON CLEANUP(json_putp)

/* Parses one JSON object that fills the text but for white space; depth at most 32. The caller owns *ret. */
int json_parse(const void *text, size_t len, json_object **ret, struct mvm_error *err) MVM_MUST_CHECK;

/* The same from a file below dirfd of at most max bytes. */
int json_load(int dirfd, const char *name, size_t max, json_object **ret, struct mvm_error *err) MVM_MUST_CHECK;

/* Writes o and a newline as one step (path_write_file). */
int json_save(int dirfd, const char *name, json_object *o, mode_t mode, bool sync,
              struct mvm_error *err) MVM_MUST_CHECK;

/* The same with a digest over every byte as the last field, "sha256": what does not lie in a folder that is named for
 * its content and decides what boots. o receives the field. */
int json_save_sealed(int dirfd, const char *name, json_object *o, mode_t mode, bool sync,
                     struct mvm_error *err) MVM_MUST_CHECK;
/* -EBADMSG where it is not, byte for byte, as it was written. */
int json_load_sealed(int dirfd, const char *name, size_t max, json_object **ret, struct mvm_error *err) MVM_MUST_CHECK;

/* A required field of that type; the string belongs to the object. -ENOENT where absent, -EINVAL where of another type.
 */
int json_get_string(json_object *o, const char *key, const char **ret, struct mvm_error *err) MVM_MUST_CHECK;
int json_get_int(json_object *o, const char *key, int64_t *ret, struct mvm_error *err) MVM_MUST_CHECK;
int json_get_object(json_object *o, const char *key, json_object **ret, struct mvm_error *err) MVM_MUST_CHECK;
int json_get_array(json_object *o, const char *key, json_object **ret, struct mvm_error *err) MVM_MUST_CHECK;

/* Adding fields; memory running short ends the process, as it would in any printing code. A NULL string adds null. */
void json_add_string(json_object *o, const char *key, const char *value);
void json_add_int(json_object *o, const char *key, int64_t value);
void json_add_double(json_object *o, const char *key, double value);
void json_add_bool(json_object *o, const char *key, bool value);
/* Takes ownership of value. */
void json_add(json_object *o, const char *key, json_object *value);

/* Members of a struct that are fields of an object: one table for writing and reading. */
struct json_field {
    const char *key;
    size_t offset;
    size_t size;   /* of a char array, the end included; 0: a uint64_t of at most INT64_MAX */
    bool optional; /* one that lacks it is read too, the member stays as it is */
};
#define JSON_TEXT(type, key, member)                                                                                   \
    {                                                                                                                  \
        key, offsetof(type, member), sizeof(((type *)0)->member), false                                                \
    }
#define JSON_OPTIONAL_TEXT(type, key, member)                                                                          \
    {                                                                                                                  \
        key, offsetof(type, member), sizeof(((type *)0)->member), true                                                 \
    }
#define JSON_NUMBER(type, key, member)                                                                                 \
    {                                                                                                                  \
        key, offsetof(type, member), 0, false                                                                          \
    }
#define JSON_OPTIONAL_NUMBER(type, key, member)                                                                        \
    {                                                                                                                  \
        key, offsetof(type, member), 0, true                                                                           \
    }
void json_put_fields(json_object *o, const struct json_field *fields, size_t n, const void *from);
/* -ENOENT, or -EINVAL for another type, a text that is too long or a negative number; members before it are set then.
 */
int json_get_fields(json_object *o, const struct json_field *fields, size_t n, void *to,
                    struct mvm_error *err) MVM_MUST_CHECK;
