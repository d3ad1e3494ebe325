/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of JSON objects that nobody asked for: configuration and requests are refused for them, by name, instead of being half understood.
 */
#ifndef HUB_CORE_JSON_MEMBERS_H
#define HUB_CORE_JSON_MEMBERS_H

#include <jansson.h>
#include <string.h>

/* The first member of the object that is not in the list (ended by NULL); NULL: there is none, or it is no object. */
static inline const char *json_unknown_member(const json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        size_t i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return key;
    }
    return NULL;
}

#endif
