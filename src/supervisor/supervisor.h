/* One process for each VM that runs: supervisor.c. What it shares with the commands is the VM's folder (src/vmdir). */
#pragma once

/* Its main function: mvmctl re-executed as `mvmctl --supervise ARG...`; argv holds what follows `--supervise`, as
 * machine/start.c passes it. Returns the process's exit status. */
int supervisor_main(int argc, char **argv);
