/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch as a peer sends it: the walk ends, and no payload reaches beyond the input.
 */
#include <stdlib.h>

#include "transport/log/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    while (record_next(data, size, &offset, &r, &payload, NULL) == 1) {
        if (payload + r.stored > data + size || offset > size)
            abort();
    }
    return 0;
}
