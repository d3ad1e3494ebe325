/* SPDX-License-Identifier: Apache-2.0
 *
 * A certificate request from a stranger: refused or hashed, never more.
 */
#include "hub/control/ca.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t hash[32];

    (void)ca_request_key_sha256(data, n, hash, NULL);
    return 0;
}
