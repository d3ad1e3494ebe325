/* SPDX-License-Identifier: Apache-2.0
 *
 * Scopes and roles by themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hub/api/api_auth.h"
#include "transport/base/mem.h"

static bool may(const char *scopes, const char *wanted)
{
    struct principal p = {.scopes = json_loads(scopes, 0, NULL)};
    bool yes = principal_may(&p, wanted);

    principal_done(&p);
    return yes;
}

static void scopes_cover_what_they_say(void **state)
{
    static const struct {
        const char *scopes, *wanted;
        bool yes;
    } rows[] = {
        {"[\"*\"]", "machines:protect", true},
        {"[\"machines:read\"]", "machines:read", true},
        {"[\"machines:read\"]", "machines:write", false},
        {"[\"machines:*\"]", "machines:protect", true},
        {"[\"machines:*\"]", "policies:read", false},
        {"[\"*:read\"]", "audit:read", true},
        {"[\"*:read\"]", "audit:write", false},
        {"[\"mach:read\"]", "machines:read", false},
        {"[\"machines\"]", "machines:read", false},
        {"[]", "machines:read", false},
        {"[7, null]", "machines:read", false},
        {"[\"*:read\", \"!audit:read\"]", "audit:read", false},
        {"[\"!audit:read\", \"*:read\"]", "audit:read", false},
        {"[\"*:read\", \"!audit:read\"]", "machines:read", true},
        {"[\"!audit:read\"]", "machines:read", false},
        {"[]", NULL, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(may(rows[i].scopes, rows[i].wanted), rows[i].yes);
}

static void a_star_is_not_within_less(void **state)
{
    struct principal p = {.scopes = json_loads("[\"*:read\", \"tokens:write\"]", 0, NULL)};
    json_t *all = json_loads("[\"*\"]", 0, NULL), *reading = json_loads("[\"machines:read\", \"*:read\"]", 0, NULL);

    (void)state;
    assert_false(principal_covers(&p, all));
    assert_true(principal_covers(&p, reading));
    json_decref(all);
    json_decref(reading);
    principal_done(&p);
}

static void each_role_has_its_scopes_and_others_none(void **state)
{
    json_t *admin = role_scopes("admin"), *viewer = role_scopes("viewer"), *other = role_scopes("root");

    (void)state;
    assert_int_equal(json_array_size(admin), 1);
    assert_int_equal(json_array_size(viewer), 3);
    assert_int_equal(json_array_size(other), 0);
    json_decref(admin);
    json_decref(viewer);
    json_decref(other);
}

static void the_bearer_form_is_found(void **state)
{
    (void)state;
    assert_string_equal(api_auth_bearer("Bearer lwt_x"), "lwt_x");
    assert_string_equal(api_auth_bearer("bearer   lwt_x"), "lwt_x");
    assert_null(api_auth_bearer("Basic eDp5"));
    assert_null(api_auth_bearer("Bearer "));
    assert_null(api_auth_bearer(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes_cover_what_they_say),
        cmocka_unit_test(a_star_is_not_within_less),
        cmocka_unit_test(each_role_has_its_scopes_and_others_none),
        cmocka_unit_test(the_bearer_form_is_found),
    };

    return cmocka_run_group_tests_name("hub_api_auth", tests, NULL, NULL);
}
