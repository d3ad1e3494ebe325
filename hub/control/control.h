/* SPDX-License-Identifier: Apache-2.0
 *
 * The control plane of the hub: the gRPC server on the control port, with which agents, nodes and vaults enrol, hold one
 * session each and renew their certificates. Runs on the loop's thread; every statement of SQL on worker threads.
 */
#ifndef HUB_CONTROL_CONTROL_H
#define HUB_CONTROL_CONTROL_H

#include <stdint.h>
#include <systemd/sd-event.h>

#include "hub/control/ca.h"
#include "hub/control/live_status.h"
#include "hub/db/db.h"
#include "hub/db/news.h"

struct control;

/* Everything is borrowed and outlives the control plane. */
struct control_conf {
    sd_event *loop;
    struct db *db;
    const struct ca *ca;
    struct live_status *live;
    const char *data_dir; /* hub.pem, hub.key */
    const char *listen;   /* "0.0.0.0:9442" */
    const struct ident *hub_id;
    const char *instance;           /* UUID text of this process, new at each start */
    uint32_t enrolments_per_second; /* from one address, after a burst of sixty times as many */
    uint32_t sessions_per_second;   /* new connections, after a burst of as many; 0: no limit */
    uint32_t status_interval_msec;  /* what peers are told; 0: 1000 while there are few, then 5000 */
};

int control_start(const struct control_conf *conf, struct control **ret_control, struct err *err);
/* Something changed in the database; any thread. */
void control_news(struct control *control, enum news_topic topic);
unsigned control_port(const struct control *control);
/* Ends all sessions (they come back), waits for statements that run, frees. NULL is allowed. */
void control_stop(struct control *control);

#endif
