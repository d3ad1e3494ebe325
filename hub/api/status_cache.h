/* SPDX-License-Identifier: Apache-2.0
 *
 * The numbers of the status, for all who ask: counting machines walks over all of them, so however many ask, it takes about a twentieth of
 * the time, and one counts while the others are told what was counted last. What is told is older than it would be by at most twenty times as
 * long as counting takes (some milliseconds with few machines, a tenth of a second with ten thousand), and never older than the greatest age.
 */
#ifndef HUB_API_STATUS_CACHE_H
#define HUB_API_STATUS_CACHE_H

#include "hub/db/status_store.h"
#include "transport/base/clock.h"

#define STATUS_CACHE_AGE_USEC USEC_PER_SEC /* a database that stands still must not make old numbers last */

struct status_cache;

struct status_cache *status_cache_new(uint64_t max_age_usec); /* NULL: no memory */
void status_cache_free(struct status_cache *cache);
/* Any thread. Who finds the numbers near the end of their age counts, on its own connection; who comes meanwhile is told what there is. Only
 * where that is too old, or nothing was counted yet, does it wait for the count under way, and shares its failure. */
int status_cache_read(
    struct status_cache *cache, struct db_conn *conn, struct status_counts *ret_counts, struct err *err);

#endif
