/* What a build job sends to the host: the artifacts of its output, and a flake.lock that Nix changed. */
#pragma once

#include "guest/build_job.h"

void build_output_send(struct build_job *j);
