#include "host/json.h"

#include <stdlib.h>

#include "base/path.h"
#include "host/sha256.h"
#include <math.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 32
#define MAX_TEXT  ((size_t)16 << 20) /* bytes of a file that is written */

int json_parse(const void *text, size_t len, json_object **ret, struct mvm_error *err)
{
    if (len > INT_MAX)
        return mvm_error_set(err, -EMSGSIZE, "JSON text too long");
    json_tokener *tok = json_tokener_new_ex(MAX_DEPTH);
    if (!tok)
        return mvm_error_errno(err, -ENOMEM, "JSON");
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    json_object *o = json_tokener_parse_ex(tok, text, (int)len);
    enum json_tokener_error why = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    if (why != json_tokener_success) {
        json_object_put(o);
        return mvm_error_set(err, -EINVAL, "invalid JSON at byte %zu: %s", end,
                             why == json_tokener_continue ? "text ends early" : json_tokener_error_desc(why));
    }
    const char *s = text;
    while (end < len && isspace((unsigned char)s[end]))
        end++;
    if (end != len || !json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        return mvm_error_set(err, -EINVAL, "invalid JSON: not a single object");
    }
    *ret = o;
    return 0;
}

int json_load(int dirfd, const char *name, size_t max, json_object **ret, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(max);
    int r = path_read_file(dirfd, name, &text, err);
    if (r < 0)
        return r;
    r = json_parse(buf_cstr(&text), text.len, ret, err);
    if (r < 0)
        mvm_error_wrap(err, "%s", name);
    return r;
}

static int to_text(json_object *o, const char *name, struct buf *out, struct mvm_error *err)
{
    const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                             JSON_C_TO_STRING_NOSLASHESCAPE);
    int r = buf_printf(out, "%s\n", text);
    return r < 0 ? mvm_error_errno(err, r, "cannot write %s", name) : 0;
}

int json_save(int dirfd, const char *name, json_object *o, mode_t mode, bool sync, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_TEXT);
    int r = to_text(o, name, &b, err);
    return r < 0 ? r : path_write_file(dirfd, name, b.data, b.len, mode, sync, err);
}

/* ---- Sealed files: the digest of all that is before it, then these bytes ---- */

#define SEAL_END "\"\n}\n"
#define SEAL     (SHA256_HEX_SIZE - 1 + sizeof(SEAL_END) - 1)

/* The digest of the text before the seal. */
static void digest_text(const struct buf *b, char out[static SHA256_HEX_SIZE])
{
    struct sha256 s;
    uint8_t digest[SHA256_SIZE];
    sha256_init(&s);
    sha256_update(&s, b->data, b->len - SEAL);
    sha256_final(&s, digest);
    sha256_hex(digest, out);
}

int json_save_sealed(int dirfd, const char *name, json_object *o, mode_t mode, bool sync, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE];
    CLEAN_BUF struct buf b = BUF_INIT(MAX_TEXT);
    memset(digest, '0', sizeof(digest) - 1);
    digest[sizeof(digest) - 1] = '\0';
    json_object_object_del(o, "sha256"); /* so that it is the last one */
    json_add_string(o, "sha256", digest);
    int r = to_text(o, name, &b, err);
    if (r < 0)
        return r;
    digest_text(&b, digest);
    memcpy(b.data + b.len - SEAL, digest, sizeof(digest) - 1);
    return path_write_file(dirfd, name, b.data, b.len, mode, sync, err);
}

int json_load_sealed(int dirfd, const char *name, size_t max, json_object **ret, struct mvm_error *err)
{
    char digest[SHA256_HEX_SIZE + sizeof(SEAL_END)] = "";
    CLEAN_BUF struct buf text = BUF_INIT(max);
    int r = path_read_file(dirfd, name, &text, err);
    if (r < 0)
        return r;
    if (text.len > SEAL)
        digest_text(&text, digest);
    strcat(digest, SEAL_END);
    if (text.len <= SEAL || memcmp(text.data + text.len - SEAL, digest, SEAL) != 0)
        return mvm_error_set(err, -EBADMSG, "%s is not as it was written", name);
    r = json_parse(text.data, text.len, ret, err);
    if (r < 0)
        mvm_error_wrap(err, "%s", name);
    return r;
}

static int get(json_object *o, const char *key, json_type type, json_object **ret, struct mvm_error *err)
{
    json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v))
        return mvm_error_set(err, -ENOENT, "field '%s' is missing", key);
    if (!json_object_is_type(v, type))
        return mvm_error_set(err, -EINVAL, "field '%s' is no %s", key, json_type_to_name(type));
    *ret = v;
    return 0;
}

int json_get_string(json_object *o, const char *key, const char **ret, struct mvm_error *err)
{
    json_object *v = NULL;
    int r = get(o, key, json_type_string, &v, err);
    if (r == 0)
        *ret = json_object_get_string(v);
    return r;
}

int json_get_int(json_object *o, const char *key, int64_t *ret, struct mvm_error *err)
{
    json_object *v = NULL;
    int r = get(o, key, json_type_int, &v, err);
    if (r == 0)
        *ret = json_object_get_int64(v);
    return r;
}

int json_get_object(json_object *o, const char *key, json_object **ret, struct mvm_error *err)
{
    return get(o, key, json_type_object, ret, err);
}

int json_get_array(json_object *o, const char *key, json_object **ret, struct mvm_error *err)
{
    return get(o, key, json_type_array, ret, err);
}

void json_add(json_object *o, const char *key, json_object *value)
{
    if (json_object_object_add(o, key, value) < 0)
        abort();
}

void json_add_string(json_object *o, const char *key, const char *value)
{
    json_add(o, key, value ? json_object_new_string(value) : NULL);
}

void json_add_int(json_object *o, const char *key, int64_t value)
{
    json_add(o, key, json_object_new_int64(value));
}

void json_add_double(json_object *o, const char *key, double value)
{
    /* The shortest digits that read back as the same number: 3.55, not 3.5499999999999998. */
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    if (!strpbrk(text, ".eni"))
        strcat(text, ".0");
    json_add(o, key, isfinite(value) ? json_object_new_double_s(value, text) : json_object_new_double(value));
}

void json_add_bool(json_object *o, const char *key, bool value)
{
    json_add(o, key, json_object_new_boolean(value));
}

/* ---- Tables ---- */

void json_put_fields(json_object *o, const struct json_field *fields, size_t n, const void *from)
{
    for (const struct json_field *f = fields; f < fields + n; f++) {
        const char *at = (const char *)from + f->offset;
        uint64_t number;
        if (f->size) {
            json_add_string(o, f->key, at);
        } else {
            memcpy(&number, at, sizeof(number));
            json_add_int(o, f->key, (int64_t)number);
        }
    }
}

static int get_text(json_object *o, const struct json_field *f, char *at, struct mvm_error *err)
{
    const char *text = NULL;
    int r = json_get_string(o, f->key, &text, err);
    if (r == 0 && (size_t)snprintf(at, f->size, "%s", text) >= f->size)
        r = mvm_error_set(err, -EINVAL, "field '%s' is too long", f->key);
    return r;
}

static int get_number(json_object *o, const struct json_field *f, char *at, struct mvm_error *err)
{
    int64_t number = 0;
    int r = json_get_int(o, f->key, &number, err);
    if (r == 0 && number < 0)
        r = mvm_error_set(err, -EINVAL, "field '%s' is negative", f->key);
    if (r == 0)
        memcpy(at, &number, sizeof(number));
    return r;
}

int json_get_fields(json_object *o, const struct json_field *fields, size_t n, void *to, struct mvm_error *err)
{
    for (const struct json_field *f = fields; f < fields + n; f++) {
        bool absent = f->optional && !json_object_object_get_ex(o, f->key, NULL);
        char *at = (char *)to + f->offset;
        int r = absent ? 0 : f->size ? get_text(o, f, at, err) : get_number(o, f, at, err);
        if (r < 0)
            return r;
    }
    return 0;
}
