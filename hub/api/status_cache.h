/* SPDX-License-Identifier: Apache-2.0
 *
 * The numbers of the status, for all who ask: counting machines walks over all of them, so however many ask, it takes no more than a
 * twentieth of the time. What is told is older than it would be by at most twenty times as long as counting takes: some milliseconds
 * with few machines, a tenth of a second with ten thousand.
 */
#ifndef HUB_API_STATUS_CACHE_H
#define HUB_API_STATUS_CACHE_H

#include "hub/db/status_store.h"

struct status_cache;

struct status_cache *status_cache_new(void); /* NULL: no memory */
void status_cache_free(struct status_cache *cache);
/* Any thread. Who comes while somebody counts waits for that count. */
int status_cache_read(
    struct status_cache *cache, struct db_conn *conn, struct status_counts *ret_counts, struct err *err);

#endif
