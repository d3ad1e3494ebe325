/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of all findings (health.h), as one table: what openapi.json lists for translators is this. Pure.
 */
#ifndef HUB_CORE_HEALTH_TEXT_H
#define HUB_CORE_HEALTH_TEXT_H

#include <stddef.h>

struct health_text {
    const char *code;           /* of the finding */
    const char *form;           /* which of them, where a code has several; "" */
    const char *cause, *remedy; /* with places for values, text_value.h */
};
extern const struct health_text health_texts[];
extern const size_t health_text_count;

/* NULL: there is none. */
const struct health_text *health_text_find(const char *code, const char *form);

#endif
