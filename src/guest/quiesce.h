/*
 * The host would like the guest to stand still (MSG_QUIESCE), because nobody uses it: when nothing runs in it, old
 * files are swept (once) and all is written, in a process of its own. A guest without the memory for that goes on.
 */
#pragma once

#include <stdbool.h>

void quiesce_want(void);
/* Somebody uses it again. */
void quiesce_forget(void);
/* To be called after each event. busy: streams are served. True, once, when the guest stands still: MSG_QUIESCED. */
bool quiesce_reached(bool busy);
