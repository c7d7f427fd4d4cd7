/* One process for each VM that has a network: process.c. */
#pragma once

/*
 * Its main function: mvmctl re-executed as `mvmctl --network FRAMES REPORT RESOLV [+MEMBER] LAYER...`. FRAMES, REPORT
 * and RESOLV are numbers of descriptors: the guest's card (link.h), lines for the VM's log, and where resolv.conf's
 * text can be asked for (resolvers.h; -1: nowhere). MEMBER is the VM's place in a named network (peers.h), where it has
 * one. A LAYER is "@KIND" (policy.h) and its rules; a word with "=" in it is a limit (limits.h). It ends when REPORT
 * does. A line that begins with "#" is no line for the log: names and numbers of what was counted so far, once a second
 * at most, and with nothing new none. Returns the process's exit status.
 */
int network_main(int argc, char **argv);
