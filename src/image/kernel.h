/* Linux kernels: the uncompressed ELF out of a bzImage, modules with what they depend on. */
#pragma once

#include "base/error.h"
#include "image/fstree.h"

/* Takes the ELF out of a bzImage (boot protocol 2.08+, kernel: Documentation/arch/x86/boot.rst: payload_offset and
 * payload_length) and writes it to the empty file out_fd. Payloads: zstd, xz, gzip, or none. An input that is an ELF
 * already, or an aarch64 Image, is copied. -EINVAL for what is no kernel. */
int kernel_extract(int in_fd, int out_fd, struct mvm_error *err) MVM_MUST_CHECK;

/* 1 if the file is an ELF for x86-64 (or aarch64 Image) of at least 1 MiB, 0 with the reason in err if it is not,
 * -errno if it cannot be read. */
int kernel_check(int fd, struct mvm_error *err);

/* What processors the kernel is for, as os_arch() calls them: "x86_64" or "aarch64", NULL where it is neither. */
const char *kernel_arch(int fd);

/* The release string ("6.12.0-cloud-amd64") from "Linux version ..." in an extracted ELF or from a bzImage's header. */
int kernel_release(int fd, char *out, size_t size, struct mvm_error *err) MVM_MUST_CHECK;

/* Adds the named modules and all they depend on to an initrd tree as modules/NN-name.ko, uncompressed and without
 * signatures, in an order that loads (dependencies first; read from each module's .modinfo "depends="). modules_dir:
 * .../lib/modules/<release> on this machine. A module that is absent is skipped if it is listed in modules.builtin,
 * else -ENOENT. */
int kernel_add_modules(struct fstree *initrd, const char *modules_dir, const char *const *names,
                       struct mvm_error *err) MVM_MUST_CHECK;
