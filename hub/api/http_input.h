/* SPDX-License-Identifier: Apache-2.0
 *
 * Holds what a client sent to the OpenAPI document: query parameters become typed JSON, the body is parsed strictly. Both
 * functions return 0, or -1 with the reply set to a problem that names every fault by its place.
 */
#ifndef HUB_API_HTTP_INPUT_H
#define HUB_API_HTTP_INPUT_H

#include "hub/api/http_request.h"

/* Query and path parameters and the headers Idempotency-Key, If-Match and Last-Event-ID. */
int http_input_parameters(struct request *r);
int http_input_body(struct request *r);

#endif
