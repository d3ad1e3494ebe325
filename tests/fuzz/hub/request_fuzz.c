/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client may send to any operation: byte 0 chooses it, then a line with one query parameter ("name=value") and a line
 * for the path parameter; the rest is the body. Whatever it is, the answer is a problem or validated input.
 */
#include <stdlib.h>
#include <string.h>

#include "hub/api/http_input.h"
#include "hub/api/http_route.h"
#include "hub/api/openapi.h"

static char *take_line(const uint8_t **data, size_t *size)
{
    const uint8_t *end = memchr(*data, '\n', *size);
    size_t n = end ? (size_t)(end - *data) : *size;
    char *line = strndup((const char *)*data, n);

    *data += end ? n + 1 : n;
    *size -= end ? n + 1 : n;
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct openapi *doc;
    struct api_services services = {0};
    struct request r;
    char *query, *param;

    if (size == 0 || (!doc && openapi_load(&doc, NULL) < 0))
        return 0;
    services.doc = doc;
    request_init(&r, &services);
    r.route = &http_routes[*data++ % http_route_count];
    r.operation = openapi_find(doc, r.route->operation);
    size--;
    query = take_line(&data, &size);
    param = take_line(&data, &size);
    (void)strncpy(r.params[0], param, REQUEST_PARAM_SIZE - 1);
    r.arguments = json_object();
    (void)json_object_set_new(r.arguments, query, json_string(strchr(query, '=') ? strchr(query, '=') + 1 : ""));
    if (strchr(query, '=')) {
        *strchr(query, '=') = 0;
        (void)json_object_set_new(r.arguments, query, json_string(query + strlen(query) + 1));
    }
    r.headers.content_type = strdup("application/json");
    r.headers.if_match = strdup("\"1\"");
    if (buf_append(&r.raw_body, data, size, NULL) == 0 && http_input_parameters(&r) == 0 && http_input_body(&r) == 0 &&
        r.operation->body && !r.body)
        abort();
    free(query);
    free(param);
    request_done(&r);
    return 0;
}
