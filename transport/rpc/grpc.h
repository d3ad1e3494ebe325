/* SPDX-License-Identifier: Apache-2.0
 *
 * The framing of gRPC over HTTP/2, without any I/O: length-prefixed messages, timeouts, percent-encoded texts and the
 * mapping of foreign status numbers (gRPC's PROTOCOL-HTTP2 document). Everything here takes hostile bytes.
 */
#ifndef TRANSPORT_RPC_GRPC_H
#define TRANSPORT_RPC_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/rpc/rpc.h"

#define GRPC_PREFIX_SIZE 5u   /* one flag byte (compressed), four of length, big-endian */
#define GRPC_TIMEOUT_SIZE 12u /* "99999999u" and a NUL */
#define GRPC_TEXT_MAX 1024u   /* longest grpc-message that is sent or kept */

/* Cuts a stream of bytes into messages. Zero it, then set message_max. */
struct grpc_parser {
    uint8_t prefix[GRPC_PREFIX_SIZE];
    unsigned prefix_len;
    size_t message_max;
    struct buf message; /* the message that is being received */
};

/* Takes bytes from data and returns how many (at least 1 when n > 0): up to the end of a message, never further. *ret_complete
 * tells that parser->message is whole: move it away (buf_move) before the next call. The memory for a message is reserved once,
 * after its length was found to be within message_max. -1: ERR_TOO_LARGE; ERR_UNSUPPORTED (compressed); ERR_INVALID; ERR_NOMEM. */
ssize_t grpc_parse(struct grpc_parser *parser, const uint8_t *data, size_t n, bool *ret_complete, struct err *err);
/* True between messages: the stream may end here. */
bool grpc_parser_is_between(const struct grpc_parser *parser);
void grpc_parser_done(struct grpc_parser *parser);
void grpc_prefix(size_t message_bytes, uint8_t out[GRPC_PREFIX_SIZE]);

/* "250m" -> 250,000 us. -1: not 1 to 8 digits and one of H M S m u n. */
int grpc_timeout_parse(const char *s, size_t n, uint64_t *ret_usec);
/* The shortest unit that fits into 8 digits, rounded up so that the peer never gives up before we do. */
void grpc_timeout_format(uint64_t usec, char out[GRPC_TIMEOUT_SIZE]);

/* Appends text with everything outside 0x20..0x7e, and '%', as %XX; cut at GRPC_TEXT_MAX bytes of text. */
int grpc_text_encode(const char *text, struct buf *out, struct err *err);
/* Decodes into out (a string of at most size - 1 bytes); broken escapes are taken literally, control characters become '?'. */
void grpc_text_decode(const char *s, size_t n, char *out, size_t size);
/* Decimal 0..16; RPC_UNKNOWN for anything else. */
enum rpc_status grpc_status_parse(const char *s, size_t n);
enum rpc_status grpc_status_from_http(unsigned http_status);
enum rpc_status grpc_status_from_reset(uint32_t h2_error);
bool grpc_content_type_is_ours(const char *s, size_t n);
const char *grpc_status_name(enum rpc_status status);

#endif
