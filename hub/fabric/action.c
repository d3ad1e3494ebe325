/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of actions.
 */
#include "hub/fabric/action.h"

#include <string.h>

#include "transport/base/mem.h"

static const struct action *const actions[] = {&action_script, &action_webhook, &action_wait};

const struct action *action_find(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(actions[i]->type, type) == 0)
            return actions[i];
    return NULL;
}

int action_check(const char *type, const json_t *step, struct err *err)
{
    const struct action *action = action_find(type);

    return action ? action->check(step, err) : err_set(err, ERR_UNSUPPORTED, "there is no action %.40s", type);
}
