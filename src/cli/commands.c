/* The list of commands. What looks something up in it (command.c) lies below the commands, this file above them. */
#include "base/macros.h"
#include "cli/command.h"

/* In the order in which help and man page show them. */
/* clang-format off */
#define COMMANDS(x) \
    x(cmd_bench_boot) \
    x(cmd_bench_exec) \
    x(cmd_bench_build) \
    x(cmd_bench_density) \
    x(cmd_build) \
    x(cmd_build_log) \
    x(cmd_up) \
    x(cmd_run) \
    x(cmd_exec) \
    x(cmd_cp) \
    x(cmd_port) \
    x(cmd_forward) \
    x(cmd_open) \
    x(cmd_ls) \
    x(cmd_inspect) \
    x(cmd_stats) \
    x(cmd_logs) \
    x(cmd_down) \
    x(cmd_pause) \
    x(cmd_resume) \
    x(cmd_fork) \
    x(cmd_network_create) \
    x(cmd_network_ls) \
    x(cmd_network_rm) \
    x(cmd_snapshot_create) \
    x(cmd_snapshot_ls) \
    x(cmd_snapshot_rm) \
    x(cmd_dev_up) \
    x(cmd_dev_shell) \
    x(cmd_dev_down) \
    x(cmd_dev_status) \
    x(cmd_dev_cache_inspect) \
    x(cmd_dev_cache_prune) \
    x(cmd_dev_cache_repair) \
    x(cmd_dev_image_export) \
    x(cmd_dev_image_sign) \
    x(cmd_dev_image_verify) \
    x(cmd_image_verify) \
    x(cmd_persistent_start) \
    x(cmd_persistent_status) \
    x(cmd_persistent_submit) \
    x(cmd_persistent_stop) \
    x(cmd_doctor) \
    x(cmd_version) \
    x(cmd_completion) \
    x(cmd_help)
/* clang-format on */

#define DECLARE(c) extern const struct command c;
COMMANDS(DECLARE)

#define POINTER(c) &c,
static const struct command *const list[] = {COMMANDS(POINTER)};

void commands_install(void)
{
    command_set_list(list, ARRAY_SIZE(list));
}
