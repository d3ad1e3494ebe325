/* SPDX-License-Identifier: Apache-2.0
 *
 * A recovery plan as people write it, checked and turned into a graph:
 *
 *   {"target": text ("disks"), "max_parallel": n (0: any number),
 *    "groups": [{"name": text, "after": [group, ...] (the group before), "steps": [
 *      {"name": text, "type": "machine"|"script"|"webhook"|"gate"|"wait", "after": [step, ...],
 *       "only": ["test"|"planned"|"unplanned"|"failback", ...] (all), "timeout_seconds": n, "retries": n, "retry_pause_seconds": n,
 *       "on_failure": "stop"|"continue",
 *       machine: "machine": text, "target": text, "options": {"cpus", "memory_bytes", "network", "test_network", "boot_check"}
 *       script:  "script": name of a file, "arguments": [text, ...]
 *       webhook: "url": text, "body": object
 *       gate:    "question": text
 *       wait:    "check": {"type": "tcp", "address", "port"} or {"type": "http", "url", "status": n (any 2xx)}}, ...]}, ...]}
 *
 * A group waits for all steps of the groups in its `after`; without one, for the group before it. All times have a default and a bound.
 */
#ifndef HUB_JOBS_PLAN_DOCUMENT_H
#define HUB_JOBS_PLAN_DOCUMENT_H

#include <jansson.h>

#include "hub/core/plan_graph.h"

enum plan_step_type { PLAN_MACHINE, PLAN_SCRIPT, PLAN_WEBHOOK, PLAN_GATE, PLAN_WAIT, PLAN_STEP_TYPE_COUNT };
const char *plan_step_type_name(enum plan_step_type type);

#define PLAN_KIND_COUNT 4u
extern const char *const plan_kinds[PLAN_KIND_COUNT]; /* test, planned, unplanned, failback */
int plan_kind_from_name(const char *name);            /* -1: none of them */

struct plan_step {
    const char *name, *group; /* point into the document */
    enum plan_step_type type;
    const json_t *json;
    unsigned kinds; /* bit per kind of run that it is for */
    unsigned retries;
    uint64_t timeout_usec, pause_usec;
    bool goes_on; /* the plan, when it failed */
};

struct plan {
    json_t *document;
    const char *target;
    size_t parallel_max;
    struct plan_graph graph;
    struct plan_step steps[PLAN_STEPS_MAX];
};

/* Holds a reference to the document. ERR_INVALID says where and what; ERR_TOO_LARGE. Free it with plan_free. */
int plan_read(json_t *document, struct plan **ret_plan, struct err *err);
int plan_read_text(const char *text, struct plan **ret_plan, struct err *err);
void plan_free(struct plan *plan); /* NULL is allowed */
static inline void plan_free_indirect(struct plan **plan)
{
    plan_free(*plan);
}
#define AUTO_PLAN __attribute__((cleanup(plan_free_indirect)))

bool plan_step_is_for(const struct plan_step *step, int kind);
/* The machine of a machine step, the target that it names itself or the plan does. */
const char *plan_step_text(const struct plan_step *step, const char *key); /* "" when absent */

#endif
