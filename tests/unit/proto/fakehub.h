/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub's side of enrolment and sessions for tests: on a loop of the test's own, or in a child process where the code under
 * test blocks.
 */
#ifndef TESTS_UNIT_PROTO_FAKEHUB_H
#define TESTS_UNIT_PROTO_FAKEHUB_H

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "tests/unit/rpc/testca.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/enrol.h"
#include "transport/rpc/rpc.h"

struct fakehub {
    struct testca *ca;
    struct testca_files files;
    struct tls_context *tls;
    struct rpc_server *server;
    char address[64];
    /* enrolment */
    char used_token[160];    /* the one token that was used, */
    struct buf used_csr_key; /* and by which key */
    char id_text[IDENT_TEXT_SIZE];
    const char *refuse; /* not NULL: every token is refused with this text */
    bool wrong_ca;      /* the answer carries another CA */
    long life_sec;      /* of certificates; 0: an hour */
    unsigned renewals;
    /* session */
    struct rpc_call *session; /* the one that is open */
    unsigned hellos, reports, statuses, results, events, errors, group_news; /* errors: of the events */
    uint64_t group_missed, group_age_usec; /* in the last news */
    uint64_t hello_version;
    uint64_t clock_utc_usec; /* that the last report was sent at; 0: it does not say */
    char last_event[64], last_result_id[64], last_result_code[64];
    bool mute; /* no Welcome */
    bool forgetful;       /* does not say which events it has, though it promised */
    bool is_old;          /* does not even promise */
    uint8_t last_event_id[16];
};

void fakehub_init(struct fakehub *hub, const char *dir);
void fakehub_start(struct fakehub *hub, sd_event *loop, const char *address);
void fakehub_stop(struct fakehub *hub);
void fakehub_done(struct fakehub *hub);
/* Who is enrolled with this hub in that role; *ret_identity points into *files. */
void fakehub_identify(
    struct fakehub *hub, const char *role, struct testca_files *files, struct enrol_identity *ret_identity);
/* A token with this hub's fingerprint; `letter` fills the secret. */
void fakehub_token(const struct fakehub *hub, char letter, char out[160]);
void fakehub_send(struct fakehub *hub, const Leeward__Control__V1__Directive *directive);
void fakehub_desire_node(struct fakehub *hub, uint64_t version);
void fakehub_desire_agent(struct fakehub *hub, Leeward__Control__V1__AgentDesired *desired);
void fakehub_command(struct fakehub *hub, const char *command_id);
/* Runs in a child until killed; hub->address is set on return. */
pid_t fakehub_fork(struct fakehub *hub);

#endif
