/* SPDX-License-Identifier: Apache-2.0
 *
 * What a recovery plan does besides machines: run a script, call a webhook, wait for a service. Each blocks and is called on a thread of its own
 * (fabric_task.h, FABRIC_ACT); each may be called again, with the same run and step, after a crash of the hub.
 *
 * The step is that of the plan (hub/jobs/plan_document.h). The context is what scripts and webhooks are told, as JSON:
 *   {"plan": text, "run_id": UUID, "step": text, "kind": text, "attempt": n, "timeout_seconds": n,
 *    "machines": [{"name", "state", "address", "failover_id"}, ...]}
 * The answer: {"detail": text for people}.
 */
#ifndef HUB_FABRIC_ACTION_H
#define HUB_FABRIC_ACTION_H

#include <jansson.h>
#include <stdatomic.h>

#include "transport/base/err.h"

struct action_call {
    const json_t *step, *context;
    const atomic_bool *cancelled;
};

struct action {
    const char *type; /* of the step: "script", "webhook", "wait" */
    int (*check)(const json_t *step, struct err *err);
    int (*run)(const struct action_call *call, json_t **ret_answer, struct err *err);
};
extern const struct action action_script, action_webhook, action_wait;

/* NULL: there is none of that type. */
const struct action *action_find(const char *type);
/* ERR_INVALID for a step that such an action cannot take. */
int action_check(const char *type, const json_t *step, struct err *err);

/* Scripts are files in this folder, run as this user if the hub is root; without a folder there are none. Before threads. The texts stay the caller's. */
void action_allow_scripts(const char *dir, const char *user);

#endif
