/* SPDX-License-Identifier: Apache-2.0
 *
 * Work for ten thousand machines in pieces, with rests in between: what people wait for comes between two pieces, and all that is left to do takes
 * a quarter of a processor at most. A fleet that is one piece never rests.
 */
#ifndef HUB_CONTROL_PIECEWORK_H
#define HUB_CONTROL_PIECEWORK_H

#include <stdint.h>

struct piecework {
    uint64_t begun_usec; /* of the piece, monotonic */
};

/* How long to rest after a piece that took so long: three times that, and not so long that what comes after would be late where the database is slow. */
uint64_t piecework_rest_usec(uint64_t took_usec);

/* Before the first piece. */
void piecework_begin(struct piecework *work);
/* Between two pieces; sleeps: for worker threads. Nothing may be locked and no transaction open. */
void piecework_rest(struct piecework *work);

#endif
