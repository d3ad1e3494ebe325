/* SPDX-License-Identifier: Apache-2.0
 *
 * The values of a text (hub/core/text_value.h) as the object that is stored and served beside it.
 */
#ifndef HUB_DB_TEXT_VALUES_H
#define HUB_DB_TEXT_VALUES_H

#include <jansson.h>

#include "hub/core/text_value.h"

/* A new object; NULL: no memory. values NULL: an empty one. */
json_t *text_values_json(const struct text_value *values);
/* The same as JSON text; the caller frees it. */
char *text_values_dump(const struct text_value *values);

#endif
