/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing and unpacking with protobuf-c. protobuf-c allocates per field, so a few bytes from outside can ask
 * for much more memory than they are: unpacking runs on an allocator with a budget that follows from the size
 * of the input, and one byte over it fails the whole message. Fields are found by hand only for the batch,
 * whose copy would cost more than everything else on the path (protobuf encoding: tag = field << 3 | 2 for
 * length-delimited, then a base-128 length).
 */
#include "transport/proto/wire.h"

#include <string.h>

#include "transport/base/mem.h"

#define BATCH_TAG 0x12u /* field 2, length-delimited: ReplicateRequest.batch */

struct budget {
    size_t left;
    bool refused; /* over the budget, as opposed to a malformed message */
};

static void *budget_alloc(void *arg, size_t size)
{
    struct budget *b = arg;
    if (size > b->left) {
        b->refused = true;
        return NULL;
    }
    b->left -= size;
    return mem_resize(NULL, 1, size == 0 ? 1 : size);
}

static void budget_free(void *arg, void *p)
{
    (void)arg;
    free(p);
}

int wire_pack(const ProtobufCMessage *m, struct buf *out, struct err *err)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    if (buf_reserve(out, size, err) < 0)
        return err_wrap(err, "packing %s", m->descriptor->short_name);
    out->len += protobuf_c_message_pack(m, out->data + out->len);
    return 0;
}

int wire_unpack(
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t n, ProtobufCMessage **ret_m, struct err *err)
{
    struct budget budget = {.left = 16 * n + 65536};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    /* protobuf-c reads one byte ahead of nothing when data is NULL. */
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, n, n == 0 ? (const uint8_t *)"" : data);
    if (m == NULL) {
        if (budget.refused)
            return err_set(err, ERR_TOO_LARGE, "%s of %zu bytes would need too much memory", type->short_name, n);
        return err_set(err, ERR_INVALID, "not a valid %s (%zu bytes)", type->short_name, n);
    }
    *ret_m = m;
    return 0;
}

void wire_free(ProtobufCMessage *m)
{
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
}

int wire_peek_batch(const uint8_t *data, size_t n, const uint8_t **ret_batch, size_t *ret_batch_len)
{
    if (n < 2 || data[0] != BATCH_TAG)
        return 0;
    uint64_t len = 0;
    size_t i = 1;
    for (unsigned shift = 0;; shift += 7, i++) {
        if (i >= n || shift > 28)
            return 0;
        len |= (uint64_t)(data[i] & 0x7f) << shift;
        if ((data[i] & 0x80) == 0)
            break;
    }
    i++;
    if (len != n - i)
        return 0;
    *ret_batch = data + i;
    *ret_batch_len = n - i;
    return 1;
}

size_t wire_batch_head(size_t n, uint8_t out[WIRE_BATCH_HEAD_MAX])
{
    size_t used = 0;
    out[used++] = BATCH_TAG;
    for (; n >= 0x80; n >>= 7)
        out[used++] = (uint8_t)(n | 0x80);
    out[used++] = (uint8_t)n;
    return used;
}
