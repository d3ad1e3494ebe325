/* SPDX-License-Identifier: Apache-2.0
 *
 * Telling people: threads that make deliveries of what changed, send them and try again. Everything is rows (hub/db/channel_store.h):
 * any number of hubs share the work, and one that is killed leaves a lease that runs out.
 */
#ifndef HUB_NOTIFY_NOTIFY_H
#define HUB_NOTIFY_NOTIFY_H

#include "hub/db/db.h"
#include "hub/db/news.h"

struct notify;
/* hub_id: of the installation; part of the ids of mails. Borrowed, outlives it. */
int notify_start(struct db *db, struct news *news, const char *hub_id, struct notify **ret_notify, struct err *err);
/* What is being sent is given up and sent again later. NULL is allowed. */
void notify_stop(struct notify *notify);

#endif
