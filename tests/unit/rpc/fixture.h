/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of rpc share: a loop, a temporary folder with a CA and certificates, a server with a few methods, and a
 * client call that records what happens to it. Waiting is always for a condition, with a bound that only a failure reaches.
 */
#ifndef TESTS_UNIT_RPC_FIXTURE_H
#define TESTS_UNIT_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/rpc/rununtil.h"
#include "tests/unit/rpc/testca.h"
#include "transport/rpc/rpc.h"

#define PATH_ECHO "/test.T/Echo"   /* sends each message back; finishes OK when the client is done */
#define PATH_HANG "/test.T/Hang"   /* takes messages, never answers, never finishes */
#define PATH_STALL "/test.T/Stall" /* as Hang, but does not consume before fixture_release */
#define PATH_FAIL "/test.T/Fail"   /* accept refuses with an error that has a correction */
#define PATH_FLOOD "/test.T/Flood" /* on the first message sends flood_count messages of flood_bytes, then OK */
#define PATH_OPEN "/test.T/Open"   /* as Echo; open to anonymous clients */
#define PATH_EARLY "/test.T/Early" /* finishes NOT_FOUND at the first message, whatever else comes */

struct fixture {
    sd_event *loop;
    char dir[64];
    struct testca *ca;
    struct testca_files server_files, client_files;
    struct tls_context *server_tls, *client_tls;
    struct rpc_server *server;
    struct rpc_channel *channel;
    char address[128];
    struct rpc_limits server_limits, client_limits;
    bool anonymous;
    size_t flood_count, flood_bytes;
    /* what the server saw */
    unsigned accepted, ended;
    enum rpc_status last_end;
    size_t stalled_bytes, stalled_messages;
    struct rpc_call *stalled;
    struct tls_peer last_peer;
    uint64_t last_deadline;
};

/* A call of the client and its fate. */
struct probe {
    struct rpc_call *call; /* NULL after on_end */
    unsigned messages, writables, ends;
    size_t bytes;
    struct buf last;
    bool hold; /* do not consume */
    enum rpc_status status;
    char text[512];
};

int fixture_setup(void **state); /* folder, CA, certificates, loop; no server yet */
int fixture_teardown(void **state);
void fixture_serve(struct fixture *f, bool tls); /* server and channel with the limits set before */
void fixture_channel(struct fixture *f, const struct testca_files *files, const char *role, const struct ident *id);
void fixture_release(struct fixture *f); /* consumes what Stall holds */

/* Lets the loop settle: runs until a turn has nothing to do. */
void settle(struct fixture *f);

extern const struct rpc_call_ops probe_ops;
void probe_start(struct fixture *f, struct probe *p, const char *path, uint64_t timeout_usec, bool fail_fast);
void probe_send(struct probe *p, const char *text);
void probe_send_bytes(struct probe *p, size_t n, uint8_t fill);
void probe_done(struct probe *p);
/* One message there and back, and the final status; returns the status. */
enum rpc_status probe_echo(struct fixture *f, const char *path, struct probe *p);

#endif
