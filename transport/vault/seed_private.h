/* SPDX-License-Identifier: Apache-2.0
 *
 * How the store knows a seed from replicated data: by the tag of its last mark.
 */
#ifndef TRANSPORT_VAULT_SEED_PRIVATE_H
#define TRANSPORT_VAULT_SEED_PRIVATE_H

#include <stdbool.h>

#include "transport/log/mark.h"

#define SEED_TAG "seed "

/* Is that the newest mark, the machine holds a seed and nothing else. NULL: no. */
bool seed_is_mark(const struct mark *m);

#endif
