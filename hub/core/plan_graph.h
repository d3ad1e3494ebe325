/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of a recovery plan and which of them wait for which: their order, cycles, what may begin now, and how long all of it
 * takes. A step is known by its index, in the order in which steps were added. Pure.
 */
#ifndef HUB_CORE_PLAN_GRAPH_H
#define HUB_CORE_PLAN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

#define PLAN_STEPS_MAX 256u

struct plan_graph {
    size_t count;
    const char *names[PLAN_STEPS_MAX];                   /* the caller's; they outlive the graph */
    uint64_t after[PLAN_STEPS_MAX][PLAN_STEPS_MAX / 64]; /* bit p of row s: s waits for p */
};

/* All zero is an empty graph. ERR_INVALID: a name twice, ERR_TOO_LARGE: too many steps. Returns its index. */
int plan_graph_add(struct plan_graph *g, const char *name, struct err *err);
/* -1: there is none of that name. */
int plan_graph_find(const struct plan_graph *g, const char *name);
void plan_graph_wait(struct plan_graph *g, size_t step, size_t for_step);
bool plan_graph_waits(const struct plan_graph *g, size_t step, size_t for_step); /* directly */

/* An order in which nobody comes before what it waits for; of several that may be next the one that was added first.
 * ERR_INVALID names a cycle: "a -> b -> a" (a waits for b, b for a). */
int plan_graph_order(const struct plan_graph *g, size_t ret_order[PLAN_STEPS_MAX], struct err *err);

/* The life of a step in a run. */
enum plan_step_state {
    PLAN_STEP_PENDING,
    PLAN_STEP_RUNNING,
    PLAN_STEP_WAITING, /* for a person */
    PLAN_STEP_SUCCEEDED,
    PLAN_STEP_FAILED,
    PLAN_STEP_PASSED_OVER, /* failed, and the plan goes on all the same */
    PLAN_STEP_SKIPPED,     /* not for this kind of run */
    PLAN_STEP_CANCELLED,   /* its turn did not come, or it was stopped */
    PLAN_STEP_STATE_COUNT
};
const char *plan_step_state_name(enum plan_step_state state); /* "pending", ... */
int plan_step_state_from_name(const char *name);              /* -1: none of them */
bool plan_step_state_is_over(enum plan_step_state state);

enum plan_progress {
    PLAN_GOES_ON,
    PLAN_DONE,  /* every step succeeded, was skipped or was passed over */
    PLAN_FAILED /* a step failed, or the run is to stop, and nothing runs any more */
};
/* Which pending steps may begin: all that they wait for is over and none of it failed, no step failed and the run is not stopping.
 * Of those at most `parallel_max` less the running ones, first added first; 0: any number. ret_ready: a flag per step. */
enum plan_progress plan_graph_look(const struct plan_graph *g, const enum plan_step_state *states, bool stopping,
    size_t parallel_max, bool *ret_ready);

/* When each step begins and ends if it takes so long, and who makes it so: the steps without slack. Returns the whole time.
 * The graph has no cycle. */
struct plan_forecast {
    uint64_t begin_usec, end_usec;
    bool critical;
};
uint64_t plan_graph_predict(
    const struct plan_graph *g, const uint64_t *duration_usec, size_t parallel_max, struct plan_forecast *ret_steps);

/* The middle of what a step took in the past; of an even number the lower one of the two in the middle. 0 of none. Sorts. */
uint64_t plan_median_usec(uint64_t *values, size_t count);

#endif
