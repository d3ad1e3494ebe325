/* SPDX-License-Identifier: Apache-2.0
 *
 * The gate before what one person alone shall not do. Which kinds it holds back is the setting `four_eyes`; with none it lets all pass.
 * A handler asks after its checks and before it changes anything:
 *
 *     if ((rc = four_eyes_hold(r, "erase", machine_id, err, "erase all recovery points of %s", name)) != 0)
 *         return rc < 0 ? -1 : 0;
 *
 * Held back, the request lies in the database with everything needed to carry it out, and the answer is a 403 `approval_required` that names
 * the approval: a client that knows nothing of approvals takes it for what it is, something that was not done. Approving runs the same
 * handler once more in the transaction of the approval, with all its checks, on behalf of who asked.
 */
#ifndef HUB_API_FOUR_EYES_H
#define HUB_API_FOUR_EYES_H

#include "hub/api/http_request.h"

/* 0: go on; 1: held back, the reply is set; -1. machine_id "" for none. */
int four_eyes_hold(struct request *r, const char *kind, const char *machine_id, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Whether the setting in `before` (JSON array, NULL: none) holds back something that `after` does not. */
bool four_eyes_weakened(const json_t *before, const json_t *after);

#endif
