/* SPDX-License-Identifier: Apache-2.0
 *
 * A mark payload with its hash made to fit: what decodes, encodes to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/log/mark.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record r = {.kind = RECORD_MARK, .stored = (uint32_t)size};
    struct mark m;
    hash_128(data, size, &r.hash);
    if (mark_decode(&r, data, &m, NULL) < 0)
        return 0;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    if (mark_append(&m, &b, NULL) < 0 || b.len != RECORD_HEADER_SIZE + size ||
        memcmp(b.data + RECORD_HEADER_SIZE, data, size) != 0)
        abort();
    return 0;
}
