/* What Debian's minisign 0.11 made of a throw-away key, byte for byte; tests/cli/image.t has it sign and verify live.
 */
#include "keys.h"
#include "tap.h"

#include "base/buf.h"
#include "image/minisign.h"

#include <errno.h>
#include <string.h>

/* The password is "secret". Encrypted again for libsodium's interactive limits: minisign's own take a GiB. */
static const char encrypted_file[] =
    "untrusted comment: minisign encrypted secret key\n"
    "RWRTY0IyQ8KYpTOzv+jV5BDtfgH7ggGHANRxCvbC4+1TgiU3wt4AAAgAAAAAAAAAAAEAAAAAcHmXejSWA6lFWE0cHgpzfxUWh/qzmtTep5QFKY"
    "5RwF6AQlUWZSzMsKaf4512SAMB1vRNufz2rxVHuQM/zzcNoHgZOkvXPzlcmuyfOnV+zY4nwkp4EdZQmPuRCjJc5QHb6lvxYxJeVVc=\n";
static const char prehashed[] =
    "untrusted comment: signature from minisign secret key\n"
    "RUTtSYqKA82J8LvjfY5FC0N4AkRw4Hs03ObVJzbGdY0Fe4hthxSRrXHs9+cb+aFley6jCc7djJj3CzXIzFl4f1pMslCvs8lrtgU=\n"
    "trusted comment: timestamp:1795529207\tfile:m\thashed\n"
    "8Psw6vP06LM2xlNQ4SOqfqEZd9pUfFv1M63PdCwgVhWEKVHyyQzGdm280VLYXCsayM1NviCCICFUppSnFol7CA==\n";
static const char legacy[] =
    "untrusted comment: signature from minisign secret key\n"
    "RWTtSYqKA82J8O7EKDeJN+ad7hyHagGzZTRCodYA0ZLPiYw48XtE4S3pDZk1rz4K8607IXRGseWI03662fVJF4/IvlfO6NHiAAY=\n"
    "trusted comment: old style\n"
    "v4Rm9MiiyuzI51p+Op18Nn0XnK2zRAmV15tDUASMp/p6McX0oWid242R5iHgDo4Vf5nncCUydTn4ftsoo7okDA==\n";
static const char message[] = "hello\n";

static struct minisign_key key, other;

static int verify(const char *text, const char *signature, size_t len)
{
    const struct minisign_key keys[] = {other, key};
    const struct minisign_key *by = NULL;
    int r = minisign_verify(keys, 2, text, strlen(text), signature, len, &by, NULL);
    return r == 0 && by != &keys[1] ? -EIO : r;
}

static void test_keys(void)
{
    char text[MINISIGN_KEY_TEXT], id[17], file[200];
    struct minisign_key again;
    ok(minisign_key_parse(&key, public_base64, strlen(public_base64), NULL) == 0 &&
           minisign_key_parse(&other, other_base64, strlen(other_base64), NULL) == 0,
       "public keys in base64");
    minisign_key_format(&key, text);
    minisign_key_id(&key, id);
    ok(strcmp(text, public_base64) == 0 && strcmp(id, "F089CD038A8A49ED") == 0, "are written again, with their number");
    snprintf(file, sizeof(file), "untrusted comment: x\r\n%s\r\n", public_base64);
    ok(minisign_key_parse(&again, file, strlen(file), NULL) == 0 && memcmp(&again, &key, sizeof(key)) == 0,
       "a public key file");
    again = key;
    again.id[7] = 0x0d;
    minisign_key_id(&again, id);
    ok(strcmp(id, "D89CD038A8A49ED") == 0, "a number has no leading zeros");
    static const char *const bad[] = {"",
                                      "RWQ",
                                      "untrusted comment: x",
                                      "RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQ=",
                                      " RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQ",
                                      "RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQhAAAA",
                                      "RUTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQh",
                                      "RWTtSYqKA82J8GASv45M7hAkz31G/UKlmJJvHrpRZe1rnPQ6Y//JAPQh\nmore"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(minisign_key_parse(&again, bad[i], strlen(bad[i]), NULL) == -EINVAL, "no public key: %zu", i);
}

static void test_verify(void)
{
    ok(verify(message, prehashed, strlen(prehashed)) == 0, "a prehashed signature holds");
    ok(verify(message, legacy, strlen(legacy)) == 0, "a legacy one holds");
    ok(verify("hellO\n", prehashed, strlen(prehashed)) == -EKEYREJECTED, "not over other bytes");
    ok(verify("hellO\n", legacy, strlen(legacy)) == -EKEYREJECTED, "nor does the legacy one");
    const struct minisign_key *by = NULL;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(minisign_verify(&other, 1, message, 6, prehashed, strlen(prehashed), &by, &e) == -ENOKEY &&
           strstr(e.msg, "F089CD038A8A49ED"),
       "another key's: its number is said");
    struct minisign_key forged = other;
    memcpy(forged.id, key.id, sizeof(key.id));
    ok(minisign_verify(&forged, 1, message, 6, prehashed, strlen(prehashed), &by, &e) == -EKEYREJECTED && !by,
       "a key's number alone is not enough");
    /* Of all that is signed or signature, no byte may change; the untrusted comment may. */
    size_t from = (size_t)(strchr(prehashed, '\n') - prehashed), accepted = 0;
    for (size_t i = from; i < strlen(prehashed) - 1; i++) {
        char changed[sizeof(prehashed)];
        memcpy(changed, prehashed, sizeof(changed));
        changed[i] ^= 1;
        accepted += verify(message, changed, strlen(prehashed)) == 0;
    }
    ok(accepted == 0, "no byte of a signature or its trusted comment can be flipped");
    size_t cut = 0;
    for (size_t n = 0; n < strlen(prehashed) - 1; n++)
        cut += verify(message, prehashed, n) == 0;
    ok(cut == 0, "none can be cut off");
}

static void test_sign(void)
{
    CLEAN_MINISIGN_SECRET struct minisign_secret s = {0};
    CLEAN_BUF struct buf b = BUF_INIT(MINISIGN_MAX_FILE);
    struct mvm_error e = MVM_ERROR_INIT;
    ok(minisign_secret_parse(&s, secret_file, strlen(secret_file), NULL, &e) == 0 &&
           memcmp(&s.public_key, &key, sizeof(key)) == 0,
       "a secret key without password");
    ok(minisign_sign(&s, message, 6, "timestamp:1795529207\tfile:m\thashed", &b, &e) == 0, "it signs");
    const char *ours = strchr(buf_cstr(&b), '\n'), *theirs = strchr(prehashed, '\n');
    ok(ours && strcmp(ours, theirs) == 0, "to the very bytes that minisign made");
    ok(minisign_sign(&s, message, 6, "two\nlines", &b, &e) == -EINVAL, "a comment of two lines is refused");
    char damaged[sizeof(secret_file)];
    memcpy(damaged, secret_file, sizeof(damaged));
    damaged[strlen("untrusted comment: minisign encrypted secret key\n") + 100] ^= 1;
    ok(minisign_secret_parse(&s, damaged, strlen(damaged), NULL, &e) == -EKEYREJECTED, "a damaged secret key");
    ok(minisign_secret_parse(&s, encrypted_file, strlen(encrypted_file), NULL, &e) == -ENOKEY, "a password is missing");
    ok(minisign_secret_parse(&s, encrypted_file, strlen(encrypted_file), "wrong", &e) == -EKEYREJECTED &&
           strstr(e.msg, "password is wrong"),
       "a wrong one");
    ok(minisign_secret_parse(&s, encrypted_file, strlen(encrypted_file), "secret", &e) == 0 &&
           memcmp(&s.public_key, &other, sizeof(other)) == 0,
       "the right one");
    minisign_secret_done(&s);
    static const struct minisign_secret zero;
    ok(memcmp(&s, &zero, sizeof(s)) == 0, "a secret key is zeroed in the end");
}

int main(void)
{
    test_keys();
    test_verify();
    test_sign();
    return tap_end();
}
