/* SPDX-License-Identifier: Apache-2.0
 *
 * What a machine's stream must keep to, checked record by record before anything is stored: change sets in sequence, each
 * closed by a mark of this machine, generation and epoch, with as many records, bytes and the digest that the mark states.
 * Pure: no disk, no socket. Used by one machine's lane only.
 */
#ifndef TRANSPORT_NODE_SETCHECK_H
#define TRANSPORT_NODE_SETCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/record.h"

struct setcheck {
    struct ident machine;
    uint64_t generation;
    uint64_t epoch;
    uint64_t next_sequence; /* of the mark that closes the present set */
    uint64_t record_count;
    uint64_t changed_bytes;
    bool saw_point; /* a mark was one since the start */
    struct record_digest *digest;
};

int setcheck_init(struct setcheck *c, struct err *err);
void setcheck_done(struct setcheck *c);
/* Starts anew at a change-set boundary. */
void setcheck_start(
    struct setcheck *c, const struct ident *machine, uint64_t generation, uint64_t epoch, uint64_t next_sequence);
/* Takes one record. 1: it was the mark that closed set next_sequence - 1; 0: part of the present set; -1: ERR_REFUSED
 * (out of sequence, another epoch or generation), ERR_CORRUPT (count, bytes, digest), ERR_DENIED (another machine). */
int setcheck_record(struct setcheck *c, const struct record *r, const uint8_t *payload, struct err *err);
bool setcheck_is_open(const struct setcheck *c); /* records came since the last mark */

#endif
