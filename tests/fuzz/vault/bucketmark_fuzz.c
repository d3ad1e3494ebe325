/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks of a bucket with any content, and the chain of two of them; their hash is made right first.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/vault/bucketstate.h"

static int apply(struct bucketstate *st, const uint8_t *data, size_t n)
{
    struct bucketmark m AUTO_BUCKETMARK;
    struct hash128 hash;
    uint8_t *copy = malloc(n + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    if (n >= HASH_SIZE) {
        hash_128(copy, n - HASH_SIZE, &hash);
        memcpy(copy + n - HASH_SIZE, hash.bytes, HASH_SIZE);
    }
    bucketmark_init(&m);
    int rc = bucketmark_decode(copy, n, &m, NULL);
    free(copy);
    return rc < 0 ? -1 : bucketstate_apply(st, &m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bucketstate st AUTO_BUCKETSTATE;
    struct ident machine = {{0}};
    size_t half = size / 2;
    if (size >= 24)
        memcpy(machine.bytes, data + 8, IDENT_SIZE);
    bucketstate_init(&st, &machine);
    if (apply(&st, data, size) == 0)
        (void)bucketstate_check(&st, NULL);
    bucketstate_done(&st);
    bucketstate_init(&st, &machine);
    if (apply(&st, data, half) == 0 && apply(&st, data + half, size - half) == 0)
        (void)bucketstate_check(&st, NULL);
    return 0;
}
