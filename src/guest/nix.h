/* Runs Nix for a build job: arguments, environment, its log to the host, and why it failed. */
#pragma once

#include "guest/build_job.h"

/* Begins the arguments of a Nix command, with what all of this job's have. */
void nix_begin(struct nix_args *a, const struct build_job *j, const char *command);
/* One more argument. Borrowed. */
void nix_add(struct nix_args *a, const char *s);
/* A setting "name=value" of the host's choosing, which is taken apart: only names that look like Nix's. */
void nix_add_option(struct nix_args *a, char *option);
/* A part of a reference's query. */
void nix_add_escaped(struct buf *b, const char *text);
/* Runs it: its output into out, its log to the host. The exit status as a shell reports it, or -errno. */
int nix_run(struct build_job *j, const struct nix_args *a, struct buf *out, bool log);
/* The same; where there was no room it is made, once, and Nix tries again. */
int nix_run_with_room(struct build_job *j, const struct nix_args *a, struct buf *out);
/* Is that in the newest lines of its log? */
bool nix_said(const struct build_job *j, const char *text);
/* Nix that failed for want of memory, processes, or room on the store's disk (or on the host's disk below it), says so
 * first: does not return then. */
void nix_check_means(struct build_job *j, enum mvm_phase phase, int code);
