/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of clients and how long each may take: a request must be there whole, and its answer be taken, within a
 * bound, whatever single bytes trickle in between (Slowloris). A thread of its own shuts down what is late.
 */
#ifndef HUB_API_CLIENT_WATCH_H
#define HUB_API_CLIENT_WATCH_H

#include <stdint.h>

#include "transport/base/err.h"

#define CLIENT_REQUEST_SEC 30u /* from connecting, or from the first byte of the next request's idle time */
#define CLIENT_ANSWER_SEC 120u /* for the client to take an answer of a few MiB over a slow line */
#define CLIENT_IDLE_SEC 75u    /* between two requests */

struct client_watch;
struct client;

int client_watch_start(struct client_watch **ret_watch, struct err *err);
void client_watch_stop(struct client_watch *watch); /* with all clients left; NULL is allowed */
/* A connection was accepted on fd; NULL: no memory. */
struct client *client_enter(struct client_watch *watch, int fd);
/* Before fd is closed. */
void client_leave(struct client_watch *watch, struct client *client);
/* The client has `seconds` for what comes next; 0: as long as it wants. */
void client_allow(struct client_watch *watch, struct client *client, unsigned seconds);

#endif
