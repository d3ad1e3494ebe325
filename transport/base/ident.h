/* SPDX-License-Identifier: Apache-2.0
 *
 * Identifiers. Machines, disks, nodes, vaults, jobs and exports are named by random (version 4) UUIDs. Their text
 * form is 36 characters, lower case.
 */
#ifndef TRANSPORT_BASE_IDENT_H
#define TRANSPORT_BASE_IDENT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define IDENT_SIZE 16
#define IDENT_TEXT_SIZE 37 /* with the NUL */

struct ident {
    uint8_t bytes[IDENT_SIZE];
};

int ident_random(struct ident *ret_id); /* -1 only if the kernel gives no randomness */
void ident_to_text(const struct ident *id, char out[IDENT_TEXT_SIZE]);
/* 0, or -1 when s is not 8-4-4-4-12 hex digits. */
int ident_from_text(const char *s, struct ident *ret_id);
bool ident_is_zero(const struct ident *id);

static inline bool ident_equal(const struct ident *a, const struct ident *b)
{
    return memcmp(a->bytes, b->bytes, IDENT_SIZE) == 0;
}

#endif
