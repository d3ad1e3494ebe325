/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of the hub's own events, as one table: what openapi.json lists for translators is this. What agents, nodes and vaults tell is in their
 * words, and not here. Pure.
 */
#ifndef HUB_CORE_EVENT_TEXT_H
#define HUB_CORE_EVENT_TEXT_H

#include "hub/core/text_value.h"

struct event_text {
    const char *code, *form;   /* form: which of them, where a code has several; "" */
    const char *text, *remedy; /* with places for values, text_value.h */
};
extern const struct event_text event_texts[];
extern const size_t event_text_count;

/* The text of the code and the values' form; NULL: there is none. */
const struct event_text *event_text_find(const char *code, const struct text_value *values);

#endif
