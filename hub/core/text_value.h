/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands in a text beside its words: names and numbers. They go out together with the English text, so that whoever shows it in another
 * language has all that is in it.
 */
#ifndef HUB_CORE_TEXT_VALUE_H
#define HUB_CORE_TEXT_VALUE_H

#include <stddef.h>
#include <stdint.h>

/* The end of a name says how the number is to be read: _seconds, _hours, _days, _percent. */
struct text_value {
    const char *name, *text; /* text NULL: a number. Borrowed from what the text was made of */
    int64_t number;
};

#define VALUE_TEXT(name, text)                                                                                         \
    {                                                                                                                  \
        name, text, 0                                                                                                  \
    }
#define VALUE_NUMBER(name, number)                                                                                     \
    {                                                                                                                  \
        name, NULL, number                                                                                             \
    }
/* An array that a value without name ends; it lives as long as the block it stands in. */
#define TEXT_VALUES(...) ((const struct text_value[]){__VA_ARGS__, {0}})

/* The value "form", which says which of several texts of one code it is; "" without. */
const char *text_value_form(const struct text_value *values);
/* The text with values in their places (a value's name in braces: "{silent_seconds}"), cut to the size. A place without value stays empty. */
void text_value_fill(const char *text, const struct text_value *values, char *ret_text, size_t size);

#endif
