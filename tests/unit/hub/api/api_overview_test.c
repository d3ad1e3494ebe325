/* SPDX-License-Identifier: Apache-2.0
 *
 * Overview, alerts and history over the API, on rows that the control plane's own statements stored. Every answer is held to the document.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/alert_store.h"
#include "hub/db/health_store.h"
#include "hub/db/housekeeping.h"
#include "hub/db/history_store.h"
#include "hub/db/space_store.h"
#include "tests/unit/hub/api/api_fixture.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"

#define GOOD "11111111-1111-4111-8111-111111111111"
#define LATE "22222222-2222-4222-8222-222222222222"
#define NEW "33333333-3333-4333-8333-333333333333"
#define SAFE "44444444-4444-4444-8444-444444444444"
#define SHOP "44444444-4444-4444-8444-444444444441"
#define DAY_USEC (86400 * USEC_PER_SEC)

static void make_fleet(struct db_conn *conn)
{
    fixture_machine(conn, GOOD, "good");
    fixture_machine(conn, LATE, "late");
    fixture_machine(conn, NEW, "new");
    fixture_vault(conn, SAFE, "safe");
    fixture_script(conn,
        "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT m.id, p.id, '" SAFE
        "' FROM machines m, policies p"
        " WHERE p.is_default AND m.name IN ('good', 'late');"
        "UPDATE machines SET state = 'protected', last_point_at = now() - interval '1 hour', clock_skew_usec = "
        "-3600000000,"
        " last_point_sequence = 5 WHERE name = 'good';" /* its clock is behind */
        "UPDATE machines SET state = 'protected', last_point_at = now() - interval '1 hour', last_point_sequence = 5"
        " WHERE name = 'late';"
        "UPDATE vaults SET used_bytes = 9007199254740993, free_bytes = 5, capacity_bytes = 9007199254740999"
        " WHERE name = 'safe';"
        "INSERT INTO consistency_groups (id, name) VALUES ('" SHOP "', 'shop');"
        "INSERT INTO consistency_group_members (machine_id, group_id) SELECT id, '" SHOP "' FROM machines;"
        "INSERT INTO jobs (id, kind, status, finished_at) VALUES (gen_random_uuid(), 'resync', 'failed', now()),"
        " (gen_random_uuid(), 'resync', 'failed', now() - interval '2 days'),"
        " (gen_random_uuid(), 'export', 'running', NULL), (gen_random_uuid(), 'export', 'waiting_for_input', NULL)");
}

static json_int_t number(const json_t *object, const char *group, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(object, group), name));
}

#define ALERT(id, code, kind, subject, severity, state)                                                                \
    "{\"id\":\"" id "\",\"code\":\"" code "\",\"subject_kind\":\"" kind "\",\"subject_id\":\"" subject                 \
    "\",\"detail\":\"\",\"severity\":\"" severity "\",\"state\":\"" state                                              \
    "\",\"cause\":\"c\",\"remedy\":\"r of " severity "\",\"since_usec\":1790000000000000,\"lacks_usec\":0,"            \
    "\"eased_usec\":0,\"change\":\"raised\",\"text_values\":{\"rpo_seconds\":61,\"name\":\"" severity "\"}}"
#define FIRST "55555555-5555-4555-8555-555555555551"

static void make_alerts(struct db_conn *conn)
{
    static const char alerts[] = "[" ALERT(FIRST, "rpo_not_met", "machine", LATE, "critical", "firing") "," ALERT(
        "55555555-5555-4555-8555-555555555552", "rpo_not_met", "machine", NEW, "warning",
        "firing") "," ALERT("55555555-5555-4555-8555-555555555553", "vault_filling", "vault", SAFE, "warning",
        "acknowledged") "," ALERT("55555555-5555-4555-8555-555555555554", "clock_skew", "machine", NEW, "warning",
        "resolved") "," ALERT("55555555-5555-4555-8555-555555555555", "agent_silent", "machine", NEW, "critical",
        "pending") "," ALERT("55555555-5555-4555-8555-555555555556", "no_group_point", "group", SHOP, "warning",
        "firing") "]";
    struct err err = ERR_INIT;

    assert_ok(alert_apply(conn, alerts, "[]", &err), &err);
}

static void the_overview_counts_what_there_is(void **state)
{
    static const struct text_value rpo[] = {VALUE_NUMBER("rpo_seconds", 3600), VALUE_NUMBER("target_seconds", 15), {0}};
    static const struct text_value full[] = {VALUE_TEXT("form", "full"), VALUE_NUMBER("full_percent", 90), {0}};
    static const struct health_put found[] = {
        {"agent", GOOD, "healthy", "", "", "", NULL},
        {"agent", LATE, "critical", "rpo_not_met", "The RPO is 3600 s, its target 15 s", "Check the network.", rpo},
        {"vault", SAFE, "warning", "vault_filling", "Its disk is 90 % full", "Add a disk.", full},
    };
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;

    make_fleet(conn);
    for (size_t i = 0; i < ARRAY_LEN(found); i++)
        assert_ok(health_put(conn, &found[i], &err), &err);
    assert_ok(space_put(conn, SAFE, "{\"full_at\": \"2027-01-01T00:00:00.000000Z\", \"machines\": []}", &err), &err);
    make_alerts(conn);
    json_t *o = api_ask(f, "getOverview", "/api/v1/overview", NULL, 200);
    const json_t *vault = json_array_get(json_object_get(o, "capacity"), 0);
    const json_t *problems = json_object_get(o, "problems"), *worst = json_array_get(problems, 0);

    assert_int_equal(number(o, "health", "healthy"), 1);
    assert_int_equal(number(o, "health", "critical"), 1);
    assert_int_equal(number(o, "health", "unknown"), 1);
    assert_int_equal(number(o, "rpo", "met"), 1);
    assert_int_equal(number(o, "rpo", "not_met"), 1);
    assert_int_equal(number(o, "rpo", "unknown"), 0); /* what is not protected is promised nothing */
    assert_int_equal(number(o, "jobs", "running"), 1);
    assert_int_equal(number(o, "jobs", "waiting_for_input"), 1);
    assert_int_equal(number(o, "jobs", "failed_24h"), 1);
    assert_string_equal(member_text(vault, "used_bytes"), "9007199254740993");
    assert_string_equal(member_text(vault, "full_at"), "2027-01-01T00:00:00.000000Z");
    assert_int_equal(json_array_size(problems), 3);
    assert_string_equal(member_text(worst, "code"), "rpo_not_met");
    assert_string_equal(member_text(worst, "title"), "The RPO is above its target");
    assert_string_equal(member_text(worst, "severity"), "critical");
    assert_string_equal(member_text(worst, "remedy"), "r of critical");
    assert_string_equal(member_text(json_object_get(worst, "values"), "name"), "critical"); /* those of that remedy */
    assert_int_equal(json_integer_value(json_object_get(worst, "machines")), 2);
    assert_string_equal(member_text(json_array_get(problems, 1), "code"), "no_group_point");
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(problems, 1), "machines")), 3); /* of the group */
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(problems, 2), "machines")), 2); /* of the vault */
    assert_int_equal(number(o, "alerts", "firing"), 3);
    assert_int_equal(number(o, "alerts", "acknowledged"), 1);
    json_decref(o);
}

static void a_cause_is_served_with_its_values(void **state)
{
    struct api_fixture *f = *state;
    json_t *machine = api_ask(f, "getMachine", "/api/v1/machines/" LATE, NULL, 200);
    json_t *good = api_ask(f, "getMachine", "/api/v1/machines/" GOOD, NULL, 200);
    json_t *vault = api_ask(f, "getVault", "/api/v1/vaults/" SAFE, NULL, 200);

    assert_int_equal(number(machine, "cause_values", "rpo_seconds"), 3600);
    assert_int_equal(number(machine, "cause_values", "target_seconds"), 15);
    assert_int_equal(json_object_size(json_object_get(good, "cause_values")), 0);
    assert_true(json_number_value(json_object_get(good, "rpo_seconds")) < 60);
    assert_true(json_number_value(json_object_get(machine, "rpo_seconds")) >= 3600);
    assert_int_equal(number(vault, "cause_values", "full_percent"), 90);
    assert_string_equal(member_text(json_object_get(vault, "cause_values"), "form"), "full");
    json_decref(machine);
    json_decref(good);
    json_decref(vault);
}

/* ---- alerts ---- */

static size_t count_alerts(struct api_fixture *f, const char *query)
{
    AUTO_FREE char *path = mem_printf("/api/v1/alerts?%s", query);
    json_t *list = api_ask(f, "listAlerts", path, NULL, 200);
    size_t n = json_array_size(json_object_get(list, "items"));

    json_decref(list);
    return n;
}

static void alerts_are_filtered_and_sorted_like_everything(void **state)
{
    struct api_fixture *f = *state;

    assert_int_equal(count_alerts(f, ""), 5); /* a pending one is nobody's business */
    assert_int_equal(count_alerts(f, "state=firing,acknowledged"), 4);
    assert_int_equal(count_alerts(f, "state=firing&severity=critical"), 1);
    assert_int_equal(count_alerts(f, "code=rpo_not_met&machine_id=" LATE), 1);
    assert_int_equal(count_alerts(f, "vault_id=" SAFE), 1);
    assert_int_equal(count_alerts(f, "group_id=" SHOP), 1);
    assert_int_equal(count_alerts(f, "subject_kind=group&subject_name=sho"), 1);
    assert_int_equal(count_alerts(f, "subject_name=AFE&sort=-since"), 1);
    assert_int_equal(count_alerts(f, "before=2020-01-01T00:00:00Z"), 0);
    json_decref(api_ask(f, "listAlerts", "/api/v1/alerts?sort=nonsense", NULL, 400));
    json_decref(api_ask(f, "getAlert", "/api/v1/alerts/55555555-5555-4555-8555-555555555555", NULL, 404));
}

static void an_alert_is_acknowledged_by_name(void **state)
{
    const struct exchange refused = {.operation = "acknowledgeAlert",
        .path = "/api/v1/alerts/" FIRST "/acknowledge",
        .token = ((struct api_fixture *)*state)->viewer,
        .body = "{}"};
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard heard = {0}, other = {0};
    struct exchange by_operator = refused;
    json_t *again;

    api_exchange(f, &refused, 403, &heard);
    by_operator.token = f->operator;
    by_operator.body = "{\"note\": \"the line is down, ticket 12\"}";
    api_exchange(f, &by_operator, 200, &other);
    assert_string_equal(member_text(other.json, "state"), "acknowledged");
    assert_string_equal(member_text(other.json, "acknowledged_by"), "token:operator");
    assert_string_equal(member_text(other.json, "note"), "the line is down, ticket 12");
    again = api_ask(f, "acknowledgeAlert", "/api/v1/alerts/" FIRST "/acknowledge", "{}", 200);
    assert_string_equal(member_text(again, "acknowledged_by"), "token:operator");
    json_decref(again);
    json_decref(api_ask(f, "acknowledgeAlert", "/api/v1/alerts/" GOOD "/acknowledge", "{}", 404));
}

/* ---- history ---- */

static void put_minute(struct db_conn *conn, uint64_t minute_usec, unsigned rpo_sec, unsigned megabytes)
{
    AUTO_FREE char *json =
        mem_printf("[{\"id\":\"" GOOD "\",\"minute_usec\":%llu,\"rpo_max_usec\":%u,\"rpo_sum_usec\":%u,"
                   "\"rpo_count\":2,\"changed_bytes\":%u,\"sent_bytes\":%u,\"points\":60,"
                   "\"frozen_points\":1,\"backlog_bytes\":7},"
                   "{\"id\":\"99999999-9999-4999-8999-999999999999\",\"minute_usec\":60000000,"
                   "\"rpo_max_usec\":1,\"rpo_sum_usec\":1,\"rpo_count\":1,\"changed_bytes\":0,"
                   "\"sent_bytes\":0,\"points\":0,\"frozen_points\":0,\"backlog_bytes\":0}]",
            (unsigned long long)minute_usec, rpo_sec * 1000000, rpo_sec * 1000000, megabytes * 60000000,
            megabytes * 30000000);
    struct err err = ERR_INIT;

    assert_non_null(json);
    assert_ok(history_put(conn, json, &err), &err);
}

static json_t *ask_history(struct api_fixture *f, uint64_t from, uint64_t to, const char *more, long status)
{
    char a[CLOCK_RFC3339_SIZE], b[CLOCK_RFC3339_SIZE], path[256];

    clock_rfc3339(from, a);
    clock_rfc3339(to, b);
    snprintf(path, sizeof(path), "/api/v1/machines/good/history?from=%s&to=%s%s", a, b, more);
    return api_ask(f, "getHistory", path, NULL, status);
}

static double at(const json_t *history, const char *column, size_t i)
{
    return json_number_value(json_array_get(json_object_get(history, column), i));
}

static void history_has_gaps_where_nothing_was_measured(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    uint64_t day = clock_utc_usec() / DAY_USEC * DAY_USEC - DAY_USEC; /* yesterday */
    uint64_t minute = 60 * USEC_PER_SEC;

    put_minute(conn, day, 2, 1);
    put_minute(conn, day + minute, 4, 3);
    put_minute(conn, day + minute, 6, 1); /* the rest of that minute, from another session */
    put_minute(conn, day + 4 * minute, 8, 1);
    json_t *h = ask_history(f, day, day + 6 * minute, "", 200);
    const json_t *worst = json_object_get(h, "rpo_max_seconds");

    assert_int_equal(json_integer_value(json_object_get(h, "step_seconds")), 60);
    assert_int_equal(json_integer_value(json_object_get(h, "count")), 6);
    assert_int_equal(json_array_size(worst), 6);
    assert_true(json_is_null(json_array_get(worst, 2)) && json_is_null(json_array_get(worst, 3)) &&
                json_is_null(json_array_get(worst, 5)));
    assert_int_equal(at(h, "rpo_max_seconds", 1), 6);
    assert_float_equal(at(h, "rpo_average_seconds", 1), 2.5, 0.001);
    assert_int_equal(at(h, "changed_bytes_per_second", 1), 4000000);
    assert_int_equal(at(h, "sent_bytes_per_second", 4), 500000);
    assert_int_equal(at(h, "rpo_target_seconds", 0), 0);
    assert_int_equal(json_integer_value(json_object_get(h, "rpo_target_seconds")), 15);
    json_decref(h);
    h = ask_history(f, day, day + DAY_USEC, "&step=hour", 200);
    assert_int_equal(json_integer_value(json_object_get(h, "count")), 24);
    assert_int_equal(at(h, "rpo_max_seconds", 0), 8);
    assert_int_equal(at(h, "points", 0), 240);
    assert_int_equal(at(h, "changed_bytes_per_second", 0), 6 * 60000000 / 3600);
    assert_true(json_is_null(json_array_get(json_object_get(h, "points"), 1)));
    json_decref(h);
    h = ask_history(f, day - 300 * DAY_USEC, day + DAY_USEC, "", 200); /* only days go that far back */
    assert_int_equal(json_integer_value(json_object_get(h, "step_seconds")), 86400);
    assert_int_equal(at(h, "points", 300), 240);
    json_decref(h);
}

/* ---- a year of it ---- */

#define YEAR_DAYS 365u
#define HOURS ((YEAR_DAYS + 1) * 24u)

/* What is measured in the first minute of hour i. */
static unsigned hour_rpo_sec(size_t i)
{
    return (unsigned)(i * 7919 % 97) + 1;
}

static unsigned hour_points(size_t i)
{
    return (unsigned)(i * 31 % 61);
}

static unsigned hour_changed_mb(size_t i)
{
    return (unsigned)(i * 13 % 43);
}

/* One minute of each hour from `first` on, stored as the control plane stores a batch. */
static void put_year(struct db_conn *conn, uint64_t first)
{
    AUTO_BUF struct buf json = BUF_INIT(8u << 20);
    struct err err = ERR_INIT;

    for (size_t i = 0; i < HOURS; i++)
        assert_ok(
            buf_printf(&json, &err,
                "%s{\"id\":\"" GOOD "\",\"minute_usec\":%llu,\"rpo_max_usec\":%llu,\"rpo_sum_usec\":%llu,"
                "\"rpo_count\":2,\"changed_bytes\":%llu,\"sent_bytes\":86400,\"points\":%u,"
                "\"frozen_points\":0,\"backlog_bytes\":%zu}",
                i ? "," : "[", (unsigned long long)(first + i * 3600 * USEC_PER_SEC), hour_rpo_sec(i) * 1000000ULL,
                hour_rpo_sec(i) * 1000000ULL, hour_changed_mb(i) * 1000000ULL, hour_points(i), i),
            &err);
    assert_ok(buf_append_str(&json, "]", &err), &err);
    assert_ok(history_put(conn, buf_str(&json, &err), &err), &err);
}

/* One step of the answer against the hours that it covers. */
static void assert_step(const json_t *h, size_t step, size_t first_hour, size_t hours, unsigned step_sec)
{
    unsigned worst = 0, points = 0;
    double rpo = 0, changed = 0;

    for (size_t i = first_hour; i < first_hour + hours; i++) {
        worst = hour_rpo_sec(i) > worst ? hour_rpo_sec(i) : worst;
        rpo += hour_rpo_sec(i);
        points += hour_points(i);
        changed += hour_changed_mb(i) * 1e6;
    }
    assert_int_equal(at(h, "rpo_max_seconds", step), worst);
    assert_float_equal(at(h, "rpo_average_seconds", step), rpo / (double)hours / 2, 0.001);
    assert_int_equal(at(h, "points", step), points);
    assert_float_equal(at(h, "changed_bytes_per_second", step), changed / step_sec, 1);
    assert_int_equal(at(h, "sent_bytes_per_second", step), 86400 * hours / step_sec);
    assert_int_equal(at(h, "backlog_bytes", step), first_hour + hours - 1);
}

static json_t *ask_grain(struct api_fixture *f, uint64_t from, uint64_t to, unsigned step_sec, size_t count)
{
    json_t *h = ask_history(f, from, to, "", 200);
    AUTO_FREE char *text = json_dumps(h, JSON_COMPACT);

    assert_int_equal(json_integer_value(json_object_get(h, "step_seconds")), step_sec);
    assert_int_equal(json_integer_value(json_object_get(h, "count")), count);
    assert_int_equal(json_array_size(json_object_get(h, "points")), count);
    assert_true(strlen(text) < 128 * 1024); /* however long the time is */
    return h;
}

static void keep_house(struct db_conn *conn)
{
    struct err err = ERR_INIT;
    size_t at = 0;
    int rc;

    while ((rc = housekeeping(conn, &at, &err)) > 0)
        ;
    assert_ok(rc, &err);
}

static void a_year_comes_as_days_two_months_as_hours_and_a_day_as_minutes(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    uint64_t today = clock_utc_usec() / DAY_USEC * DAY_USEC, first = today - YEAR_DAYS * DAY_USEC;
    json_t *h;

    fixture_script(conn, "DELETE FROM samples; DELETE FROM sample_rollups");
    put_year(conn, first);
    keep_house(conn); /* minutes and hours that are too old have gone; what is told stays right */
    h = ask_grain(f, first, today, 86400, YEAR_DAYS);
    for (size_t day = 0; day < YEAR_DAYS; day++)
        assert_step(h, day, day * 24, 24, 86400);
    json_decref(h);
    h = ask_grain(f, today - 58 * DAY_USEC, today, 3600, 58 * 24);
    for (size_t hour = 0; hour < 58 * 24; hour++)
        assert_step(h, hour, (YEAR_DAYS - 58) * 24 + hour, 1, 3600);
    json_decref(h);
    h = ask_grain(f, today - DAY_USEC, today, 60, 1440);
    for (size_t minute = 0; minute < 1440; minute++) {
        if (minute % 60 == 0)
            assert_step(h, minute, (YEAR_DAYS - 1) * 24 + minute / 60, 1, 60);
        else
            assert_true(json_is_null(json_array_get(json_object_get(h, "points"), minute)));
    }
    json_decref(h);
}

static void history_refuses_what_makes_no_sense(void **state)
{
    struct api_fixture *f = *state;
    uint64_t now = clock_utc_usec();

    json_decref(ask_history(f, now, now - USEC_PER_SEC, "", 400));
    json_decref(ask_history(f, now - 30 * DAY_USEC, now, "&step=minute", 400));
    json_decref(ask_history(f, now - DAY_USEC, now, "&step=second", 400));
    json_decref(api_ask(f, "getHistory", "/api/v1/machines/nobody/history", NULL, 404));
    json_decref(api_ask(f, "getHistory", "/api/v1/machines/new/history", NULL, 200));
}

static unsigned count_rows(struct db_conn *conn, const char *table)
{
    AUTO_FREE char *text = mem_printf("SELECT count(*) FROM %s", table);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec_values(conn, &r, &err, text, NULL, 0, false), &err);
    return (unsigned)db_u64(r, 0, 0);
}

static void history_is_kept_for_its_time_and_no_longer(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    uint64_t now = clock_utc_usec();

    fixture_script(conn, "DELETE FROM samples; DELETE FROM sample_rollups");
    put_minute(conn, now - 4 * DAY_USEC, 1, 1);
    put_minute(conn, now - 70 * DAY_USEC, 1, 1);
    put_minute(conn, now - 2000 * DAY_USEC, 1, 1);
    put_minute(conn, now, 1, 1);
    assert_int_equal(count_rows(conn, "samples"), 4);
    assert_int_equal(count_rows(conn, "sample_rollups"), 8);
    keep_house(conn);
    assert_int_equal(count_rows(conn, "samples"), 1);
    assert_int_equal(count_rows(conn, "sample_rollups WHERE step_sec = 3600"), 2);
    assert_int_equal(count_rows(conn, "sample_rollups WHERE step_sec = 86400"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_overview_counts_what_there_is),
        cmocka_unit_test(a_cause_is_served_with_its_values),
        cmocka_unit_test(alerts_are_filtered_and_sorted_like_everything),
        cmocka_unit_test(an_alert_is_acknowledged_by_name),
        cmocka_unit_test(history_has_gaps_where_nothing_was_measured),
        cmocka_unit_test(a_year_comes_as_days_two_months_as_hours_and_a_day_as_minutes),
        cmocka_unit_test(history_refuses_what_makes_no_sense),
        cmocka_unit_test(history_is_kept_for_its_time_and_no_longer),
    };

    return cmocka_run_group_tests_name("api_overview", tests, api_fixture_up, api_fixture_down);
}
