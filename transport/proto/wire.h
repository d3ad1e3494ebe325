/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing and unpacking of the messages in this folder with protobuf-c: a bounded allocator for what comes from outside,
 * packing into struct buf, and the bulk path: a ReplicateRequest that carries a batch is recognised and built without
 * copying the batch.
 */
#ifndef TRANSPORT_PROTO_WIRE_H
#define TRANSPORT_PROTO_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

/* Packs m behind what is in out. */
int wire_pack(const ProtobufCMessage *m, struct buf *out, struct err *err);
/* Unpacks with memory bounded by 16 * n + 64 KiB; ERR_INVALID for what is not a message of that type. Free with wire_free. */
int wire_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t n, ProtobufCMessage **ret_m,
    struct err *err);
void wire_free(ProtobufCMessage *m); /* NULL is allowed */

/* If the bytes are a ReplicateRequest with nothing but a batch: 1 and *ret_batch points into data. 0: something else. */
int wire_peek_batch(const uint8_t *data, size_t n, const uint8_t **ret_batch, size_t *ret_batch_len);
/* The bytes that go before a batch of n bytes: out holds WIRE_BATCH_HEAD_MAX; returns how many were written. */
#define WIRE_BATCH_HEAD_MAX 12
size_t wire_batch_head(size_t n, uint8_t out[WIRE_BATCH_HEAD_MAX]);

#endif
