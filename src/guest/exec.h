/* Serves MSG_EXEC. */
#pragma once

#include "guest/conf.h"
#include "wire/msg.h"

void exec_serve(int sock, const struct msg_exec *m, const struct guest_conf *conf) __attribute__((noreturn));
