/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders and answers of a group, chosen by the first byte: what is understood is written again and understood the same.
 */
#include <stdlib.h>
#include <string.h>

#include "mobility/group/group_wire.h"

static void try_order(const struct buf *message)
{
    AUTO_BUF struct buf again = BUF_INIT(1u << 20);
    struct group_order first, second;

    if (group_wire_get_order(message, &first, NULL) < 0)
        return;
    if (group_wire_put_order(&first, &again, NULL) < 0 || group_wire_get_order(&again, &second, NULL) < 0 ||
        second.kind != first.kind || strcmp(second.text, first.text) != 0 || second.membership != first.membership)
        abort();
}

static void try_answer(const struct buf *message)
{
    AUTO_BUF struct buf again = BUF_INIT(1u << 20);
    struct group_answer first, second;

    if (group_wire_get_answer(message, &first, NULL) < 0)
        return;
    if (group_wire_put_answer(&first, &again, NULL) < 0 || group_wire_get_answer(&again, &second, NULL) < 0 ||
        second.kind != first.kind || second.sequence != first.sequence || second.why.code != first.why.code)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf message = BUF_INIT(1u << 20);

    if (size == 0 || buf_append(&message, data + 1, size - 1, NULL) < 0)
        return 0;
    if (data[0] % 2)
        try_order(&message);
    else
        try_answer(&message);
    return 0;
}
