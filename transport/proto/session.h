/* SPDX-License-Identifier: Apache-2.0
 *
 * The control session of an agent, a node or a vault with the hub, client side. It connects outward, says
 * Hello, hands each directive to a callback, and reconnects with back-off and jitter for ever. The last
 * desired state is kept in DATA/desired.pb (replaced before it is delivered) and delivered at start, before
 * the hub is there (P9). The certificate is renewed when two thirds of its life are over. All on the thread
 * of the event loop; nothing blocks but one small file write per change of the desired state, and one when events wait for a hub.
 */
#ifndef TRANSPORT_PROTO_SESSION_H
#define TRANSPORT_PROTO_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/enrol.h"

struct session;

struct session_ops {
    /* Desired state (only the kind that fits the role) and commands; Welcome is not passed on. A command that was
     * not answered yet comes again in the next session; of one that was, the session gives the answer again. The message
     * is the session's and is gone when the callback returns. The cached desired state comes from the first turn
     * of the loop, so session_new() has returned by then. A desired state may come again with a version
     * already seen: converging must be idempotent. */
    void (*on_directive)(void *arg, const Leeward__Control__V1__Directive *directive);
    /* The hub answered Hello: send the inventory and a full status now. NULL allowed. */
    void (*on_up)(void *arg);
    /* The session was lost or could not be made; `why` is logged already. It goes on trying. NULL allowed. */
    void (*on_down)(void *arg, const struct err *why);
    /* The certificate files were renewed: tls_reload() every context that was made of them. NULL allowed. */
    void (*on_renewed)(void *arg);
};

struct session_conf {
    const struct enrol_identity *identity; /* must outlive the session */
    const char *data_dir;                  /* DATA */
    const char *hub;                       /* "HOST:9442" */
    const char *software;                  /* "leeward-agent 0.1.0" */
    const char *endpoint; /* "host:port" under which it can be reached; an agent: by its group. NULL: none */
};

/* Copies what it needs of conf. Connects from the first turn of the loop on. */
int session_new(sd_event *loop, const struct session_conf *conf, const struct session_ops *ops, void *arg,
    struct session **ret_session, struct err *err);
void session_free(struct session *session); /* NULL allowed; not from inside its callbacks */

bool session_is_up(const struct session *session);
/* How often the hub wants a status (5 s until it said so). */
uint64_t session_status_interval_usec(const struct session *session);
/* Difference hub clock - our clock at the last Welcome, microseconds; 0 before. */
int64_t session_clock_skew_usec(const struct session *session);

/* Sends a report. 1: queued; 0: not connected or the connection is backed up (dropped: the caller's next
 * status repeats it); -1 with err: out of memory or too large. The message stays the caller's. */
int session_report(struct session *session, const Leeward__Control__V1__Report *report, struct err *err);
/* Answers a command. error NULL or ERR_NONE: success, result_json (an object, or NULL) goes with it. The end
 * of a command is kept (the last 64 in 4 MiB, for as long as this process lives): it is sent when the hub can be
 * reached, and again when the hub gives the command again, for it may have been lost on its way. */
void session_command_done(
    struct session *session, const char *command_id, const struct err *error, const char *result_json);
void session_command_progress(struct session *session, const char *command_id, unsigned permille, const char *text);
/* Reports an event; kept (256, those that matter most) until the hub has said that it is stored, and that also in DATA/events.pb unless it is for information.
 * severity: "info", "warning", "error"; machine_id NULL or "": about the sender. */
void session_event(struct session *session, const char *severity, const char *code, const char *machine_id,
    const char *remedy, const char *text);

#endif
