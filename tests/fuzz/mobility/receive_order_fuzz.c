/* SPDX-License-Identifier: Apache-2.0
 *
 * The command to write disks back, as bytes of a message; the first byte says how long the command's id is. What is taken is within its bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "mobility/sync/receive_order.h"
#include "transport/proto/wire.h"

static void check(const struct receive_order *o)
{
    struct ident id;
    bool good = memchr(o->command_id, '\0', sizeof(o->command_id)) != NULL && o->command_id[0] != '\0' &&
                ident_from_text(o->receive_id, &id) == 0 && o->disk_count <= MARK_DISKS_MAX &&
                (o->release ? o->disk_count == 0 : o->disk_count > 0) && (!o->last || o->release || o->sequence > 0);

    for (unsigned i = 0; good && i < o->disk_count; i++) {
        good = o->disks[i].key[0] != '\0' && memchr(o->disks[i].key, '\0', sizeof(o->disks[i].key)) != NULL &&
               o->disks[i].number <= RECORD_DISK_MAX;
        for (unsigned k = 0; good && k < i; k++)
            good = o->disks[i].number != o->disks[k].number && strcmp(o->disks[i].key, o->disks[k].key) != 0;
    }
    if (!good || !receive_order_same_disks(o, o))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *m = NULL;
    struct receive_order o;
    char command[64];

    if (size == 0)
        return 0;
    memset(command, 'c', sizeof(command));
    command[data[0] % sizeof(command)] = '\0';
    if (wire_unpack(&leeward__control__v1__receive_disks__descriptor, data + 1, size - 1, &m, NULL) < 0)
        return 0;
    if (receive_order_read(command, (const Leeward__Control__V1__ReceiveDisks *)m, &o, NULL) == 0)
        check(&o);
    wire_free(m);
    return 0;
}
