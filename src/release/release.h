/*
 * A release set: an image as it is published. A folder with
 *
 *   manifest.json          {schema_version:1, contract_version:1, kind, arch, version, created, artifacts:{name:{size,
 *                          sha256}}}
 *   manifest.json.minisig  minisign's signature over exactly those bytes
 *   vmlinux, rootfs.ext4, perhaps initrd, cmdline.txt, image.json
 *
 * The bytes of the manifest are verified before they are parsed. version is a number that grows with each release of
 * the same kind and arch (the seconds since 1970 unless said otherwise); created is for people.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/progress.h"
#include "image/manifest.h"
#include "image/minisign.h"

#define RELEASE_MANIFEST      "manifest.json"
#define RELEASE_SIGNATURE     "manifest.json.minisig"
#define RELEASE_MAX_MANIFEST  (64 * 1024)
#define RELEASE_MAX_SIGNATURE MINISIGN_MAX_FILE

enum release_kind { RELEASE_DEV, RELEASE_BUILDER, RELEASE_KIND_COUNT };

/* "dev", "builder". */
const char *release_kind_name(enum release_kind kind);
/* -1 where it is none. */
int release_kind_parse(const char *name);

struct release {
    enum release_kind kind;
    char arch[32]; /* as from uname -m */
    int64_t version;
    char created[32]; /* "2026-11-24T12:00:00Z" */
    struct manifest files;
};

/* A manifest whose bytes were verified. */
int release_parse(struct release *r, const void *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;

/* Makes the folder dest, which must not exist, from the image in dirfd: all of it or nothing. r has kind, arch and
 * version; created and files are filled. */
int release_export(int dirfd, const char *dest, struct release *r, struct progress *p,
                   struct mvm_error *err) MVM_MUST_CHECK;

/* Signs the set in the folder after checking that its files are what its manifest says. */
int release_sign(int dirfd, const struct minisign_secret *secret, struct release *ret,
                 struct mvm_error *err) MVM_MUST_CHECK;

/* Verifies the signature by one of the keys, reads every byte of every file, and checks that they are an image.
 * Errors: as minisign_verify(); -EBADMSG for files that are not what the manifest says. */
int release_verify(int dirfd, const struct minisign_key *keys, size_t n_keys, struct release *ret,
                   const struct minisign_key **ret_key, struct mvm_error *err) MVM_MUST_CHECK;

/* The two halves of that: the signed bytes, and the files. */
int release_verify_manifest(const struct minisign_key *keys, size_t n_keys, const struct buf *manifest,
                            const struct buf *signature, struct release *ret, const struct minisign_key **ret_key,
                            struct mvm_error *err) MVM_MUST_CHECK;
int release_check_files(int dirfd, const struct release *r, struct mvm_error *err) MVM_MUST_CHECK;
