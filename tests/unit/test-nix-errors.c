/* Why a build failed, from Nix's words (buildlog/nix_errors.h). */
#include "tap.h"

#include "base/macros.h"
#include "buildlog/nix_errors.h"

#include <string.h>

#define HASH "0123456789abcdfghijklmnpqrsvwxyz"
#define DRV  "/nix/store/" HASH "-hello-1.0.drv"
#define DRV2 "/nix/store/" HASH "-other.drv"

static struct nix_errors f;

static void begin(void)
{
    memset(&f, 0, sizeof(f));
}

static void test_builder(void)
{
    begin();
    nix_errors_message(&f, "error: builder for '" DRV "' failed with exit code 9;\n  last 10 log lines: x");
    ok(f.kind == NIX_ERROR_BUILDER && strcmp(f.derivation, DRV) == 0 && strcmp(f.names[0], "hello-1.0") == 0 &&
           f.n_failed == 1 && strcmp(f.why, "failed with exit code 9") == 0,
       "a builder that failed is named, with its exit code");
    nix_errors_message(&f, "error: builder for '" DRV2 "' failed with exit code 1");
    ok(strcmp(f.derivation, DRV) == 0 && f.n_failed == 2 && strcmp(f.names[1], "other") == 0,
       "the first one that failed decides; the second one is named too");
    for (unsigned i = 0; i < 10; i++)
        nix_errors_message(&f, "builder for '" DRV2 "' failed");
    ok(f.n_failed == 12 && strcmp(f.names[NIX_ERROR_NAMES - 1], "other") == 0, "more than four are counted");
    begin();
    nix_errors_message(&f, "error: Cannot build '" DRV "'.\n       Reason: builder failed with exit code 2.\n");
    ok(f.kind == NIX_ERROR_BUILDER && strcmp(f.why, "failed with exit code 2.") == 0,
       "so it is in the words of later Nix");
    begin();
    nix_errors_message(&f, "builder for '" DRV "' failed to produce output path for output 'out' at '/nix/store/x'");
    ok(strcmp(f.why, "failed to produce output path for output 'out'") == 0, "a path of the sandbox is left out");
}

static void test_hash(void)
{
    begin();
    nix_errors_message(&f, "error: hash mismatch in fixed-output derivation '" DRV
                           "':\n         specified: sha256-AAA=\n            got:    sha256-BBB=\n");
    ok(f.kind == NIX_ERROR_HASH && strcmp(f.derivation, DRV) == 0 && strcmp(f.specified, "sha256-AAA=") == 0 &&
           strcmp(f.got, "sha256-BBB=") == 0,
       "a fixed output with another hash");
    begin();
    nix_errors_message(&f, "error: NAR hash mismatch in input 'github:a/b', expected 'sha256-C=' but got 'sha256-D='");
    ok(f.kind == NIX_ERROR_HASH && !f.derivation[0] && strcmp(f.url, "github:a/b") == 0 &&
           strcmp(f.specified, "sha256-C=") == 0 && strcmp(f.got, "sha256-D=") == 0,
       "an input with another hash blames no derivation");
    begin();
    nix_errors_message(&f, "error: hash mismatch in fixed-output derivation 'no end");
    ok(f.kind == NIX_ERROR_UNKNOWN && f.n_failed == 0, "a message without its closing quote is not recognised");
}

static void test_fetch(void)
{
    begin();
    nix_errors_message(&f, "error: unable to download 'https://a.b/c': Could not resolve hostname (6) a.b\nmore");
    ok(f.kind == NIX_ERROR_FETCH && strcmp(f.url, "https://a.b/c") == 0 &&
           strcmp(f.why, "Could not resolve hostname (6) a.b") == 0,
       "a download that failed, with its URL and one line");
    begin();
    nix_errors_line(&f, DRV, "trying https://one/x");
    nix_errors_line(&f, DRV, "curl: (6) Could not resolve host: one");
    nix_errors_line(&f, DRV, "trying https://two/x");
    nix_errors_line(&f, DRV, "curl: (22) The requested URL returned error: 404");
    nix_errors_line(&f, DRV, "error: cannot download x from any mirror");
    nix_errors_message(&f, "builder for '" DRV "' failed with exit code 1");
    ok(f.kind == NIX_ERROR_FETCH && strcmp(f.url, "https://two/x") == 0 && strstr(f.why, "(22)"),
       "a builder that fetches: the last mirror, and curl's own words");
    begin();
    nix_errors_line(&f, DRV2, "curl: (6) Could not resolve host: one");
    nix_errors_message(&f, "builder for '" DRV "' failed with exit code 1");
    ok(f.kind == NIX_ERROR_BUILDER, "what another derivation's builder says explains nothing");
    begin();
    nix_errors_line(&f, DRV, "error: hash mismatch in fixed-output derivation '" DRV2 "': got: x");
    nix_errors_line(&f, DRV, "just words");
    ok(f.kind == NIX_ERROR_NONE && f.n_failed == 0 && !f.fetch.why[0],
       "a builder's own output forges no message of Nix's");
}

static void test_unknown(void)
{
    begin();
    nix_errors_message(&f, "error: something else\nentirely");
    ok(f.kind == NIX_ERROR_UNKNOWN && strcmp(f.why, "something else") == 0, "other words are told as they are");
    nix_errors_message(&f, "error: a second thing");
    ok(strcmp(f.why, "something else") == 0, "the first of them stays");
    nix_errors_message(&f, "builder for '" DRV "' failed with exit code 1");
    ok(f.kind == NIX_ERROR_BUILDER && strcmp(f.why, "failed with exit code 1") == 0, "until something is recognised");
    static char endless[5000];
    memset(endless, 'x', sizeof(endless) - 1);
    memcpy(endless, "builder for '" DRV, sizeof("builder for '" DRV) - 1);
    endless[4000] = '\'';
    begin();
    nix_errors_message(&f, endless);
    nix_errors_line(&f, endless, endless);
    ok(strlen(f.derivation) < sizeof(f.derivation) && strlen(f.names[0]) < sizeof(f.names[0]),
       "a path without an end is cut");
    begin();
    nix_errors_message(&f, "");
    nix_errors_message(&f, "error: ");
    ok(f.kind == NIX_ERROR_UNKNOWN && !f.why[0], "an empty message is a message");
}

static void short_name(const char *text, const char *want)
{
    char out[32];
    nix_errors_short_name(text, out, sizeof(out));
    ok(strcmp(out, want) == 0, "%.60s is %s to people (%s)", text, want, out);
}

static void test_names(void)
{
    short_name(DRV, "hello-1.0");
    short_name("'" DRV "' and more", "hello-1.0");
    short_name("/nix/store/" HASH "-a", "a");
    short_name("/nix/store/" HASH, "/nix/store/"
                                   "0123456789abcdfghijk");
    short_name("/nix/store/short-a", "/nix/store/short-a");
    short_name("hello.drv", "hello");
    short_name(".drv", ".drv");
    short_name("", "");
    short_name("/nix/store/" HASH "-0123456789012345678901234567\xc3\xa9\xc3\xa9",
               "0123456789012345678901234567\xc3\xa9");
}

int main(void)
{
    test_builder();
    test_hash();
    test_fetch();
    test_unknown();
    test_names();
    return tap_end();
}
