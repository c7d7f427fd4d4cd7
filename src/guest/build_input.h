/* What a build job gets from the host: the flake's tree, and its local inputs at the paths where the flake looks. */
#pragma once

#include "guest/build_job.h"

/* Receives it, and says in j->ref and j->lock what Nix is to build. */
void build_input_receive(struct build_job *j);
