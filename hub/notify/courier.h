/* SPDX-License-Identifier: Apache-2.0
 *
 * Carries a message to its receiver with libcurl: HTTPS POST with a signature, or SMTP (TLS, STARTTLS or, on trusted networks, neither).
 * Blocks, for COURIER_TIMEOUT_SEC at most.
 *
 * A webhook's request has the headers X-Leeward-Delivery (the id, the same in each try), X-Leeward-Event (alerts, test, report),
 * X-Leeward-Timestamp (seconds since 1970) and, where the channel has a secret, X-Leeward-Signature: sha256=HEX, which is HMAC-SHA-256
 * under the secret over timestamp, a full stop and the body. 2xx is taken; redirects are not followed.
 */
#ifndef HUB_NOTIFY_COURIER_H
#define HUB_NOTIFY_COURIER_H

#include <stdatomic.h>

#include "hub/db/channel_store.h"
#include "hub/notify/alert_message.h"

#define COURIER_TIMEOUT_SEC 20

/* Once, before other threads run. */
int courier_init(struct err *err);
/* 0: taken. -1: not, or not known. *stop makes it give up soon. */
int courier_send(
    const struct delivery_claim *to, const struct alert_message *message, const atomic_bool *stop, struct err *err);

#endif
