/*
 * A stand-in for QEMU, as far as a supervisor notices: it takes QEMU's arguments, answers on the control socket, and
 * instead of a guest runs an agent that does what the kernel command line says (fake=NAME), most of it wrong. What it
 * does wrong itself, while it saves, restores or resumes, is in the environment (FAKE_VMM=NAME, vmm.c).
 */
#pragma once

#include <stdbool.h>

/* hostile-agent.c: speaks on the channel until the process ends. restored: it has said hello before. Returns where the
 * channel is to be closed. */
void agent_run(int channel, const char *behaviour, bool restored);
