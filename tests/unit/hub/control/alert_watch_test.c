/* SPDX-License-Identifier: Apache-2.0
 *
 * Findings become rows of alerts, on a real PostgreSQL: raised once, kept by whoever acknowledged them, resolved, and told of as often
 * as something changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/control/alert_watch.h"
#include "hub/db/alert_store.h"
#include "hub/db/channel_store.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"
#define SAFE "33333333-3333-4333-8333-333333333333"

static uint64_t ask(struct db_conn *conn, const char *text)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec_values(conn, &r, &err, text, NULL, 0, false), &err);
    return db_u64(r, 0, 0);
}

/* A sweep in which this is all that is wrong with machine ONE; code NULL: nothing is. */
static void sweep(struct db_conn *conn, const char *code, enum health_level level)
{
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct health_findings found = {
        .count = code ? 1 : 0, .list[0] = {.level = level, .code = code, .cause = "cause", .remedy = "remedy"}};
    const struct alert_subject one = {"machine", ONE, "one", ""};
    struct err err = ERR_INIT;

    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    assert_ok(alert_watch_findings(&watch, &one, &found, &err), &err);
    assert_ok(alert_watch_end(conn, &watch, &err), &err);
}

static void clean(struct db_conn *conn, const char *raise_after, const char *clear_after)
{
    struct err err = ERR_INIT;

    fixture_script(conn,
        "DELETE FROM alerts; DELETE FROM jobs; DELETE FROM events; DELETE FROM machines; DELETE FROM vaults;"
        " UPDATE alert_sweep SET checked_at = NULL");
    fixture_machine(conn, ONE, "one");
    fixture_machine(conn, TWO, "two");
    fixture_vault(conn, SAFE, "safe");
    assert_ok(setting_put(conn, "alert_raise_after_seconds", raise_after, &err), &err);
    assert_ok(setting_put(conn, "alert_clear_after_seconds", clear_after, &err), &err);
}

static void an_alert_is_raised_once_and_resolved_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    clean(conn, "0", "0");
    for (int i = 0; i < 3; i++)
        sweep(conn, "rpo_not_met", HEALTH_WARNING);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'firing' AND severity = 'warning'"
                               " AND machine_id = '" ONE "' AND raised_at IS NOT NULL"),
        1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_changes WHERE change = 'raised'"), 1);
    sweep(conn, "rpo_not_met", HEALTH_CRITICAL);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_changes WHERE change = 'worsened'"), 1);
    for (int i = 0; i < 3; i++)
        sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'resolved' AND resolved_at IS NOT NULL"
                               " AND cause = 'cause' AND remedy = 'remedy'"),
        1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_changes"), 3);
    assert_int_equal(ask(conn, "SELECT count(*) FROM events WHERE code = 'alerts_changed'"), 3);
    sweep(conn, "rpo_not_met", HEALTH_WARNING); /* the next time is another alert */
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts"), 2);
}

/* Cut at sixty bytes such a name ends within a character, which PostgreSQL does not take: not one alert would be stored any more. */
static void a_long_name_in_another_script_is_cut_between_characters(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct health_findings found = {
        .count = 1, .list[0] = {.level = HEALTH_WARNING, .code = "clock_skew", .cause = "cause", .remedy = "r"}};
    const struct alert_subject one = {"machine", ONE,
        "x\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
        "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416",
        ""};
    struct err err = ERR_INIT;

    clean(conn, "0", "0");
    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    assert_ok(alert_watch_findings(&watch, &one, &found, &err), &err);
    assert_ok(alert_watch_end(conn, &watch, &err), &err);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'firing'"), 1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM events WHERE code = 'alerts_changed'"
                               " AND text_values->>'name_1' = 'x' || repeat(U&'\\0416', 29)"),
        1);
}

static void what_is_short_leaves_nothing(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    clean(conn, "3600", "0");
    sweep(conn, "rpo_not_met", HEALTH_CRITICAL);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'pending'"), 1);
    sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts"), 0);
    sweep(conn, "vault_unreachable", HEALTH_CRITICAL); /* told by the vault's own alert */
    sweep(conn, "agent_silent", HEALTH_UNKNOWN);       /* nothing is known of it: no alert */
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts"), 0);
}

static void an_acknowledgement_during_the_sweep_stays(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct health_findings found = {
        .count = 1, .list[0] = {.level = HEALTH_WARNING, .code = "clock_skew", .cause = "later", .remedy = "r"}};
    const struct alert_subject one = {"machine", ONE, "one", ""};
    AUTO_DB_SET struct db_set set = {0};
    const struct db_page page = {0};
    struct err err = ERR_INIT;

    clean(conn, "0", "0");
    sweep(conn, "clock_skew", HEALTH_WARNING);
    fixture_script(
        conn, "UPDATE alerts SET updated_at = now() - interval '1 hour'"); /* so that the text is stored again */
    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    assert_ok(db_list(conn, &db_alerts, &page, &set, &err), &err);
    assert_int_equal(set.count, 1);
    const char *id = db_at(&set, struct alert_row, 0)->id;

    assert_int_equal(alert_acknowledge(conn, id, "somebody", "on it", &err), 1);
    assert_int_equal(alert_acknowledge(conn, id, "another", "", &err), 0);
    assert_ok(alert_watch_findings(&watch, &one, &found, &err), &err);
    assert_ok(alert_watch_end(conn, &watch, &err), &err);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'acknowledged' AND cause = 'later'"
                               " AND acknowledged_by = 'somebody' AND note = 'on it'"),
        1);
    sweep(conn, "clock_skew", HEALTH_CRITICAL); /* worse: told again */
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'firing'"), 1);
}

static void a_failed_job_is_an_alert_until_one_of_its_kind_succeeds(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    clean(conn, "60", "0");
    fixture_script(conn, "INSERT INTO jobs (id, kind, status, machine_id, problem_text, finished_at) VALUES"
                         " (gen_random_uuid(), 'resync', 'failed', '" ONE "', 'no way', now() - interval '1 hour'),"
                         " (gen_random_uuid(), 'export', 'failed', '" ONE "', 'no disk', now() - interval '1 hour'),"
                         " (gen_random_uuid(), 'vault_verify', 'failed', NULL, 'x', now() - interval '30 hours');"
                         "UPDATE jobs SET vault_id = '" SAFE "' WHERE kind = 'vault_verify'");
    sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE code = 'job_failed' AND state = 'firing'"), 2);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM alerts WHERE detail = 'resync' AND cause LIKE 'The job resync failed: no way'"),
        1);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM alerts WHERE text_values = '{\"form\": \"plain\", \"job\": \"export\","
                  " \"problem\": \"no disk\", \"remedy\": \"\"}'"),
        1);
    fixture_script(conn, "INSERT INTO jobs (id, kind, status, machine_id, finished_at) VALUES"
                         " (gen_random_uuid(), 'resync', 'succeeded', '" ONE "', now()),"
                         " (gen_random_uuid(), 'export', 'succeeded', '" TWO "', now())");
    sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE detail = 'resync' AND state = 'resolved'"), 1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE detail = 'export' AND state = 'firing'"), 1);
}

/* A sweep in which the group of that id lacks points. */
static void sweep_group(struct db_conn *conn, const char *id)
{
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct health_findings found = {.count = 1,
        .list[0] = {.level = HEALTH_WARNING, .code = "no_group_point", .cause = "cause", .remedy = "remedy"}};
    const struct alert_subject shop = {"group", id, "shop", ""};
    struct err err = ERR_INIT;

    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    assert_ok(alert_watch_findings(&watch, &shop, &found, &err), &err);
    assert_ok(alert_watch_end(conn, &watch, &err), &err);
}

#define SHOP "44444444-4444-4444-8444-444444444444"

static void an_alert_of_a_group_goes_out_under_its_name_and_ends_with_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    const struct db_page page = {0};
    struct err err = ERR_INIT;
    uint64_t wait;

    clean(conn, "0", "0");
    fixture_script(conn, "INSERT INTO consistency_groups (id, name) VALUES ('" SHOP "', 'shop');"
                         " INSERT INTO alert_channels (name, kind, group_usec) VALUES ('hook', 'webhook', 0)");
    sweep_group(conn, SHOP);
    sweep_group(conn, SHOP);
    assert_ok(db_list(conn, &db_alerts, &page, &set, &err), &err);
    assert_int_equal(set.count, 1);
    assert_string_equal(db_at(&set, struct alert_row, 0)->subject_kind, "group");
    assert_string_equal(db_at(&set, struct alert_row, 0)->subject_name, "shop");
    assert_string_equal(db_at(&set, struct alert_row, 0)->group_id, SHOP);
    assert_ok(delivery_form(conn, &wait, &err), &err);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_deliveries WHERE body->'alerts'->0->>'subject_name' = 'shop'"
                               " AND body->'alerts'->0->>'subject_kind' = 'group'"),
        1);
    fixture_script(conn, "DELETE FROM consistency_groups; DELETE FROM alert_channels");
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts"), 0);
    sweep_group(conn, SHOP); /* it went while the sweep was under way */
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts"), 0);
}

static void certificates_of_hubs_are_watched(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    clean(conn, "0", "0");
    fixture_script(conn,
        "INSERT INTO certificates (serial, role, subject_id, fingerprint_sha256, not_before, not_after) VALUES"
        " ('1', 'hub', '" TWO "', 'x', now(), now() + interval '3 days')");
    sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM alerts WHERE code = 'certificate_expiry' AND subject_kind = 'hub'"), 1);
    fixture_script(
        conn, "UPDATE alerts SET text_values = '{}', updated_at = now() - interval '1 hour'"); /* of an older hub */
    sweep(conn, NULL, HEALTH_HEALTHY);
    fixture_script(conn,
        "INSERT INTO certificates (serial, role, subject_id, fingerprint_sha256, not_before, not_after) VALUES"
        " ('2', 'hub', '" TWO "', 'x', now(), now() + interval '300 days')");
    sweep(conn, NULL, HEALTH_HEALTHY);
    /* what is over keeps its last words */
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM alerts WHERE state = 'resolved' AND cause LIKE '%expires in 2 days'"
                  " AND text_values = '{\"form\": \"expires\", \"left_days\": 2}'"),
        1);
}

/* Ten thousand machines lose their node at once. */
static int64_t hub_behind(struct db_conn *conn)
{
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    struct err err = ERR_INIT;

    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    return watch.hub_behind_usec;
}

/* What two hubs measured says nothing of the clock of one. */
static void the_peers_of_one_hub_judge_its_clock(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    clean(conn, "0", "0");
    fixture_script(conn, "UPDATE machines SET online = true, clock_skew_usec = 3600000000;"
                         " UPDATE vaults SET online = true, clock_skew_usec = 3600000000; DELETE FROM hub_processes");
    assert_int_equal(hub_behind(conn), 0);
    fixture_script(conn,
        "INSERT INTO hub_processes (process_id, seen_at) VALUES (gen_random_uuid(), now() + interval '14 seconds')");
    assert_int_equal(hub_behind(conn), 3600000000);
    fixture_script(conn,
        "INSERT INTO hub_processes (process_id, seen_at) VALUES (gen_random_uuid(), now() + interval '14 seconds')");
    assert_int_equal(hub_behind(conn), 0);
    fixture_script(conn, "UPDATE hub_processes SET seen_at = now() + interval '1 hour' WHERE process_id ="
                         " (SELECT process_id FROM hub_processes LIMIT 1)");
    assert_int_equal(hub_behind(conn), 3600000000);
    fixture_script(conn, "UPDATE hub_processes SET seen_at = now() - interval '16 seconds'");
    assert_int_equal(hub_behind(conn), 0);
    fixture_script(conn, "DELETE FROM hub_processes");
}

static void a_storm_is_one_transaction(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_ALERT_WATCH struct alert_watch watch = {0};
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    clean(conn, "0", "0");
    fixture_script(conn,
        "INSERT INTO machines (id, name) SELECT gen_random_uuid(), 'storm-' || n FROM generate_series(1, 10000) n");
    assert_ok(alert_watch_begin(conn, &watch, &err), &err);
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id, name FROM machines WHERE name LIKE 'storm-%'"), 10000);
    for (int i = 0; i < 10000; i++) {
        const struct alert_subject s = {"machine", db_text(r, i, 0), db_text(r, i, 1), ""};
        struct health_findings found = {
            .count = 1, .list[0] = {.level = HEALTH_CRITICAL, .code = "agent_silent", .cause = "c", .remedy = "r"}};

        assert_ok(alert_watch_findings(&watch, &s, &found, &err), &err);
    }
    assert_ok(alert_watch_end(conn, &watch, &err), &err);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'firing'"), 10000);
    assert_int_equal(ask(conn, "SELECT count(DISTINCT updated_at) FROM alerts"), 1);
    assert_int_equal(ask(conn, "SELECT count(*) FROM events"), 1);
    sweep(conn, NULL, HEALTH_HEALTHY);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alerts WHERE state = 'resolved'"), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_alert_is_raised_once_and_resolved_once),
        cmocka_unit_test(a_long_name_in_another_script_is_cut_between_characters),
        cmocka_unit_test(what_is_short_leaves_nothing),
        cmocka_unit_test(an_acknowledgement_during_the_sweep_stays),
        cmocka_unit_test(a_failed_job_is_an_alert_until_one_of_its_kind_succeeds),
        cmocka_unit_test(an_alert_of_a_group_goes_out_under_its_name_and_ends_with_it),
        cmocka_unit_test(certificates_of_hubs_are_watched),
        cmocka_unit_test(the_peers_of_one_hub_judge_its_clock),
        cmocka_unit_test(a_storm_is_one_transaction),
    };

    return cmocka_run_group_tests_name("alert_watch", tests, postgres_fixture_up, postgres_fixture_down);
}
