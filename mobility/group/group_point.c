/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes in, bytes out; the layout is in the header.
 */
#include "mobility/group/group_point.h"

#include "transport/base/clock.h"

#define VERSION 0x80u
#define VARIANT 0x80u

int group_point_new(uint32_t group, uint64_t membership, uint64_t utc_usec, struct ident *ret_id, struct err *err)
{
    uint64_t msec = utc_usec / USEC_PER_MSEC;
    uint8_t *b = ret_id->bytes;

    if (ident_random(ret_id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    b[0] = (uint8_t)(group >> 24);
    b[1] = (uint8_t)(group >> 16);
    b[2] = (uint8_t)(group >> 8);
    b[3] = (uint8_t)group;
    b[4] = (uint8_t)(membership >> 8);
    b[5] = (uint8_t)membership;
    b[6] = (uint8_t)(VERSION | (msec >> 40 & 0x0f));
    b[7] = (uint8_t)(msec >> 32);
    b[8] = (uint8_t)(VARIANT | (msec >> 26 & 0x3f));
    b[9] = (uint8_t)(msec >> 18);
    b[10] = (uint8_t)(msec >> 10);
    b[11] = (uint8_t)(msec >> 2);
    return 0;
}

bool group_point_is_of(const struct ident *id, uint32_t group, uint64_t membership)
{
    const uint8_t *b = id->bytes;
    uint32_t its_group = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];

    return its_group == group && b[4] == (uint8_t)(membership >> 8) && b[5] == (uint8_t)membership &&
           (b[6] & 0xf0) == VERSION && (b[8] & 0xc0) == VARIANT;
}
