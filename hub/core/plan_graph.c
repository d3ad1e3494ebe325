/* SPDX-License-Identifier: Apache-2.0
 *
 * Bits in rows. An order is found by taking, again and again, the first step whose predecessors are taken (Kahn 1962); a plan has at
 * most 256 steps, so the square of that is nothing. A cycle is found by walking backwards from a step that is left: each of those has
 * a predecessor that is left, too, so the walk comes round.
 */
#include "hub/core/plan_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/mem.h"

static const char *const state_names[PLAN_STEP_STATE_COUNT] = {
    [PLAN_STEP_PENDING] = "pending",
    [PLAN_STEP_RUNNING] = "running",
    [PLAN_STEP_WAITING] = "waiting_for_input",
    [PLAN_STEP_SUCCEEDED] = "succeeded",
    [PLAN_STEP_FAILED] = "failed",
    [PLAN_STEP_PASSED_OVER] = "passed_over",
    [PLAN_STEP_SKIPPED] = "skipped",
    [PLAN_STEP_CANCELLED] = "cancelled",
};

const char *plan_step_state_name(enum plan_step_state state)
{
    return (unsigned)state < PLAN_STEP_STATE_COUNT ? state_names[state] : "unknown";
}

int plan_step_state_from_name(const char *name)
{
    for (int i = 0; i < PLAN_STEP_STATE_COUNT; i++)
        if (strcmp(state_names[i], name) == 0)
            return i;
    return -1;
}

bool plan_step_state_is_over(enum plan_step_state state)
{
    return state > PLAN_STEP_WAITING;
}

/* ---- building ---- */

int plan_graph_find(const struct plan_graph *g, const char *name)
{
    for (size_t i = 0; i < g->count; i++)
        if (strcmp(g->names[i], name) == 0)
            return (int)i;
    return -1;
}

int plan_graph_add(struct plan_graph *g, const char *name, struct err *err)
{
    if (g->count == PLAN_STEPS_MAX) {
        err_set(err, ERR_TOO_LARGE, "a plan has at most %u steps", PLAN_STEPS_MAX);
        return err_hint(err, "Make two plans of it.");
    }
    if (plan_graph_find(g, name) >= 0) {
        err_set(err, ERR_INVALID, "two steps are named %.60s", name);
        return err_hint(err, "Give each step of the plan a name of its own.");
    }
    g->names[g->count] = name;
    return (int)g->count++;
}

void plan_graph_wait(struct plan_graph *g, size_t step, size_t for_step)
{
    g->after[step][for_step / 64] |= 1ULL << (for_step % 64);
}

bool plan_graph_waits(const struct plan_graph *g, size_t step, size_t for_step)
{
    return (g->after[step][for_step / 64] >> (for_step % 64)) & 1;
}

/* ---- order ---- */

/* A predecessor that is not taken; -1: all are. */
static int open_predecessor(const struct plan_graph *g, size_t step, const bool *taken)
{
    for (size_t p = 0; p < g->count; p++)
        if (!taken[p] && plan_graph_waits(g, step, p))
            return (int)p;
    return -1;
}

/* What each waits for, from one of the cycle back to itself. */
static int tell_cycle(const struct plan_graph *g, const bool *taken, struct err *err)
{
    size_t walk[PLAN_STEPS_MAX], at[PLAN_STEPS_MAX], n = 0, step = 0;
    bool seen[PLAN_STEPS_MAX] = {0};
    char text[240] = "";
    size_t used = 0;

    while (taken[step])
        step++;
    while (!seen[step]) {
        seen[step] = true;
        at[step] = n;
        walk[n++] = step;
        step = (size_t)open_predecessor(g, step, taken);
    }
    for (size_t i = at[step]; i < n && used < sizeof(text) - 80; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%.60s -> ", g->names[walk[i]]);
    err_set(err, ERR_INVALID, "the steps wait for each other: %s%.60s", text, g->names[step]);
    return err_hint(err, "Take one of these out of `after`.");
}

int plan_graph_order(const struct plan_graph *g, size_t ret_order[PLAN_STEPS_MAX], struct err *err)
{
    bool taken[PLAN_STEPS_MAX] = {0};

    for (size_t n = 0; n < g->count; n++) {
        size_t next = 0;

        while (next < g->count && (taken[next] || open_predecessor(g, next, taken) >= 0))
            next++;
        if (next == g->count)
            return tell_cycle(g, taken, err);
        taken[next] = true;
        ret_order[n] = next;
    }
    return 0;
}

/* ---- running ---- */

static bool lets_go_on(enum plan_step_state state)
{
    return state == PLAN_STEP_SUCCEEDED || state == PLAN_STEP_SKIPPED || state == PLAN_STEP_PASSED_OVER;
}

static bool is_free(const struct plan_graph *g, const enum plan_step_state *states, size_t step)
{
    for (size_t p = 0; p < g->count; p++)
        if (plan_graph_waits(g, step, p) && !lets_go_on(states[p]))
            return false;
    return true;
}

enum plan_progress plan_graph_look(
    const struct plan_graph *g, const enum plan_step_state *states, bool stopping, size_t parallel_max, bool *ret_ready)
{
    size_t running = 0, done = 0, room;

    for (size_t i = 0; i < g->count; i++) {
        ret_ready[i] = false;
        running += states[i] == PLAN_STEP_RUNNING || states[i] == PLAN_STEP_WAITING;
        done += lets_go_on(states[i]);
        stopping = stopping || states[i] == PLAN_STEP_FAILED || states[i] == PLAN_STEP_CANCELLED;
    }
    if (done == g->count)
        return PLAN_DONE;
    if (stopping)
        return running > 0 ? PLAN_GOES_ON : PLAN_FAILED;
    room = parallel_max == 0 ? g->count : parallel_max > running ? parallel_max - running : 0;
    for (size_t i = 0; i < g->count && room > 0; i++)
        if (states[i] == PLAN_STEP_PENDING && is_free(g, states, i)) {
            ret_ready[i] = true;
            room--;
        }
    return PLAN_GOES_ON;
}

/* ---- forecast ---- */

/* The earliest end among the running steps. */
static uint64_t next_end(size_t count, const enum plan_step_state *states, const struct plan_forecast *steps)
{
    uint64_t end = UINT64_MAX;

    for (size_t i = 0; i < count; i++)
        if (states[i] == PLAN_STEP_RUNNING && steps[i].end_usec < end)
            end = steps[i].end_usec;
    return end;
}

/* From the steps that end last back to those whose ends they waited for, be it by `after` or for room. */
static void mark_critical(const struct plan_graph *g, uint64_t whole, size_t parallel_max, struct plan_forecast *steps)
{
    bool found = true;

    for (size_t i = 0; i < g->count; i++)
        steps[i].critical = steps[i].end_usec == whole;
    while (found) {
        found = false;
        for (size_t s = 0; s < g->count; s++)
            for (size_t p = 0; steps[s].critical && p < g->count; p++)
                if (p != s && !steps[p].critical && steps[p].end_usec == steps[s].begin_usec &&
                    (plan_graph_waits(g, s, p) || parallel_max > 0)) {
                    steps[p].critical = true;
                    found = true;
                }
    }
}

/* The run, played with a clock that jumps from end to end. */
uint64_t plan_graph_predict(
    const struct plan_graph *g, const uint64_t *duration_usec, size_t parallel_max, struct plan_forecast *ret_steps)
{
    enum plan_step_state states[PLAN_STEPS_MAX] = {0};
    bool ready[PLAN_STEPS_MAX];
    uint64_t now = 0;

    memset(ret_steps, 0, g->count * sizeof(*ret_steps));
    while (plan_graph_look(g, states, false, parallel_max, ready) == PLAN_GOES_ON) {
        uint64_t end;

        for (size_t i = 0; i < g->count; i++)
            if (ready[i]) {
                ret_steps[i] = (struct plan_forecast){now, now + duration_usec[i], false};
                states[i] = PLAN_STEP_RUNNING;
            }
        end = next_end(g->count, states, ret_steps);
        if (end == UINT64_MAX)
            break; /* a cycle, which the caller promised not to have */
        now = end;
        for (size_t i = 0; i < g->count; i++)
            if (states[i] == PLAN_STEP_RUNNING && ret_steps[i].end_usec == now)
                states[i] = PLAN_STEP_SUCCEEDED;
    }
    mark_critical(g, now, parallel_max, ret_steps);
    return now;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t plan_median_usec(uint64_t *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof(*values), compare);
    return values[(count - 1) / 2];
}
