/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub says of a group, also where it says it wrongly: its word lies on the agent's disk meanwhile. A list that is refused is named as what it is.
 */
#include "mobility/group/group_desired.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/mem.h"
#include "transport/proto/wire.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define MANY (GROUP_MEMBERS_MAX + 1)
#define GROUP_ID "11111111-2222-4333-8444-555555555555"
#define NOBODY "00000000-0000-0000-0000-000000000000"

/* A group of machines 0, 1, 2, ... as the hub tells it; tests spoil it. */
struct told {
    Leeward__Control__V1__DesiredGroup group;
    Leeward__Control__V1__GroupMember members[MANY], *list[MANY];
    char ids[MANY][IDENT_TEXT_SIZE];
};

static void tell(struct told *t, unsigned count)
{
    t->group = (Leeward__Control__V1__DesiredGroup)LEEWARD__CONTROL__V1__DESIRED_GROUP__INIT;
    t->group.group_id = (char *)GROUP_ID;
    t->group.name = (char *)"shop";
    t->group.number = 9;
    t->group.membership = 300;
    t->group.interval_usec = 60000000;
    t->group.freeze_budget_usec = 150000;
    t->group.members = t->list;
    t->group.n_members = count;
    for (unsigned i = 0; i < count; i++) {
        snprintf(t->ids[i], sizeof(t->ids[i]), "00000000-0000-4000-8000-%012u", i + 1);
        t->members[i] = (Leeward__Control__V1__GroupMember)LEEWARD__CONTROL__V1__GROUP_MEMBER__INIT;
        t->members[i].machine_id = t->ids[i];
        t->members[i].name = (char *)"m";
        t->members[i].address = (char *)"10.0.0.7:20004";
        t->list[i] = &t->members[i];
    }
    t->group.coordinator_id = t->ids[0];
}

/* Machine 1 reads it, into memory that held something else. */
static int read_told(const struct told *t, struct group_wish *w, struct err *err)
{
    struct ident self;

    assert_int_equal(ident_from_text("00000000-0000-4000-8000-000000000002", &self), 0);
    memset(w, 0xa5, sizeof(*w));
    return group_desired_read(&t->group, &self, w, err);
}

static void test_a_list_is_taken_as_it_is(void **state)
{
    static struct group_wish w;
    static struct told t;

    (void)state;
    for (unsigned count = 2; count <= GROUP_MEMBERS_MAX; count += 31) {
        tell(&t, count);
        t.group.coordinator_id = t.ids[1];
        assert_int_equal(read_told(&t, &w, NULL), 0);
        assert_int_equal(w.count, count);
        assert_string_equal(w.name, "shop");
        assert_int_equal(w.number, 9);
        assert_int_equal(w.membership, 300);
        assert_int_equal(w.interval_usec, 60000000);
        assert_int_equal(w.budget_usec, 150000);
        assert_true(ident_equal(&w.coordinator, &w.members[1].id));
        assert_string_equal(w.members[count - 1].address, "10.0.0.7:20004");
    }
}

static void refused(const struct told *t, const char *says)
{
    static struct group_wish w;
    struct err err = ERR_INIT;

    assert_int_equal(read_told(t, &w, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.text, says))
        fail_msg("it says: %s", err.text);
}

static void test_wrong_lists_are_refused_and_say_why(void **state)
{
    static struct told t;
    char name[40], address[400];

    (void)state;
    tell(&t, 0);
    refused(&t, "not among the members");
    tell(&t, 1);
    refused(&t, "not among the members");
    tell(&t, MANY);
    refused(&t, "65 machines, 64 at most");
    tell(&t, 3);
    t.members[2].machine_id = t.ids[1];
    refused(&t, "twice in the group");
    tell(&t, 3);
    t.group.group_id = (char *)NOBODY;
    refused(&t, "a group without a proper id");
    t.group.group_id = (char *)"";
    refused(&t, "a group without a proper id");
    for (unsigned i = 0; i < 4; i++) {
        static const char *const ids[] = {
            "", NOBODY, "00000000-0000-4000-8000-00000000000", "no id at all, and long as well"};
        tell(&t, 3);
        t.members[2].machine_id = (char *)ids[i];
        t.members[2].name = name;
        snprintf(name, sizeof(name), "web%u", i);
        refused(&t, name); /* which one it is */
    }
    tell(&t, 3);
    memset(address, 'a', sizeof(address));
    address[sizeof(address) - 1] = '\0';
    t.members[2].address = address;
    t.members[2].name = (char *)"web9";
    refused(&t, "web9");
}

/* Of a machine that has not said where it is, or said nonsense: it takes no part, and the others need the list all the same. */
static void test_an_address_that_leads_nowhere_is_its_machines_matter(void **state)
{
    static const char *const addresses[] = {"", "db1", "db1:", ":20004", "db1:99999", "[::1:4", "\x01\xff:1"};
    static struct group_wish w;
    static struct told t;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        tell(&t, 3);
        t.members[2].address = (char *)addresses[i];
        assert_int_equal(read_told(&t, &w, NULL), 0);
        assert_int_equal(w.count, 3);
    }
}

static void test_a_coordinator_that_is_no_member_gives_way_to_the_first(void **state)
{
    static const char *const ids[] = {"", NOBODY, GROUP_ID, "garbage"};
    static struct group_wish w;
    static struct told t;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        tell(&t, 3);
        t.group.coordinator_id = (char *)ids[i];
        assert_int_equal(read_told(&t, &w, NULL), 0);
        assert_true(ident_equal(&w.coordinator, &w.members[0].id));
    }
}

/* What lies on the disk may be anything: it is no message, or one whose list is read or refused. */
static void test_what_was_damaged_on_disk_is_read_or_refused(void **state)
{
    static struct group_wish w;
    static struct told t;
    struct buf good AUTO_BUF = BUF_INIT(1u << 16), bad AUTO_BUF = BUF_INIT(1u << 16);
    unsigned seed = 5, read = 0;

    (void)state;
    tell(&t, 3);
    assert_int_equal(wire_pack(&t.group.base, &good, NULL), 0);
    for (unsigned i = 0; i < 20000; i++) {
        struct ident self;
        ProtobufCMessage *m;
        struct err err = ERR_INIT;
        buf_clear(&bad);
        assert_int_equal(buf_append(&bad, good.data, good.len, NULL), 0);
        for (unsigned n = (unsigned)rand_r(&seed) % 3 + 1; n > 0; n--)
            bad.data[(unsigned)rand_r(&seed) % bad.len] = (uint8_t)rand_r(&seed);
        if (wire_unpack(&leeward__control__v1__desired_group__descriptor, bad.data, bad.len, &m, &err) < 0)
            continue;
        assert_int_equal(ident_from_text(t.ids[1], &self), 0);
        memset(&w, 0xa5, sizeof(w));
        if (group_desired_read((const Leeward__Control__V1__DesiredGroup *)m, &self, &w, &err) == 0) {
            assert_in_range(w.count, 1, GROUP_MEMBERS_MAX);
            read++;
        } else {
            assert_int_equal(err.code, ERR_INVALID);
        }
        wire_free(m);
    }
    assert_true(read > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_is_taken_as_it_is),
        cmocka_unit_test(test_wrong_lists_are_refused_and_say_why),
        cmocka_unit_test(test_an_address_that_leads_nowhere_is_its_machines_matter),
        cmocka_unit_test(test_a_coordinator_that_is_no_member_gives_way_to_the_first),
        cmocka_unit_test(test_what_was_damaged_on_disk_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
