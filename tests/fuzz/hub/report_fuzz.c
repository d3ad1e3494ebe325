/* SPDX-License-Identifier: Apache-2.0
 *
 * What a peer may say about itself: any bytes as a report; an inventory becomes JSON, any text becomes clean UTF-8.
 */
#include "hub/control/control_plane.h"
#include "transport/proto/wire.h"

static void text_is_clean(const uint8_t *data, size_t n)
{
    AUTO_FREE char *in = mem_strndup((const char *)data, n);
    char out[64];

    peer_report_text(out, sizeof(out), in);
    json_t *json = json_string(out); /* NULL unless it is UTF-8 */

    if (!json)
        abort();
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ProtobufCMessage *m = NULL;

    text_is_clean(data, n);
    if (wire_unpack(&leeward__control__v1__report__descriptor, data, n, &m, NULL) < 0)
        return 0;
    const Leeward__Control__V1__Report *report = (const Leeward__Control__V1__Report *)m;

    if (report->kind_case == LEEWARD__CONTROL__V1__REPORT__KIND_INVENTORY) {
        json_t *json = inventory_json(report->inventory, NULL);

        if (!json)
            abort();
        json_decref(json);
    }
    wire_free(m);
    return 0;
}
