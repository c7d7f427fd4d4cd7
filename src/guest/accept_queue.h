/*
 * Room in the accept queue of a service. Where that is full the kernel drops a connection's first packet and sends it
 * again after 1, 3, 7 ... seconds, while those that come later take the room: a few of many at once would never get in.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* So many connections may wait in a service's queue; how many it takes itself (listen(2)) the kernel does not say. */
#define ACCEPT_QUEUE 4

/* True where a connection to that address is to be made now: it has room, which is taken, or nothing listens there.
 * under_way: how many were made that the kernel has not answered. One look serves all that ask for the same address,
 * until the next accept_queue_changed(). */
bool accept_queue_room(const struct sockaddr *to, unsigned under_way);
/* Time has passed, in which the service may have accepted. */
void accept_queue_changed(void);

/* A timer that reports an event with that pointer every few milliseconds: -errno where there is none. */
int accept_queue_timer(int epoll, void *ptr);
