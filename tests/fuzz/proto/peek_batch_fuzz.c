/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a batch is found without unpacking, unpacking finds the same one.
 */
#include <stdlib.h>

#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *batch = NULL;
    size_t n = 0;
    ProtobufCMessage *m = NULL;
    if (wire_peek_batch(data, size, &batch, &n) == 0)
        return 0;
    if (wire_unpack(&leeward__replication__v1__replicate_request__descriptor, data, size, &m, NULL) < 0 ||
        ((Leeward__Replication__V1__ReplicateRequest *)m)->batch.len != n || batch + n != data + size)
        abort();
    wire_free(m);
    return 0;
}
