/* The store's disk stands still while the host copies it. */
#pragma once

/* Serves MSG_FREEZE: MSG_EXIT when the file system stands still, and that it does until the stream ends. */
void freeze_serve(int sock) __attribute__((noreturn));
