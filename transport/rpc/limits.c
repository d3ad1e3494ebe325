/* SPDX-License-Identifier: Apache-2.0
 *
 * The limits of a connection, with their defaults.
 */
#include "transport/rpc/limits.h"

#include "transport/base/clock.h"

#define MESSAGE_MAX ((4u << 20) + (64u << 10)) /* a batch of 4 MiB and what surrounds it */
#define MESSAGE_CEILING (1u << 30)
#define STREAM_WINDOW 12500000u /* 100 ms x 1 Gbit/s */
#define WINDOW_MAX 0x7fffffffu  /* RFC 9113, 6.9.1 */
#define STREAMS_MAX 128u
#define CONNECTIONS_MAX 16384u
#define HANDSHAKE_USEC (10 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC (10 * USEC_PER_SEC)
#define IDLE_USEC (20 * USEC_PER_SEC)
#define SEND_QUEUE_MAX (4u << 20)
#define READ_AHEAD 131072u /* eight TLS records */

#define DEFAULT(member, value)                                                                                         \
    do {                                                                                                               \
        if (ret_limits->member == 0)                                                                                   \
            ret_limits->member = (value);                                                                              \
    } while (0)

void limits_resolve(const struct rpc_limits *given, struct rpc_limits *ret_limits)
{
    *ret_limits = given != NULL ? *given : (struct rpc_limits){0};
    DEFAULT(message_max, MESSAGE_MAX);
    if (ret_limits->message_max > MESSAGE_CEILING)
        ret_limits->message_max = MESSAGE_CEILING;
    DEFAULT(stream_window, STREAM_WINDOW);
    if (ret_limits->stream_window < ret_limits->message_max + 64)
        ret_limits->stream_window = (uint32_t)ret_limits->message_max + 64;
    if (ret_limits->stream_window > WINDOW_MAX)
        ret_limits->stream_window = WINDOW_MAX;
    DEFAULT(connection_window, ret_limits->stream_window > WINDOW_MAX / 2 ? WINDOW_MAX : 2 * ret_limits->stream_window);
    if (ret_limits->connection_window < ret_limits->stream_window)
        ret_limits->connection_window = ret_limits->stream_window;
    if (ret_limits->connection_window > WINDOW_MAX)
        ret_limits->connection_window = WINDOW_MAX;
    DEFAULT(streams_max, STREAMS_MAX);
    DEFAULT(connections_max, CONNECTIONS_MAX);
    DEFAULT(handshake_usec, HANDSHAKE_USEC);
    DEFAULT(backoff_max_usec, BACKOFF_MAX_USEC);
    DEFAULT(idle_usec, IDLE_USEC);
    DEFAULT(send_queue_max, SEND_QUEUE_MAX);
    DEFAULT(read_ahead, READ_AHEAD);
}
