/* Folders on the disk of the builder's store. */
#pragma once

#define BUILD_WORK  "/nix/mvm-work"    /* the jobs' own */
#define BUILD_FILES "/nix/mvm-sources" /* file_cache.h */
#define BUILD_HOME  "/nix/mvm-home"    /* of Nix */
