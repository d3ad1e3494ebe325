/* SPDX-License-Identifier: Apache-2.0
 *
 * The edge to libmicrohttpd: sockets, TLS, HTTP. Reads a request into struct request, hands it to the handler pool,
 * sends the reply. Only this file's .c includes <microhttpd.h>.
 */
#ifndef HUB_API_HTTP_SERVER_H
#define HUB_API_HTTP_SERVER_H

#include "hub/api/http_request.h"

struct http_server;

int http_server_start(const struct api_services *services, struct http_server **ret_server, struct err *err);
/* Two steps: first no new connection is taken and what runs is answered; then, when event streams have been ended by the
 * caller, the answers go out (5 seconds at most), and everything is closed and freed. NULL is allowed. */
void http_server_quiesce(struct http_server *server);
void http_server_stop(struct http_server *server);
unsigned http_server_port(const struct http_server *server);
void http_server_news(struct http_server *server);

#endif
