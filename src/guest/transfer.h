/* Serves MSG_PUSH, MSG_PULL and, for tests, MSG_FLOOD. */
#pragma once

#include "wire/msg.h"

void push_serve(int sock, const struct msg_transfer *m) __attribute__((noreturn));
void pull_serve(int sock, const struct msg_transfer *m) __attribute__((noreturn));
void flood_serve(int sock, const struct msg_flood *m) __attribute__((noreturn));
