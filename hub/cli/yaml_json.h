/* SPDX-License-Identifier: Apache-2.0
 *
 * YAML for files that people keep in version control, as JSON values: maps with text as keys, lists, and scalars as the core schema of YAML 1.2 reads them
 * (true, 7, 1.5, null; all else, "yes" too, is text). One document; no anchors, aliases or tags. JSON is YAML, so both are read alike. By libyaml.
 */
#ifndef HUB_CLI_YAML_JSON_H
#define HUB_CLI_YAML_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "transport/base/err.h"

/* ERR_INVALID with the line. The value is the caller's. */
int yaml_json_parse(const char *text, size_t len, json_t **ret_value, struct err *err);
/* Reads back to the same value. Objects in the order of their members. ERR_IO. */
int yaml_json_write(const json_t *value, FILE *out, struct err *err);

#endif
