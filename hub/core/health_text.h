/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of all findings (health.h), as one table: what openapi.json lists for translators is this. Pure.
 */
#ifndef HUB_CORE_HEALTH_TEXT_H
#define HUB_CORE_HEALTH_TEXT_H

#include <stddef.h>

#include "hub/core/text_value.h"

struct health_text {
    const char *code;           /* of the finding */
    const char *form;           /* which of them, where a code has several; "" */
    const char *cause, *remedy; /* a value's place is its name in braces: "{silent_seconds}" */
};
extern const struct health_text health_texts[];
extern const size_t health_text_count;

/* NULL: there is none. */
const struct health_text *health_text_find(const char *code, const char *form);
/* The text with its values (ended by one without name) in their places, cut to the size. A place without value stays empty. */
void health_text_fill(const char *text, const struct text_value *values, char *ret_text, size_t size);

#endif
