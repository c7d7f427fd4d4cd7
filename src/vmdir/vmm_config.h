/* From run.json to what the VMM is started with: the image's files and command line become a vmm_config. Starting needs
 * all of it, and a snapshot what of it has to be the same (its identity). */
#pragma once

#include "base/buf.h"
#include "vmdir/runfile.h"
#include "vmm/vmm.h"

/* Where the guest's memory and devices come from. */
struct vmm_source {
    int memory_fd;          /* -1: anonymous memory */
    bool share;             /* the memory is written to the file */
    bool restore;           /* it does not boot: the backend's `restore` follows */
    const char *store_path; /* NULL: the VM's own */
    int dir_fd;             /* the VM's folder */
    int cgroup_fd;          /* the folder of the cgroup that it is born in; 0: the caller's */
};

/* A config, and what it borrows. */
struct vmm_plan {
    char *kernel, *initrd, *rootfs;
    struct buf cmdline;
    struct vmm_config config;
};

#define VMM_PLAN_INIT                                                                                                  \
    {                                                                                                                  \
        .cmdline = BUF_INIT(4096)                                                                                      \
    }

/* Without the connections' descriptors, which are the starter's. */
int vmm_plan(struct vmm_plan *p, const struct runfile *run, const struct vmm_source *source,
             struct mvm_error *err) MVM_MUST_CHECK;
void vmm_plan_done(struct vmm_plan *p);
/* What the processors of the guest of the image in that folder are (vmm_config.arch): as its kernel says; NULL where
 * it does not. */
const char *vmm_image_arch(const char *image);
/* 0, or why the backend cannot boot the image in that open folder. */
int vmm_takes_image(const struct vmm_ops *backend, int image_fd, struct mvm_error *err) MVM_MUST_CHECK;
/* What such a VM depends on besides its image. */
int vmm_plan_identity(const struct vmm_ops *backend, const struct runfile *run, struct vmm_identity *ret,
                      struct mvm_error *err) MVM_MUST_CHECK;
