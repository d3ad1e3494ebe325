/* SPDX-License-Identifier: Apache-2.0
 *
 * Every message that a peer sends us, or that we find on disk, chosen by the first byte: what unpacks packs again, and nothing takes more than its budget.
 */
#include <stdlib.h>

#include "transport/proto/control.pb-c.h"
#include "transport/proto/kept.pb-c.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *const types[] = {&leeward__control__v1__report__descriptor,
        &leeward__control__v1__directive__descriptor, &leeward__control__v1__enrol_request__descriptor,
        &leeward__control__v1__enrol_reply__descriptor, &leeward__control__v1__renew_request__descriptor,
        &leeward__replication__v1__replicate_request__descriptor,
        &leeward__replication__v1__replicate_reply__descriptor, &leeward__vault__v1__list_points_request__descriptor,
        &leeward__vault__v1__read_range_request__descriptor, &leeward__vault__v1__hashes_request__descriptor,
        &leeward__vault__v1__changes_request__descriptor, &leeward__vault__v1__blocks_request__descriptor,
        &leeward__vault__v1__damage_request__descriptor, &leeward__vault__v1__damaged_record__descriptor,
        &leeward__vault__v1__mend_request__descriptor, &leeward__vault__v1__mend_reply__descriptor,
        &leeward__kept__v1__kept_events__descriptor};
    ProtobufCMessage *m = NULL;
    if (size == 0 || wire_unpack(types[data[0] % (sizeof(types) / sizeof(types[0]))], data + 1, size - 1, &m, NULL) < 0)
        return 0;
    AUTO_BUF struct buf b = BUF_INIT(64u << 20);
    if (wire_pack(m, &b, NULL) < 0)
        abort();
    wire_free(m);
    return 0;
}
