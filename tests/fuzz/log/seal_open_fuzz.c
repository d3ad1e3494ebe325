/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads as a peer or a disk gives them: opened and sealed again. The checksum of the header is made to fit, so that
 * what lies behind it is reached.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/log/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct seal_key key = {{1, 2, 3}};
    static struct seal_work *work;
    static uint8_t copy[1 << 17], plain[RECORD_BLOCK_SIZE];
    AUTO_BUF struct buf out = BUF_INIT(1 << 20);
    struct record r, sealed;
    const uint8_t *payload;
    size_t offset = 0;
    if (work == NULL)
        work = seal_work_new();
    if (size < RECORD_HEADER_SIZE || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    put_le32(copy + 60, hash_32(copy, 60));
    if (record_next(copy, size, &offset, &r, &payload, NULL) != 1)
        return 0;
    (void)seal_open(work, &r, payload, &key, plain, NULL);
    (void)seal_reseal(work, &r, payload, 1, &key, 1, 1, &out, &sealed, NULL);
    return 0;
}
