/* The files of the builder's cache: private to buildercache.c, which judges them, and buildercache_stage.c, which makes
 * them. */
#pragma once

#include "base/buf.h"
#include "cache/buildercache.h"
#include "cache/statindex.h"

#define FOLDER      "builder-vm"
#define FINGERPRINT ".mvm-source.sha256"
#define DIGESTS     ".mvm-artifacts.sha256"
#define PROVENANCE  ".mvm-provenance.json"
#define MANIFEST    "manifest.json"
#define LIVE_LOCK   ".live"
#define NAME_SIZE   80
#define MAX_SIDECAR (1u << 20)

/* What an image may consist of; the first two are required. */
#define BUILDERCACHE_ARTIFACTS 5
extern const char *const buildercache_artifacts[BUILDERCACHE_ARTIFACTS];

/* ".<arch>" and a suffix. */
void buildercache_hidden_name(char *out, size_t size, const char *suffix);
/* The cache's folder: a descriptor, or -errno with phase builder-bootstrap. */
int buildercache_open_root(struct home *h, struct mvm_error *err);
/* A regular file below dirfd: a descriptor, -ENOENT, -EINVAL for what is there but no such file, -errno where neither
 * can be said. */
int buildercache_open_file(int dirfd, const char *name);
/* A small file as text, its last newline cut off. */
int buildercache_read_sidecar(int dirfd, const char *name, struct buf *out);
/* The digests of what is there, in sha256sum's format. index: NULL, or where they may be known from, unless verify. */
int buildercache_list_digests(int dirfd, struct statindex *index, bool verify, struct buf *out);
/* Kernel and root file system: a verdict (enum cache_reason), or -errno. */
int buildercache_judge_boot_files(int dirfd);
