/* SPDX-License-Identifier: Apache-2.0
 *
 * Header values: timeouts, statuses and percent-encoded texts; a decoded text encodes and decodes to itself.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/rpc/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[300], again[300];
    uint64_t usec;
    const char *s = (const char *)data;
    (void)grpc_status_parse(s, size);
    (void)grpc_content_type_is_ours(s, size);
    (void)grpc_timeout_parse(s, size, &usec);
    grpc_text_decode(s, size, text, sizeof(text));
    AUTO_BUF struct buf b = BUF_INIT(4096);
    if (grpc_text_encode(text, &b, NULL) < 0)
        abort();
    grpc_text_decode((const char *)b.data, b.len, again, sizeof(again));
    if (strcmp(text, again) != 0)
        abort();
    return 0;
}
