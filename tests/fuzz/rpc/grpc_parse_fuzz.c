/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of bytes, cut as its first byte says: no message is over the limit, and no bytes are invented.
 */
#include <stdlib.h>

#include "transport/rpc/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grpc_parser p = {.message_max = 4096};
    size_t cut = size > 0 ? (size_t)data[0] + 1 : 1, total = 0;
    for (size_t at = 1; at < size;) {
        bool complete;
        ssize_t used = grpc_parse(&p, data + at, size - at < cut ? size - at : cut, &complete, NULL);
        if (used < 0)
            break;
        at += (size_t)used;
        total += complete ? p.message.len : 0;
        if (used == 0 || p.message.len > 4096 || total > size)
            abort();
        if (complete)
            buf_done(&p.message);
    }
    grpc_parser_done(&p);
    return 0;
}
