/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass adds the steps, another the edges, so that a step may name one that comes later. Every message says where: "groups[1].steps[0].after: ...".
 */
#include "hub/jobs/plan_document.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core/json_members.h"
#include "hub/fabric/action.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define GROUPS_MAX 64u
#define NAME_MAX_BYTES 128u
#define TIMEOUT_DEFAULT_S 3600
#define TIMEOUT_MAX_S (30 * 86400)
#define RETRIES_MAX 20
#define PAUSE_DEFAULT_S 10
#define PAUSE_MAX_S 3600
#define PARALLEL_MAX 256

static const char *const type_names[PLAN_STEP_TYPE_COUNT] = {"machine", "script", "webhook", "gate", "wait"};
const char *const plan_kinds[PLAN_KIND_COUNT] = {"test", "planned", "unplanned", "failback"};

const char *plan_step_type_name(enum plan_step_type type)
{
    return type_names[type];
}

static int find_word(const char *const *words, size_t count, const char *word)
{
    for (size_t i = 0; word && i < count; i++)
        if (strcmp(words[i], word) == 0)
            return (int)i;
    return -1;
}

int plan_kind_from_name(const char *name)
{
    return find_word(plan_kinds, PLAN_KIND_COUNT, name);
}

bool plan_step_is_for(const struct plan_step *step, int kind)
{
    return (step->kinds >> kind) & 1;
}

const char *plan_step_text(const struct plan_step *step, const char *key)
{
    const char *s = json_string_value(json_object_get(step->json, key));

    return s ? s : "";
}

/* ---- messages ---- */

/* Where in the document. */
struct place {
    size_t group, step; /* step SIZE_MAX: the group itself; group SIZE_MAX: the document */
};
static const struct place at_top = {SIZE_MAX, SIZE_MAX};

static int bad(struct err *err, const struct place *at, const char *member, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int bad(struct err *err, const struct place *at, const char *member, const char *fmt, ...)
{
    char where[64] = "", what[200];
    va_list ap;

    if (at->group != SIZE_MAX && at->step != SIZE_MAX)
        snprintf(where, sizeof(where), "groups[%zu].steps[%zu].", at->group, at->step);
    else if (at->group != SIZE_MAX)
        snprintf(where, sizeof(where), "groups[%zu].", at->group);
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    err_set(err, ERR_INVALID, "%s%s: %s", where, member, what);
    return err_hint(err, "docs/recovery-plans.md says what a plan may have.");
}

static int check_known(const json_t *object, const char *const *known, const struct place *at, struct err *err)
{
    const char *key;

    if (!json_is_object(object))
        return bad(err, at, "", "not an object");
    key = json_unknown_member(object, known);
    return key ? bad(err, at, key, "there is no such member here") : 0;
}

static int take_number(const json_t *object, const char *key, long long min, long long max, long long fallback,
    const struct place *at, long long *ret, struct err *err)
{
    const json_t *v = json_object_get(object, key);

    *ret = v ? (long long)json_integer_value(v) : fallback;
    if (v && (!json_is_integer(v) || *ret < min || *ret > max))
        return bad(err, at, key, "not a whole number from %lld to %lld", min, max);
    return 0;
}

static int take_text(const json_t *object, const char *key, size_t max, bool needed, const struct place *at,
    const char **ret, struct err *err)
{
    const json_t *v = json_object_get(object, key);
    const char *s = json_string_value(v);

    *ret = s ? s : "";
    if (!v && !needed)
        return 0;
    if (!s || s[0] == '\0')
        return bad(err, at, key, v ? "not a text" : "missing");
    if (strlen(s) > max || strlen(s) != json_string_length(v))
        return bad(err, at, key, "longer than %zu bytes", max);
    return 0;
}

/* ---- one step ---- */

static int check_machine(const json_t *json, const struct place *at, struct err *err)
{
    static const char *const known[] = {"cpus", "memory_bytes", "network", "test_network", "boot_check", NULL};
    const json_t *options = json_object_get(json, "options");
    const char *text;

    if (take_text(json, "machine", 255, true, at, &text, err) < 0 ||
        take_text(json, "target", 255, false, at, &text, err) < 0)
        return -1;
    return options && check_known(options, known, at, err) < 0 ? -1 : 0;
}

static int check_action(enum plan_step_type type, const json_t *json, const struct place *at, struct err *err)
{
    char where[48];

    if (action_check(type_names[type], json, err) == 0)
        return 0;
    snprintf(where, sizeof(where), "groups[%zu].steps[%zu]", at->group, at->step);
    return err_wrap(err, "%s", where);
}

static int check_members(enum plan_step_type type, const json_t *json, const struct place *at, struct err *err)
{
#define COMMON                                                                                                         \
    "name", "type", "after", "only", "timeout_seconds", "retries", "retry_pause_seconds", "on_failure", "description"
    static const char *const known[PLAN_STEP_TYPE_COUNT][14] = {
        [PLAN_MACHINE] = {COMMON, "machine", "target", "options", NULL},
        [PLAN_SCRIPT] = {COMMON, "script", "arguments", NULL},
        [PLAN_WEBHOOK] = {COMMON, "url", "body", NULL},
        [PLAN_GATE] = {COMMON, "question", NULL},
        [PLAN_WAIT] = {COMMON, "check", NULL},
    };
#undef COMMON
    const char *text;

    if (check_known(json, known[type], at, err) < 0)
        return -1;
    if (type == PLAN_MACHINE)
        return check_machine(json, at, err);
    if (type == PLAN_GATE)
        return take_text(json, "question", 240, true, at, &text, err);
    return check_action(type, json, at, err);
}

static int take_kinds(const json_t *json, const struct place *at, unsigned *ret, struct err *err)
{
    const json_t *only = json_object_get(json, "only");

    *ret = only ? 0 : (1u << PLAN_KIND_COUNT) - 1;
    if (only && (!json_is_array(only) || json_array_size(only) == 0))
        return bad(err, at, "only", "not a list of kinds");
    for (size_t i = 0; i < json_array_size(only); i++) {
        int kind = plan_kind_from_name(json_string_value(json_array_get(only, i)));

        if (kind < 0)
            return bad(err, at, "only", "kinds are test, planned, unplanned and failback");
        *ret |= 1u << kind;
    }
    return 0;
}

static int take_outcome(const json_t *json, const struct place *at, bool *ret_goes_on, struct err *err)
{
    static const char *const words[] = {"stop", "continue"};
    const json_t *v = json_object_get(json, "on_failure");
    int word = v ? find_word(words, 2, json_string_value(v)) : 0;

    *ret_goes_on = word == 1;
    return word < 0 ? bad(err, at, "on_failure", "stop or continue") : 0;
}

static int read_step(struct plan *plan, const json_t *json, const char *group, const struct place *at, struct err *err)
{
    const char *name, *type;
    long long timeout, retries, pause;
    int word, index;

    if (!json_is_object(json))
        return bad(err, at, "", "not an object");
    if (take_text(json, "name", NAME_MAX_BYTES, true, at, &name, err) < 0 ||
        take_text(json, "type", NAME_MAX_BYTES, true, at, &type, err) < 0)
        return -1;
    word = find_word(type_names, PLAN_STEP_TYPE_COUNT, type);
    if (word < 0)
        return bad(err, at, "type", "machine, script, webhook, gate or wait");
    if (check_members((enum plan_step_type)word, json, at, err) < 0 ||
        take_number(json, "timeout_seconds", 1, TIMEOUT_MAX_S, word == PLAN_GATE ? TIMEOUT_MAX_S : TIMEOUT_DEFAULT_S,
            at, &timeout, err) < 0 ||
        take_number(json, "retries", 0, RETRIES_MAX, 0, at, &retries, err) < 0 ||
        take_number(json, "retry_pause_seconds", 0, PAUSE_MAX_S, PAUSE_DEFAULT_S, at, &pause, err) < 0)
        return -1;
    index = plan_graph_add(&plan->graph, name, err);
    if (index < 0)
        return -1;
    struct plan_step *step = &plan->steps[index];

    *step = (struct plan_step){.name = name,
        .group = group,
        .type = (enum plan_step_type)word,
        .json = json,
        .retries = (unsigned)retries,
        .timeout_usec = (uint64_t)timeout * USEC_PER_SEC,
        .pause_usec = (uint64_t)pause * USEC_PER_SEC};
    return take_kinds(json, at, &step->kinds, err) < 0 ? -1 : take_outcome(json, at, &step->goes_on, err);
}

/* ---- edges ---- */

struct group {
    const char *name;
    size_t first, count; /* its steps in the graph */
};

static int find_group(const struct group *groups, size_t count, const char *name)
{
    for (size_t i = 0; name && i < count; i++)
        if (strcmp(groups[i].name, name) == 0)
            return (int)i;
    return -1;
}

static void wait_for_group(struct plan *plan, const struct group *who, const struct group *whom)
{
    for (size_t s = who->first; s < who->first + who->count; s++)
        for (size_t p = whom->first; p < whom->first + whom->count; p++)
            plan_graph_wait(&plan->graph, s, p);
}

/* A cycle of groups is told by their names: of their steps it would be a list that nobody reads. */
static int order_groups(
    struct plan *plan, const json_t *list, const struct group *groups, size_t count, struct err *err)
{
    AUTO_FREE struct plan_graph *g = mem_new(struct plan_graph);
    size_t order[PLAN_STEPS_MAX];

    if (!g)
        return err_set(err, ERR_NOMEM, "no memory for a plan");
    for (size_t i = 0; i < count; i++)
        if (plan_graph_add(g, groups[i].name, err) < 0)
            return bad(err, &(struct place){i, SIZE_MAX}, "name", "two groups are named %.60s", groups[i].name);
    for (size_t i = 0; i < count; i++) {
        const json_t *after = json_object_get(json_array_get(list, i), "after");
        const struct place at = {i, SIZE_MAX};

        if (after && !json_is_array(after))
            return bad(err, &at, "after", "not a list of groups");
        if (!after && i > 0) {
            plan_graph_wait(g, i, i - 1);
            wait_for_group(plan, &groups[i], &groups[i - 1]);
        }
        for (size_t k = 0; k < json_array_size(after); k++) {
            const char *name = json_string_value(json_array_get(after, k));
            int other = find_group(groups, count, name);

            if (other < 0)
                return bad(err, &at, "after", "there is no group %.60s", name ? name : "of that sort");
            plan_graph_wait(g, i, (size_t)other);
            wait_for_group(plan, &groups[i], &groups[other]);
        }
    }
    return plan_graph_order(g, order, err);
}

static int wait_for_steps(struct plan *plan, const json_t *step, size_t index, const struct place *at, struct err *err)
{
    const json_t *after = json_object_get(step, "after");

    if (after && !json_is_array(after))
        return bad(err, at, "after", "not a list of steps");
    for (size_t k = 0; k < json_array_size(after); k++) {
        const char *name = json_string_value(json_array_get(after, k));
        int other = name ? plan_graph_find(&plan->graph, name) : -1;

        if (other < 0)
            return bad(err, at, "after", "there is no step %.60s", name ? name : "of that sort");
        plan_graph_wait(&plan->graph, index, (size_t)other);
    }
    return 0;
}

static int check_machines_once(const struct plan *plan, struct err *err)
{
    for (size_t i = 0; i < plan->graph.count; i++)
        for (size_t k = 0; k < i; k++)
            if (plan->steps[i].type == PLAN_MACHINE && plan->steps[k].type == PLAN_MACHINE &&
                (plan->steps[i].kinds & plan->steps[k].kinds) &&
                strcmp(plan_step_text(&plan->steps[i], "machine"), plan_step_text(&plan->steps[k], "machine")) == 0) {
                err_set(err, ERR_INVALID, "the steps %.60s and %.60s are of the same machine", plan->steps[k].name,
                    plan->steps[i].name);
                return err_hint(err, "A machine is failed over once in a plan.");
            }
    return 0;
}

/* ---- all of it ---- */

static int read_group(struct plan *plan, const json_t *json, size_t at, struct group *ret, struct err *err)
{
    static const char *const known[] = {"name", "description", "after", "steps", NULL};
    const json_t *steps = json_object_get(json, "steps");
    struct place place = {at, SIZE_MAX};

    if (check_known(json, known, &place, err) < 0 ||
        take_text(json, "name", NAME_MAX_BYTES, true, &place, &ret->name, err) < 0)
        return -1;
    if (!json_is_array(steps) || json_array_size(steps) == 0)
        return bad(err, &place, "steps", "missing: a group has at least one step");
    ret->first = plan->graph.count;
    ret->count = json_array_size(steps);
    for (size_t i = 0; i < ret->count; i++) {
        place.step = i;
        if (read_step(plan, json_array_get(steps, i), ret->name, &place, err) < 0)
            return -1;
    }
    return 0;
}

static int read_all(struct plan *plan, struct err *err)
{
    static const char *const known[] = {"target", "max_parallel", "groups", NULL};
    const json_t *list = json_object_get(plan->document, "groups");
    size_t order[PLAN_STEPS_MAX], count = json_array_size(list);
    struct group groups[GROUPS_MAX];
    long long parallel;

    if (check_known(plan->document, known, &at_top, err) < 0 ||
        take_text(plan->document, "target", 255, false, &at_top, &plan->target, err) < 0 ||
        take_number(plan->document, "max_parallel", 0, PARALLEL_MAX, 0, &at_top, &parallel, err) < 0)
        return -1;
    plan->parallel_max = (size_t)parallel;
    if (count == 0 || count > GROUPS_MAX)
        return bad(err, &at_top, "groups", "from 1 to %u groups are needed", GROUPS_MAX);
    for (size_t i = 0; i < count; i++)
        if (read_group(plan, json_array_get(list, i), i, &groups[i], err) < 0)
            return -1;
    if (order_groups(plan, list, groups, count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < groups[i].count; k++)
            if (wait_for_steps(
                    plan, plan->steps[groups[i].first + k].json, groups[i].first + k, &(struct place){i, k}, err) < 0)
                return -1;
    return plan_graph_order(&plan->graph, order, err) < 0 ? -1 : check_machines_once(plan, err);
}

int plan_read(json_t *document, struct plan **ret_plan, struct err *err)
{
    AUTO_PLAN struct plan *plan = mem_new(struct plan);

    if (!plan)
        return err_set(err, ERR_NOMEM, "no memory for a plan");
    plan->document = json_incref(document);
    if (read_all(plan, err) < 0)
        return -1;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

int plan_read_text(const char *text, struct plan **ret_plan, struct err *err)
{
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    int rc = document ? plan_read(document, ret_plan, err) : err_set(err, ERR_INVALID, "the plan is not JSON");

    json_decref(document);
    return rc;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    json_decref(plan->document);
    free(plan);
}
