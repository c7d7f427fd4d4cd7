/* Any bytes as a public key, a signature and a secret key: a public key that is accepted is written again as it was,
 * and a secret key that is accepted makes signatures that verify. */
#include "fuzz.h"

#include "base/buf.h"
#include "image/minisign.h"

#include <errno.h>
#include <string.h>

static void try_public(const char *text, size_t size)
{
    struct minisign_key k;
    char again[MINISIGN_KEY_TEXT];
    if (minisign_key_parse(&k, text, size, NULL) < 0)
        return;
    minisign_key_format(&k, again);
    MUST(memmem(text, size, again, strlen(again)));
}

static void try_signature(const char *text, size_t size)
{
    struct minisign_signature s;
    const struct minisign_key *by = NULL;
    struct mvm_error err = MVM_ERROR_INIT;
    struct minisign_key k = {.key = {1}};
    if (minisign_signature_parse(&s, text, size, &err) < 0)
        return;
    MUST(strlen(s.comment) <= MINISIGN_MAX_COMMENT);
    MUST(minisign_verify(&k, 1, "", 0, text, size, &by, &err) == -ENOKEY || memcmp(s.id, k.id, sizeof(k.id)) == 0);
    memcpy(k.id, s.id, sizeof(k.id));
    MUST(minisign_verify(&k, 1, "", 0, text, size, &by, &err) == -EKEYREJECTED && !by);
}

static void try_secret(const char *text, size_t size)
{
    CLEAN_MINISIGN_SECRET struct minisign_secret s = {0};
    CLEAN_BUF struct buf b = BUF_INIT(MINISIGN_MAX_FILE);
    const struct minisign_key *by = NULL;
    if (minisign_secret_parse(&s, text, size, NULL, NULL) < 0)
        return;
    MUST(minisign_sign(&s, text, size, "comment", &b, NULL) == 0);
    MUST(minisign_verify(&s.public_key, 1, text, size, buf_cstr(&b), b.len, &by, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_public((const char *)data, size);
    try_signature((const char *)data, size);
    try_secret((const char *)data, size);
    return 0;
}
