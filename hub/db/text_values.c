/* SPDX-License-Identifier: Apache-2.0
 *
 * Text that is no UTF-8 becomes "?", as in rows that are served.
 */
#include "hub/db/text_values.h"

json_t *text_values_json(const struct text_value *values)
{
    json_t *object = json_object();

    for (; values && values->name && object; values++) {
        json_t *value = values->text ? json_string(values->text) : json_integer(values->number);

        if (json_object_set_new(object, values->name, value ? value : json_string("?")) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

char *text_values_dump(const struct text_value *values)
{
    json_t *object = text_values_json(values);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

    json_decref(object);
    return text;
}
