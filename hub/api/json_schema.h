/* SPDX-License-Identifier: Apache-2.0
 *
 * Holds a JSON value to a schema of the OpenAPI document: the part of JSON Schema 2020-12 that the document uses.
 * The same code checks what clients send and, in the tests, what the hub answers, so that the file is the truth.
 */
#ifndef HUB_API_JSON_SCHEMA_H
#define HUB_API_JSON_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>

#define JSON_SCHEMA_ERRORS_MAX 20u

/* True when value is valid under schema. Otherwise the faults are appended to `errors` (a JSON array, may be NULL) as
 * {"pointer": "/disks/0", "code": "type", "detail": "..."}, at most JSON_SCHEMA_ERRORS_MAX of them. `root` is the
 * document in which "$ref": "#/..." is looked up; `pointer` is the place of value itself ("" for a whole body). */
bool json_schema_valid(
    const json_t *root, const json_t *schema, const json_t *value, const char *pointer, json_t *errors);
/* Appends one fault of our own finding to errors; errors may be NULL or full. */
void json_schema_fault(json_t *errors, const char *pointer, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Follows "$ref" (any number of times, bounded) and returns the schema itself; NULL when it leads nowhere. */
const json_t *json_schema_resolve(const json_t *root, const json_t *schema);
/* The first keyword anywhere in schema that this validator does not know, or NULL: a keyword that nobody checks would be
 * a promise that nobody keeps. */
const char *json_schema_unknown_keyword(const json_t *schema);

#endif
