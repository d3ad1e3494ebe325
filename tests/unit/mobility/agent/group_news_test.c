/* SPDX-License-Identifier: Apache-2.0
 *
 * What an agent says of its group to a hub that comes and goes: a real agent and its session with a hub on the same loop. The group's other machine is
 * never there, so each group point that the hub asks for is missed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/mobility/agent/agentrig.h"
#include "tests/unit/rpc/rununtil.h"
#include "transport/base/clock.h"

#define GROUP "11111111-2222-4333-8444-555555555555"
#define OTHER "11111111-2222-4333-8444-666666666666"

static void tell_group(struct agentrig *f, uint64_t version, bool in_group)
{
    Leeward__Control__V1__GroupMember self = LEEWARD__CONTROL__V1__GROUP_MEMBER__INIT, other = self,
                                      *members[] = {&self, &other};
    Leeward__Control__V1__DesiredGroup group = LEEWARD__CONTROL__V1__DESIRED_GROUP__INIT;
    Leeward__Control__V1__AgentDesired m = LEEWARD__CONTROL__V1__AGENT_DESIRED__INIT;

    self.machine_id = f->identity.id_text;
    other.machine_id = (char *)OTHER;
    group.group_id = (char *)GROUP;
    group.number = 9;
    group.membership = 1;
    group.members = members;
    group.n_members = 2;
    m.version = version;
    m.group = in_group ? &group : NULL;
    fakehub_desire_agent(&f->hub, &m);
}

static void ask(struct agentrig *f, const char *command)
{
    Leeward__Control__V1__CreateGroupPoint create = LEEWARD__CONTROL__V1__CREATE_GROUP_POINT__INIT;
    Leeward__Control__V1__Command c = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__Directive d = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;

    create.group_id = (char *)GROUP;
    c.command_id = (char *)(uintptr_t)command;
    c.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_GROUP_POINT;
    c.create_group_point = &create;
    d.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND;
    d.command = &c;
    fakehub_send(&f->hub, &d);
}

static void come_back(struct agentrig *f)
{
    unsigned hellos = f->hub.hellos;

    fakehub_stop(&f->hub);
    fakehub_start(&f->hub, f->loop, f->address);
    RUN_UNTIL(f, f->hub.hellos == hellos + 1);
}

/* It may have been lost with the session before, and the next group point may be a day away. */
static void a_hub_that_comes_back_hears_the_latest_of_the_group_again(void **state)
{
    struct agentrig *f = *state;
    uint64_t began = clock_mono_usec(), age;

    tell_group(f, 1, true);
    ask(f, "first");
    RUN_UNTIL(f, f->hub.group_news == 1);
    assert_int_equal(f->hub.group_missed, 1);
    age = f->hub.group_age_usec;
    come_back(f);
    RUN_UNTIL(f, f->hub.group_news == 2);
    assert_int_equal(f->hub.group_missed, 1);
    assert_true(f->hub.group_age_usec > age); /* it is told as what it is, and not as new */
    assert_true(f->hub.group_age_usec < clock_mono_usec() - began);
    ask(f, "second");
    RUN_UNTIL(f, f->hub.group_missed == 2);
    come_back(f);
    RUN_UNTIL(f, f->hub.group_news == 4);
    assert_int_equal(f->hub.group_missed, 2);
}

/* In the statuses that come meanwhile there would have been time for it. */
static void come_back_and_listen(struct agentrig *f)
{
    unsigned statuses;

    come_back(f);
    statuses = f->hub.statuses;
    RUN_UNTIL(f, f->hub.statuses >= statuses + 3);
}

static void an_agent_that_has_nothing_to_say_of_a_group_says_nothing(void **state)
{
    struct agentrig *f = *state;

    come_back_and_listen(f);
    assert_int_equal(f->hub.group_news, 0);
    tell_group(f, 1, true);
    ask(f, "first");
    RUN_UNTIL(f, f->hub.group_news == 1 && f->hub.results == 1);
    tell_group(f, 2, false);
    ask(f, "second");
    RUN_UNTIL(f, f->hub.results == 2); /* it is in no group any more */
    come_back_and_listen(f);
    assert_int_equal(f->hub.group_news, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, agentrig_new, agentrig_free)
    const struct CMUnitTest tests[] = {
        TEST(a_hub_that_comes_back_hears_the_latest_of_the_group_again),
        TEST(an_agent_that_has_nothing_to_say_of_a_group_says_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
