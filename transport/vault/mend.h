/* SPDX-License-Identifier: Apache-2.0
 *
 * Mended records: a record of a sealed segment that cannot be read any more is stored once more beside the log, as the file
 * mend/<segment>-<offset>.rec, with the same place on the disk and the same plaintext, sealed anew. Whoever finds the record in the log
 * damaged looks there. Sealed segments stay as they are (P6).
 */
#ifndef TRANSPORT_VAULT_MEND_H
#define TRANSPORT_VAULT_MEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/keyring.h"

struct mend_nonce {
    uint32_t stream;  /* handed out for mending alone */
    uint64_t counter; /* of the last record that was sealed */
};

/* Stores `length` bytes of plaintext as the record of disk/start that lay at segment/offset. Durable when it returns. */
int mend_store(const char *machine_dir, uint64_t segment, uint64_t offset, uint32_t disk, uint64_t start,
    const uint8_t *plain, uint32_t length, const struct keyring *keys, struct mend_nonce *nonce, struct err *err);
/* Reads it: main_fd is the folder of the segments. payload holds RECORD_STORED_MAX bytes; NULL: the header
 * alone. ERR_NOT_FOUND: it was never mended. */
int mend_load(
    int main_fd, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err);
/* Is there one, and does it open? */
bool mend_is_good(const char *machine_dir, uint64_t segment, uint64_t offset, const struct keyring *keys);
/* Removes those of segments that are not there any more. */
int mend_sweep(const char *machine_dir, struct err *err);

#endif
