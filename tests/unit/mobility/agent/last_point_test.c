/* SPDX-License-Identifier: Apache-2.0
 *
 * The last point of a planned failover, as the agent begins it: a real agent and its session with a hub on the same loop. What the hold says,
 * and what the engine is asked for, is the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "mobility/sync/engine.h"
#include "mobility/sync/hold.h"
#include "tests/unit/mobility/agent/agentrig.h"
#include "tests/unit/rpc/rununtil.h"

#define LOOKS 8u /* at the status, of which the agent has had another turn by then */
#define COMMAND "11111111-2222-3333-4444-555555555555"

/* What the wrapped functions say, and heard. All on the loop. */
static struct {
    struct hold_conf conf;
    bool is_wanted;        /* the hub wants protection, as the hold heard */
    bool answers;          /* the next hold_take says that the source stands still */
    bool is_over;          /* hold_begin_point: another order came */
    bool refuses;          /* engine_create_point */
    bool is_ready;         /* the phase is told as one in which points are made, else as idle */
    const char *result_of; /* the next engine_take says that the point of this command was committed; NULL: nothing */
    bool has_moved;        /* hold_stood_still */
    unsigned begun, points, looks, stood;
} said;

int __real_hold_new(const struct hold_conf *conf, struct hold **ret_hold, struct err *err);
int __wrap_hold_new(const struct hold_conf *conf, struct hold **ret_hold, struct err *err);
int __wrap_hold_new(const struct hold_conf *conf, struct hold **ret_hold, struct err *err)
{
    said.conf = *conf;
    return __real_hold_new(conf, ret_hold, err);
}

void __real_hold_desired(struct hold *h, bool protect, uint64_t generation);
void __wrap_hold_desired(struct hold *h, bool protect, uint64_t generation);
void __wrap_hold_desired(struct hold *h, bool protect, uint64_t generation)
{
    __real_hold_desired(h, protect, generation);
    said.is_wanted = protect;
}

bool __wrap_hold_take(struct hold *h, struct hold_output *ret_output);
bool __wrap_hold_take(struct hold *h, struct hold_output *ret_output)
{
    bool answers = said.answers;

    (void)h;
    said.answers = false;
    *ret_output = (struct hold_output){.command_id = COMMAND, .held = true};
    return answers;
}

bool __wrap_hold_begin_point(struct hold *h, const char *command_id);
bool __wrap_hold_begin_point(struct hold *h, const char *command_id)
{
    (void)h;
    assert_string_equal(command_id, COMMAND);
    said.begun++;
    return !said.is_over;
}

int __wrap_hold_stood_still(struct hold *h, struct err *err);
int __wrap_hold_stood_still(struct hold *h, struct err *err)
{
    (void)h;
    said.stood++;
    return said.has_moved ? err_set(err, ERR_REFUSED, "somebody wrote") : 0;
}

int __real_engine_take(struct engine *e, struct engine_output *ret_output);
int __wrap_engine_take(struct engine *e, struct engine_output *ret_output);
int __wrap_engine_take(struct engine *e, struct engine_output *ret_output)
{
    if (!said.result_of)
        return __real_engine_take(e, ret_output);
    *ret_output = (struct engine_output){.kind = ENGINE_RESULT, .sequence = 9, .time_utc_usec = 1};
    snprintf(ret_output->command_id, sizeof(ret_output->command_id), "%s", said.result_of);
    said.result_of = NULL;
    return 1;
}

int __wrap_engine_create_point(
    struct engine *e, const char *command_id, const char *kind, const char *tag, struct err *err);
int __wrap_engine_create_point(
    struct engine *e, const char *command_id, const char *kind, const char *tag, struct err *err)
{
    (void)e;
    assert_string_equal(command_id, COMMAND);
    assert_string_equal(kind, "crash");
    assert_string_equal(tag, "");
    said.points++;
    return said.refuses ? err_set(err, ERR_REFUSED, "nothing is protected") : 0;
}

void __real_engine_get_status(struct engine *e, struct engine_status *ret_status);
void __wrap_engine_get_status(struct engine *e, struct engine_status *ret_status);
void __wrap_engine_get_status(struct engine *e, struct engine_status *ret_status)
{
    __real_engine_get_status(e, ret_status);
    ret_status->phase = said.is_ready ? PHASE_PROTECTED : PHASE_IDLE;
    said.looks++;
}

static int setup(void **state)
{
    memset(&said, 0, sizeof(said));
    return agentrig_new(state);
}

static void stand_still(void)
{
    said.answers = true;
    said.conf.to_loop(said.conf.arg);
}

/* As the hub does of a machine whose disks it has not named yet: nothing is tracked. */
static void desire_protection(struct agentrig *f)
{
    Leeward__Control__V1__AgentDesired m = LEEWARD__CONTROL__V1__AGENT_DESIRED__INIT;

    m.version = 7;
    m.protect = true;
    fakehub_desire_agent(&f->hub, &m);
}

static void the_last_point_begins_when_the_source_stands_still(void **state)
{
    struct agentrig *f = *state;

    stand_still();
    RUN_UNTIL(f, said.points == 1);
    said.conf.to_loop(said.conf.arg);
    said.looks = 0;
    RUN_UNTIL(f, said.looks >= LOOKS);
    assert_int_equal(said.points, 1);
    assert_int_equal(said.begun, 1);
    assert_int_equal(f->hub.results, 0); /* the point is the answer */
}

/* Its order's end is told by the hold. */
static void no_point_begins_for_an_order_that_is_over(void **state)
{
    struct agentrig *f = *state;

    said.is_over = true;
    stand_still();
    RUN_UNTIL(f, said.begun == 1);
    said.looks = 0;
    RUN_UNTIL(f, said.looks >= LOOKS);
    assert_int_equal(said.points, 0);
    assert_int_equal(said.begun, 1);
    assert_int_equal(f->hub.results, 0);
}

static void a_point_that_cannot_begin_is_the_answer(void **state)
{
    struct agentrig *f = *state;

    said.refuses = true;
    stand_still();
    RUN_UNTIL(f, f->hub.results == 1);
    assert_string_equal(f->hub.last_result_id, COMMAND);
    assert_string_equal(f->hub.last_result_code, err_code_name(ERR_REFUSED));
    assert_int_equal(said.points, 1);
}

/* An agent that has just been started: the point would be refused. Nothing is asked of the hold before, so that another order still ends this one. */
static void the_point_waits_until_the_agent_protects(void **state)
{
    struct agentrig *f = *state;

    desire_protection(f);
    RUN_UNTIL(f, said.is_wanted);
    stand_still();
    RUN_UNTIL(f, !said.answers);
    said.looks = 0;
    RUN_UNTIL(f, said.looks >= LOOKS);
    assert_int_equal(said.begun, 0);
    assert_int_equal(said.points, 0);
    said.is_ready = true;
    RUN_UNTIL(f, said.points == 1);
    assert_int_equal(said.begun, 1);
}

static void commit(const char *command_id)
{
    said.result_of = command_id;
    said.conf.to_loop(said.conf.arg);
}

static void a_last_point_of_disks_that_were_written_to_is_refused(void **state)
{
    struct agentrig *f = *state;

    stand_still();
    RUN_UNTIL(f, said.points == 1);
    said.has_moved = true;
    commit(COMMAND);
    RUN_UNTIL(f, f->hub.results == 1);
    assert_string_equal(f->hub.last_result_id, COMMAND);
    assert_string_equal(f->hub.last_result_code, err_code_name(ERR_REFUSED));
    assert_int_equal(said.stood, 1);
}

/* What was asked for beside it says nothing of the disks. */
static void other_points_do_not_ask_whether_the_disks_stood_still(void **state)
{
    struct agentrig *f = *state;

    stand_still();
    RUN_UNTIL(f, said.points == 1);
    said.has_moved = true;
    commit("another command");
    RUN_UNTIL(f, f->hub.results == 1);
    assert_string_equal(f->hub.last_result_code, "");
    assert_int_equal(said.stood, 0);
    said.has_moved = false;
    commit(COMMAND);
    RUN_UNTIL(f, f->hub.results == 2);
    assert_string_equal(f->hub.last_result_id, COMMAND);
    assert_string_equal(f->hub.last_result_code, "");
    assert_int_equal(said.stood, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, agentrig_free)
    const struct CMUnitTest tests[] = {
        TEST(the_last_point_begins_when_the_source_stands_still),
        TEST(no_point_begins_for_an_order_that_is_over),
        TEST(a_point_that_cannot_begin_is_the_answer),
        TEST(the_point_waits_until_the_agent_protects),
        TEST(a_last_point_of_disks_that_were_written_to_is_refused),
        TEST(other_points_do_not_ask_whether_the_disks_stood_still),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
