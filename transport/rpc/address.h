/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses as people write them ("10.0.0.7:9443", "[::1]:9443", "hub.example:9442", "unix:/run/x.sock") and their sockets.
 * Looking up a name blocks, so it happens on a thread of its own; numbers need none.
 */
#ifndef TRANSPORT_RPC_ADDRESS_H
#define TRANSPORT_RPC_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

#define ADDRESS_TEXT_SIZE 128
#define ADDRESS_RESULTS_MAX 8u

struct address {
    bool is_unix;
    char host[256]; /* without brackets; the path of a unix socket */
    char port[6];
};

struct address_socket {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } sa;
};

int address_parse(const char *text, struct address *ret_address, struct err *err);
/* "127.0.0.1:51234", "[::1]:5", "unix". */
void address_format(const struct address_socket *s, char out[ADDRESS_TEXT_SIZE]);
/* Without a look-up: 1 and one result for a unix socket or a numeric host, 0 for a name, -1 for what cannot be one. */
int address_numeric(const struct address *address, struct address_socket *ret_socket, struct err *err);

/* Looks a name up on a thread; `done` runs on the loop with up to ADDRESS_RESULTS_MAX results (they are gone when it returns) or
 * with count 0 and why. The lookup is freed by then; address_lookup_cancel before that makes sure it never runs. */
struct address_lookup;
int address_lookup_start(sd_event *loop, const struct address *address,
    void (*done)(void *arg, const struct address_socket *results, unsigned count, const struct err *why), void *arg,
    struct address_lookup **ret_lookup, struct err *err);
void address_lookup_cancel(struct address_lookup *lookup); /* NULL allowed */

#endif
