/* Requests of any length: one that fits no frame goes in parts (MSG_LONG). */
#pragma once

#include "machine/client.h"

/* Opens a stream with the request. -E2BIG beyond MSG_LONG_MAX, -EINTR where a signal came (client_send). Where the
 * guest has ended the stream already, the reason is among the events, as ever. */
int request_open(struct client *c, const struct buf *request, uint32_t *ret_stream,
                 struct mvm_error *err) MVM_MUST_CHECK;
