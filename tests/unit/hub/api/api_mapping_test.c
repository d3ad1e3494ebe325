/* SPDX-License-Identifier: Apache-2.0
 *
 * Mappings of machines and sites over the API: changed on the version that was read, checked, told with what they come to, and written in the audit log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/hub/api/api_fixture.h"

#define MACHINE "11111111-0000-4000-8000-000000000077"
#define PATH "/api/v1/machines/mapped/mapping"
#define SITE_PATH "/api/v1/sites/mapped/mapping"

static void world(struct api_fixture *f)
{
    api_sql(f, "DELETE FROM machines WHERE name = 'mapped'; DELETE FROM sites WHERE name = 'mapped';"
               "INSERT INTO sites (name) VALUES ('mapped');"
               "INSERT INTO machines (id, name, site_id, nics) SELECT '" MACHINE "', 'mapped', id,"
               " '[{\"name\":\"eno1\",\"mac\":\"52:54:00:aa:00:01\",\"addresses\":[\"10.1.0.7/16\"]}]' FROM sites"
               " WHERE name = 'mapped'");
}

static json_t *change(struct api_fixture *f, const char *operation, const char *path, const char *body, long status)
{
    const struct exchange x = {
        .operation = operation, .path = path, .token = f->admin, .body = body, .headers = {"If-Match: *"}};
    struct heard heard = {0};
    json_t *json;

    api_exchange(f, &x, status, &heard);
    json = json_incref(heard.json);
    heard_done(&heard);
    return json;
}

static const char *network_of(const json_t *mapping, const char *kind)
{
    return member_text(json_array_get(json_object_get(json_object_get(mapping, kind), "nics"), 0), "network");
}

static void a_machines_mapping_goes_before_its_sites(void **state)
{
    struct api_fixture *f = *state;
    json_t *mapping;

    world(f);
    mapping = api_ask(f, "getMachineMapping", PATH, NULL, 200);
    assert_string_equal(member_text(json_array_get(json_object_get(mapping, "machine_nics"), 0), "name"), "eno1");
    assert_null(json_object_get(json_object_get(mapping, "failover"), "nics"));
    json_decref(mapping);
    json_decref(change(f, "updateSiteMapping", SITE_PATH,
        "{\"cpus\":2,\"nics\":[{\"source\":\"10.1.0.0/16\",\"network\":\"prod\",\"test_network\":\"drill\"}]}", 200));
    mapping = change(f, "updateMachineMapping", PATH, "{\"cpus\":4}", 200);
    assert_string_equal(network_of(mapping, "failover"), "prod");
    assert_string_equal(network_of(mapping, "test"), "drill");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(mapping, "test"), "cpus")), 4);
    json_decref(mapping);
    mapping = change(f, "updateMachineMapping", PATH,
        "{\"cpus\":null,\"nics\":[{\"source\":\"eno1\",\"network\":\"own\",\"ip\":{\"method\":\"static\",\"address\":"
        "\"192.0.2.7/24\"}}]}",
        200);
    assert_string_equal(network_of(mapping, "failover"), "own");
    assert_string_equal(network_of(mapping, "test"), "");
    assert_true(json_is_null(json_object_get(mapping, "cpus")));
    assert_string_equal(
        member_text(json_object_get(json_object_get(mapping, "failover"), "network"), "address"), "192.0.2.7/24");
    json_decref(mapping);
}

static void a_mapping_is_changed_on_the_version_that_was_read(void **state)
{
    struct api_fixture *f = *state;
    struct exchange x = {.operation = "updateMachineMapping", .path = PATH, .token = f->admin, .body = "{\"cpus\":8}"};
    AUTO_HEARD struct heard without = {0};
    AUTO_HEARD struct heard done = {0};
    AUTO_HEARD struct heard stale = {0};
    char match[96];
    json_t *before;

    world(f);
    before = api_ask(f, "getMachineMapping", PATH, NULL, 200);
    api_exchange(f, &x, 428, &without);
    (void)snprintf(match, sizeof(match), "If-Match: \"%s\"", member_text(before, "etag"));
    x.headers[0] = match;
    api_exchange(f, &x, 200, &done);
    api_exchange(f, &x, 412, &stale);
    assert_string_not_equal(member_text(done.json, "etag"), member_text(before, "etag"));
    json_decref(before);
    /* A new name of the machine is no change of its mapping. */
    json_decref(change(f, "updateMachine", "/api/v1/machines/mapped", "{\"name\":\"mapped\"}", 200));
    before = api_ask(f, "getMachineMapping", PATH, NULL, 200);
    assert_string_equal(member_text(before, "etag"), member_text(done.json, "etag"));
    json_decref(before);
    before = api_ask(f, "listAudit", "/api/v1/audit?limit=20", NULL, 200);
    AUTO_FREE char *log = json_dumps(before, JSON_COMPACT);

    assert_non_null(strstr(log, "updateMachineMapping"));
    json_decref(before);
}

static void what_is_wrong_with_a_mapping_is_said(void **state)
{
    struct api_fixture *f = *state;
    struct exchange x = {.operation = "updateMachineMapping",
        .path = PATH,
        .token = f->viewer,
        .body = "{\"cpus\":8}",
        .headers = {"If-Match: *"}};
    AUTO_HEARD struct heard denied = {0};
    json_t *problem;

    world(f);
    problem = change(f, "updateSiteMapping", SITE_PATH,
        "{\"nics\":[{\"source\":\"*\",\"ip\":{\"method\":\"static\",\"address\":\"192.0.2.7/24\"}}]}", 400);
    assert_non_null(strstr(member_text(problem, "detail"), "static address"));
    json_decref(problem);
    json_decref(change(f, "updateMachineMapping", PATH, "{\"nics\":[{\"source\":\"not a card\"}]}", 400));
    json_decref(change(f, "updateMachineMapping", PATH, "{\"disks\":1}", 400));
    json_decref(change(f, "updateMachineMapping", "/api/v1/machines/nobody/mapping", "{\"cpus\":1}", 404));
    api_exchange(f, &x, 403, &denied);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machines_mapping_goes_before_its_sites),
        cmocka_unit_test(a_mapping_is_changed_on_the_version_that_was_read),
        cmocka_unit_test(what_is_wrong_with_a_mapping_is_said),
    };

    return cmocka_run_group_tests(tests, api_fixture_up, api_fixture_down);
}
