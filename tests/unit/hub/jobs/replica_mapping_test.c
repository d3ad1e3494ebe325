/* SPDX-License-Identifier: Apache-2.0
 *
 * From the mappings of a machine and its site to what a failover runs with: which entry a card gets, what becomes of its address, what a test gets instead,
 * and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/fixup/fixup_spec.h"
#include "hub/jobs/replica_mapping.h"
#include "transport/base/mem.h"

#define TWO_CARDS                                                                                                      \
    "[{\"name\":\"eno1\",\"mac\":\"52:54:00:AA:00:01\",\"addresses\":[\"10.1.0.7/16\",\"fd00::7/64\"]},"               \
    "{\"name\":\"eno2\",\"mac\":\"52:54:00:aa:00:02\",\"addresses\":[\"192.168.5.7/24\"]}]"
#define ONE_CARD "[{\"name\":\"eno1\",\"mac\":\"52:54:00:aa:00:01\",\"addresses\":[\"10.1.0.7/16\"]}]"

/* What comes of it, as text; NULL where it is refused. */
static char *apply(const char *machine, const char *site, const char *nics, bool test, const char *options)
{
    json_t *m = json_loads(machine, 0, NULL), *s = json_loads(site, 0, NULL), *n = json_loads(nics, 0, NULL);
    json_t *o = json_loads(options, 0, NULL), *a = json_loads("[\"10.1.0.7\"]", 0, NULL);
    const struct replica_mapping_question q = {.machine = m, .site = s, .nics = n, .addresses = a, .test = test};
    struct err err = ERR_INIT;
    char *text = NULL;

    assert_true(m && s && n && o && a);
    if (replica_mapping_apply(&q, o, &err) == 0) {
        assert_int_equal(fixup_spec_check(json_object_get(o, "fixups"), &err), 0);
        text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    } else {
        assert_int_equal(err.code, ERR_REFUSED);
        assert_true(err.correction[0]);
    }
    json_decref(m);
    json_decref(s);
    json_decref(n);
    json_decref(o);
    json_decref(a);
    return text;
}

static void expect(
    const char *machine, const char *site, const char *nics, bool test, const char *options, const char *result)
{
    AUTO_FREE char *text = apply(machine, site, nics, test, options);

    if (!result) {
        assert_null(text);
        return;
    }
    assert_non_null(text);
    assert_string_equal(text, result);
}

static void what_the_failover_asks_for_goes_before_the_machine_and_that_before_its_site(void **state)
{
    (void)state;
    expect("{}", "{}", ONE_CARD, false, "{}", "{}");
    expect("{\"cpus\":4}", "{\"cpus\":2,\"memory_bytes\":1073741824}", ONE_CARD, false, "{}",
        "{\"cpus\":4,\"memory_bytes\":1073741824}");
    expect("{\"cpus\":4}", "{\"cpus\":2}", ONE_CARD, false, "{\"cpus\":1}", "{\"cpus\":1}");
    expect("{\"cpus\":4,\"nics\":[{\"source\":\"*\",\"network\":\"prod\"}]}", "{}", ONE_CARD, false,
        "{\"mapping\":false}", "{\"mapping\":false}");
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"prod\"}]}", "{}", ONE_CARD, false, "{\"network\":\"other\"}",
        "{\"network\":\"other\"}");
    /* An empty name is no network at all. */
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"prod\",\"ip\":{\"method\":\"dhcp\"}}]}", "{}", ONE_CARD, false,
        "{\"network\":\"\"}", "{\"network\":\"\"}");
}

static void a_card_gets_the_first_entry_that_fits_it_of_the_machine_first(void **state)
{
    static const char site[] = "{\"nics\":[{\"source\":\"10.1.0.0/16\",\"network\":\"lan\",\"test_network\":\"drill\"},"
                               "{\"source\":\"*\",\"network\":\"rest\"}]}";

    (void)state;
    expect("{}", site, TWO_CARDS, false, "{}",
        "{\"nics\":[{\"isolated\":false,\"network\":\"lan\",\"source\":\"eno1\"},"
        "{\"isolated\":false,\"network\":\"rest\",\"source\":\"eno2\"}]}");
    /* By its hardware address, whatever the case of its letters; the other one by the site's. */
    expect("{\"nics\":[{\"source\":\"52:54:00:aa:00:01\",\"network\":\"own\"}]}", site, TWO_CARDS, false, "{}",
        "{\"nics\":[{\"isolated\":false,\"network\":\"own\",\"source\":\"eno1\"},"
        "{\"isolated\":false,\"network\":\"rest\",\"source\":\"eno2\"}]}");
    /* By name; an entry without a network takes the card away. */
    expect("{\"nics\":[{\"source\":\"eno2\"}]}", site, TWO_CARDS, false, "{}",
        "{\"nics\":[{\"isolated\":false,\"network\":\"lan\",\"source\":\"eno1\"}]}");
    /* An agent that told of no card: there is one, with the machine's addresses. */
    expect("{}", site, "[]", false, "{}", "{\"nics\":[{\"isolated\":false,\"network\":\"lan\",\"source\":\"\"}]}");
}

/* A test never gets the network of a failover. */
static void a_test_gets_its_own_network_or_none(void **state)
{
    static const char mapping[] =
        "{\"nics\":[{\"source\":\"eno1\",\"network\":\"prod\",\"test_network\":\"drill\",\"ip\":{\"method\":\"static\","
        "\"address\":\"192.0.2.7/24\"},\"test_ip\":{\"method\":\"dhcp\"}},{\"source\":\"eno2\",\"network\":\"prod\"}]}";

    (void)state;
    expect(mapping, "{}", TWO_CARDS, true, "{}",
        "{\"fixups\":{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"dhcp\",\"name\":\"eno1\"}]}},"
        "\"nics\":[{\"isolated\":true,\"network\":\"drill\",\"source\":\"eno1\"}]}");
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"prod\",\"ip\":{\"method\":\"dhcp\"}}]}", "{}", ONE_CARD, true,
        "{}", "{\"nics\":[]}");
}

static void addresses_become_fixups(void **state)
{
    (void)state;
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/"
           "24\",\"gateway\":\"192.0.2.1\"}}]}",
        "{}", ONE_CARD, false, "{\"fixups\":{\"agent\":false}}",
        "{\"fixups\":{\"agent\":false,\"network\":{\"address\":\"192.0.2.7/24\",\"gateway\":\"192.0.2.1\",\"method\":"
        "\"static\"}},\"nics\":[{\"isolated\":false,\"network\":\"p\",\"source\":\"eno1\"}]}");
    /* What the failover itself says of addresses is the last word. */
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"ip\":{\"method\":\"dhcp\"}}]}", "{}", ONE_CARD, false,
        "{\"fixups\":{\"network\":{\"method\":\"keep\"}}}",
        "{\"fixups\":{\"network\":{\"method\":\"keep\"}},"
        "\"nics\":[{\"isolated\":false,\"network\":\"p\",\"source\":\"eno1\"}]}");
    expect("{\"nics\":[{\"source\":\"eno1\",\"network\":\"p\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/"
           "24\"}},"
           "{\"source\":\"eno2\",\"network\":\"q\",\"ip\":{\"method\":\"dhcp\"}}]}",
        "{}", TWO_CARDS, false, "{}",
        "{\"fixups\":{\"network\":{\"method\":\"each\",\"nics\":[{\"address\":\"192.0.2.7/24\",\"method\":\"static\","
        "\"name\":\"eno1\"},{\"method\":\"dhcp\",\"name\":\"eno2\"}]}},"
        "\"nics\":[{\"isolated\":false,\"network\":\"p\",\"source\":\"eno1\"},"
        "{\"isolated\":false,\"network\":\"q\",\"source\":\"eno2\"}]}");
    /* One map for the machine, each line of it once. */
    expect("{}",
        "{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"ip\":{\"method\":\"translate\",\"map\":[{\"from\":\"10.1.0.0/"
        "16\",\"to\":\"10.9.0.0/16\"}]}}]}",
        TWO_CARDS, false, "{}",
        "{\"fixups\":{\"network\":{\"map\":[{\"from\":\"10.1.0.0/16\",\"to\":\"10.9.0.0/16\"}],\"method\":"
        "\"translate\"}},\"nics\":[{\"isolated\":false,\"network\":\"p\",\"source\":\"eno1\"},"
        "{\"isolated\":false,\"network\":\"p\",\"source\":\"eno2\"}]}");
    expect("{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"ip\":{\"method\":\"keep\"}}]}", "{}", ONE_CARD, false,
        "{}", "{\"nics\":[{\"isolated\":false,\"network\":\"p\",\"source\":\"eno1\"}]}");
}

static void what_does_not_fit_the_machine_is_refused(void **state)
{
    (void)state;
    expect(
        "{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/24\"}}]}",
        "{}", TWO_CARDS, false, "{}", NULL);
    expect("{\"nics\":[{\"source\":\"eno1\",\"network\":\"p\",\"ip\":{\"method\":\"dhcp\"}},"
           "{\"source\":\"eno2\",\"network\":\"p\"}]}",
        "{}", TWO_CARDS, false, "{}", NULL);
    /* One address in two entries, however it is written. */
    expect(
        "{\"nics\":[{\"source\":\"eno1\",\"network\":\"p\",\"ip\":{\"method\":\"static\",\"address\":\"fd00::7/64\"}},"
        "{\"source\":\"eno2\",\"network\":\"p\",\"ip\":{\"method\":\"static\",\"address\":\"FD00:0::7/48\"}}]}",
        "{}", TWO_CARDS, false, "{}", NULL);
    /* An agent that tells of no card, and entries that name one. */
    expect("{\"nics\":[{\"source\":\"eno1\",\"network\":\"p\"}]}", "{}", "[]", false, "{}", NULL);
    expect("{}", "{\"nics\":[{\"source\":\"52:54:00:aa:00:01\",\"network\":\"p\"}]}", "[]", true, "{}", NULL);
    expect("{}", "{\"nics\":[{\"source\":\"10.2.0.0/16\",\"network\":\"p\"}]}", "[]", false, "{}", "{\"nics\":[]}");
    expect("{\"nics\":[{\"source\":\"eno1\",\"network\":\"p\"}]}", "{\"nics\":[{\"source\":\"*\",\"network\":\"q\"}]}",
        "[]", false, "{}", "{\"nics\":[{\"isolated\":false,\"network\":\"q\",\"source\":\"\"}]}");
}

/* `count` cards, all of which the mapping has a network for. */
static bool fits(size_t count)
{
    json_t *nics = json_array();

    for (size_t i = 0; i < count; i++) {
        char name[16];

        snprintf(name, sizeof(name), "eno%zu", i);
        json_array_append_new(nics, json_pack("{s:s, s:s, s:[]}", "name", name, "mac", "", "addresses"));
    }
    AUTO_FREE char *text = json_dumps(nics, 0);
    AUTO_FREE char *result = apply("{\"nics\":[{\"source\":\"*\",\"network\":\"p\"}]}", "{}", text, false, "{}");

    json_decref(nics);
    return result != NULL;
}

static void more_cards_than_a_replica_may_have_are_refused(void **state)
{
    (void)state;
    assert_true(fits(FIXUP_NICS_MAX));
    assert_false(fits(FIXUP_NICS_MAX + 1));
}

static void mappings_are_checked_when_they_are_made(void **state)
{
    static const struct {
        const char *mapping, *names; /* names NULL: right */
        bool of_site;
    } cases[] = {
        {"{}", NULL, true},
        {"{\"cpus\":2,\"memory_bytes\":1073741824,\"nics\":[]}", NULL, true},
        {"{\"nics\":[{\"source\":\"52:54:00:aa:00:01\"},{\"source\":\"10.0.0.0/8\"},{\"source\":\"eth0.7\"}]}", NULL,
            true},
        {"{\"nics\":[{\"source\":\"*\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/24\"}}]}", NULL, false},
        {"{\"nics\":[{\"source\":\"*\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/24\"}}]}", "ip.method",
            true},
        {"{\"nics\":[{\"source\":\"*\",\"test_ip\":{\"method\":\"each\",\"nics\":[{\"method\":\"dhcp\"}]}}]}",
            "ip.method", false},
        {"{\"nics\":[{\"source\":\"*\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7\"}}]}", "network.address",
            false},
        {"{\"nics\":[{\"source\":\"*\",\"network\":\"p\",\"test_network\":\"p\"}]}", "test_network", false},
        {"{\"nics\":[{\"source\":\"*\",\"network\":\"\"}]}", "network", false},
        {"{\"nics\":[{\"source\":\"a b\"}]}", "source", false},
        {"{\"nics\":[{\"source\":\"10.0.0.0/33\"}]}", "source", false},
        {"{\"nics\":[{}]}", "source", false},
        {"{\"nics\":[7]}", "nics", false},
        {"{\"nics\":{}}", "nics", false},
        {"{\"nics\":[{\"source\":\"*\",\"vlan\":7}]}", "vlan", false},
        {"{\"cpus\":0}", "cpus", false},
        {"{\"memory_bytes\":1}", "memory_bytes", false},
        {"{\"disks\":1}", "disks", false},
        {"[]", "mapping", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *mapping = json_loads(cases[i].mapping, 0, NULL);
        struct err err = ERR_INIT;
        int rc = replica_mapping_check(mapping, cases[i].of_site, &err);

        assert_int_equal(rc, cases[i].names ? -1 : 0);
        if (cases[i].names) {
            assert_int_equal(err.code, ERR_INVALID);
            assert_non_null(strstr(err.text, cases[i].names));
        }
        json_decref(mapping);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_failover_asks_for_goes_before_the_machine_and_that_before_its_site),
        cmocka_unit_test(a_card_gets_the_first_entry_that_fits_it_of_the_machine_first),
        cmocka_unit_test(a_test_gets_its_own_network_or_none),
        cmocka_unit_test(addresses_become_fixups),
        cmocka_unit_test(what_does_not_fit_the_machine_is_refused),
        cmocka_unit_test(more_cards_than_a_replica_may_have_are_refused),
        cmocka_unit_test(mappings_are_checked_when_they_are_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
