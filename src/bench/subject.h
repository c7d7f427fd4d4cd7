/*
 * What is measured: an image and how it is started. Either what was last built from a flake, or what a configuration
 * file (TOML) says:
 *
 *   name = "slim"              what it is called in the results (default: the file's name)
 *   flake = "examples/hello"   the image, as up --flake takes it; or
 *   kernel = "FILE"            any kernel and
 *   rootfs = "FILE"            ... root file system, with
 *   initrd = "FILE"            ... optional initrd and
 *   cmdline = "TEXT"           ... optional command line, as the image's cmdline.txt
 *   backend = "NAME"           memory = "256M"      cpus = 1
 *   mode = "warm"              or "cold"
 *
 * Files are relative to the configuration's folder. Nothing is built.
 */
#pragma once

#include "builder/build.h"
#include "machine/machine.h"

struct subject {
    char name[80];
    char *flake; /* owned; NULL where kernel and rootfs were named */
    bool has_mode, cold;
    char *hypervisor; /* owned; NULL: default */
    struct artifact_image image;
    struct artifact_stage stage; /* of kernel and rootfs: a folder with links to them, for as long as this lives */
    uint64_t memory_mib;
    unsigned vcpus;
};

#define SUBJECT_INIT                                                                                                   \
    {                                                                                                                  \
        .image = ARTIFACT_IMAGE_INIT, .stage = ARTIFACT_STAGE_INIT                                                     \
    }

/* Reads a configuration file. phase config, with the line of what is wrong. Nothing is opened yet. */
int subject_load(struct subject *s, struct home *h, const char *file, struct mvm_error *err) MVM_MUST_CHECK;
/* The image last built from the flake. */
int subject_of_flake(struct subject *s, const struct build_opts *o, struct home *h,
                     struct mvm_error *err) MVM_MUST_CHECK;
/* The same from the text of a file in the folder base (a descriptor): for tests. */
int subject_parse(struct subject *s, struct home *h, const char *text, size_t len, int base,
                  struct mvm_error *err) MVM_MUST_CHECK;
void subject_done(struct subject *s);

/* The config of a VM of it; name and timeout are the caller's to set. */
struct machine_config subject_config(const struct subject *s);
