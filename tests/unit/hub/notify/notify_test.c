/* SPDX-License-Identifier: Apache-2.0
 *
 * Deliveries on a real PostgreSQL: a storm is one message, each change goes into one delivery of a channel, a claim is a lease. And the
 * words of messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>

#include "hub/db/channel_store.h"
#include "hub/db/secret_box.h"
#include "hub/notify/alert_message.h"
#include "hub/notify/weekly_report.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"

#define HUB "7f3c9f0e-5a64-4d5e-8d0a-111111111111"

static uint64_t ask(struct db_conn *conn, const char *text)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec_values(conn, &r, &err, text, NULL, 0, false), &err);
    return db_u64(r, 0, 0);
}

static void make_channel(struct db_conn *conn, const char *name, const char *severity, uint64_t group_usec)
{
    const struct channel_row row = {.name = name,
        .kind = "webhook",
        .enabled = true,
        .min_severity = severity,
        .send_resolved = true,
        .group_usec = group_usec,
        .url = "https://127.0.0.1:1/",
        .server = "",
        .security = "starttls",
        .username = "",
        .from_address = "",
        .to_json = "[]",
        .ca_certificate = ""};
    char id[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    assert_ok(channel_create(conn, &row, "key", id, &err), &err);
}

static void stored_secret(struct db_conn *conn, const char *name, char id[IDENT_TEXT_SIZE], char out[400])
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, "SELECT id, secret FROM alert_channels WHERE name = $1", DB_S(name)), 1);
    (void)snprintf(id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    (void)snprintf(out, 400, "%s", db_text(r, 0, 1));
}

static void clean(struct db_conn *conn)
{
    fixture_script(conn, "DELETE FROM alerts; DELETE FROM alert_channels");
}

/* `count` machines have become silent. */
static void storm(struct db_conn *conn, unsigned count, const char *severity)
{
    AUTO_FREE char *text = mem_printf(
        "WITH a AS (INSERT INTO alerts (id, code, subject_kind, subject_id, severity, state, since, cause, remedy)"
        " SELECT gen_random_uuid(), 'certificate_expiry', 'hub', gen_random_uuid(), '%s', 'firing', now(), 'c', 'r'"
        " FROM generate_series(1, %u) RETURNING id, severity, cause)"
        " INSERT INTO alert_changes (alert_id, change, severity, cause) SELECT id, 'raised', severity, cause FROM a",
        severity, count);

    assert_non_null(text);
    fixture_script(conn, text);
}

static int form(struct db_conn *conn, uint64_t *ret_wait)
{
    struct err err = ERR_INIT;
    int made = delivery_form(conn, ret_wait, &err);

    assert_ok(made, &err);
    return made;
}

/* ---- secrets ---- */

static void a_secret_lies_sealed_and_opens_where_it_belongs_only(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE], sealed[400], sealed_other[400];
    AUTO_FREE char *secret = NULL;
    char *none = NULL;
    struct err err = ERR_INIT;

    clean(conn);
    make_channel(conn, "one", "warning", 0);
    make_channel(conn, "two", "warning", 0);
    stored_secret(conn, "one", id, sealed);
    stored_secret(conn, "two", other, sealed_other);
    assert_true(strncmp(sealed, "lws1:", 5) == 0);
    assert_string_not_equal(sealed, sealed_other); /* a nonce of its own */
    assert_ok(secret_open(f->db, id, sealed, &secret, &err), &err);
    assert_string_equal(secret, "key");
    assert_int_equal(secret_open(f->db, other, sealed, &none, &err), -1); /* moved to another row */
    assert_int_equal(err.code, ERR_CORRUPT);
    sealed[strlen(sealed) - 3] ^= 1;
    assert_int_equal(secret_open(f->db, id, sealed, &none, &err), -1);
    sealed[20] = '!';
    assert_int_equal(secret_open(f->db, id, sealed, &none, &err), -1);
    assert_int_equal(secret_open(f->db, id, "lws1:", &none, &err), -1);
    assert_int_equal(secret_open(f->db, id, "key", &none, &err), -1); /* what is not sealed is not believed */
    assert_null(none);
}

static void a_hub_with_another_ca_says_so(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct db_options options = {
        .dsn = postgres_embedded_dsn(f->pg), .secret_key = (const uint8_t *)"another key of another CA, same.."};
    char id[IDENT_TEXT_SIZE], sealed[400];
    struct db *foreign = NULL;
    char *none = NULL;
    struct err err = ERR_INIT;

    clean(conn);
    make_channel(conn, "one", "warning", 0);
    stored_secret(conn, "one", id, sealed);
    assert_ok(db_new(&options, &foreign, &err), &err);
    assert_int_equal(secret_open(foreign, id, sealed, &none, &err), -1);
    assert_non_null(strstr(err.text, "another CA"));
    assert_true(strlen(err.correction) > 0);
    db_free(foreign);
}

static void what_an_older_version_left_is_sealed(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE], sealed[400];
    AUTO_FREE char *secret = NULL;
    struct err err = ERR_INIT;

    clean(conn);
    make_channel(conn, "old", "warning", 0);
    fixture_script(conn, "UPDATE alert_channels SET secret_sealed = false, secret = 'in the clear'");
    assert_ok(secret_seal_old(conn, &err), &err);
    assert_ok(secret_seal_old(conn, &err), &err); /* once is enough */
    stored_secret(conn, "old", id, sealed);
    assert_null(strstr(sealed, "clear"));
    assert_ok(secret_open(f->db, id, sealed, &secret, &err), &err);
    assert_string_equal(secret, "in the clear");
}

static void a_storm_is_one_message(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct delivery_claim claim = {0};
    struct err err = ERR_INIT;
    uint64_t wait;

    clean(conn);
    storm(conn, 5, "critical"); /* before there was a channel: not its business */
    make_channel(conn, "all", "warning", 0);
    make_channel(conn, "critical", "critical", 0);
    assert_int_equal(form(conn, &wait), 0);
    storm(conn, 3000, "warning");
    assert_int_equal(form(conn, &wait), 2);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_deliveries"), 1);
    assert_int_equal(ask(conn, "SELECT change_count FROM alert_deliveries"), 3000);
    assert_int_equal(delivery_claim(conn, USEC_PER_SEC, &claim, &wait, &err), 1);
    AUTO_ALERT_MESSAGE struct alert_message message = {0};

    assert_ok(alert_message_make(&claim, HUB, &message, &err), &err);
    assert_string_equal(message.subject, "[Leeward] 3000 alerts: 3000 warning");
    assert_non_null(strstr(message.text, "... and 2800 more"));
    storm(conn, 7, "critical"); /* while the first is under way: they wait for the next */
    assert_int_equal(form(conn, &wait), 1);
    assert_int_equal(ask(conn, "SELECT sum(change_count) FROM alert_deliveries d JOIN alert_channels c ON c.id ="
                               " d.channel_id WHERE c.name = 'critical'"),
        7);
    assert_ok(delivery_done(conn, claim.id, &err), &err);
    delivery_claim_done(&claim);
    assert_int_equal(form(conn, &wait), 1);
    assert_int_equal(ask(conn, "SELECT sum(change_count) FROM alert_deliveries d JOIN alert_channels c ON c.id ="
                               " d.channel_id WHERE c.name = 'all'"),
        3007);
}

static void the_first_change_waits_for_others(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    uint64_t wait;

    clean(conn);
    make_channel(conn, "patient", "warning", 40 * USEC_PER_SEC);
    storm(conn, 1, "warning");
    assert_int_equal(form(conn, &wait), 0);
    assert_true(wait > 0 && wait <= 40 * USEC_PER_SEC);
    fixture_script(conn, "UPDATE alert_changes SET at = at - interval '41 seconds'");
    storm(conn, 1, "warning");
    assert_int_equal(form(conn, &wait), 1);
    assert_int_equal(ask(conn, "SELECT change_count FROM alert_deliveries"), 2);
}

#define HUBS 3
#define ROUNDS 100
#define STORMS 70

static void *form_beside(void *arg)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(arg);

    for (int i = 0; i < ROUNDS; i++) {
        struct err err = ERR_INIT;
        uint64_t wait;

        assert_ok(delivery_form(conn, &wait, &err), &err);
        fixture_script(conn, "UPDATE alert_deliveries SET state = 'delivered' WHERE state = 'queued'");
    }
    return NULL;
}

static void hubs_put_each_change_into_one_delivery(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    pthread_t hubs[HUBS];

    clean(conn);
    make_channel(conn, "shared", "warning", 0);
    for (int i = 0; i < HUBS; i++)
        assert_int_equal(pthread_create(&hubs[i], NULL, form_beside, state), 0);
    for (int i = 0; i < STORMS; i++)
        storm(conn, 3, "warning");
    for (int i = 0; i < HUBS; i++)
        assert_int_equal(pthread_join(hubs[i], NULL), 0);
    (void)form_beside(state);
    assert_int_equal(ask(conn, "SELECT sum(change_count) FROM alert_deliveries"), 3 * STORMS);
    assert_int_equal(
        ask(conn, "SELECT count(DISTINCT a->>'id') FROM alert_deliveries, jsonb_array_elements(body->'alerts') a"),
        3 * STORMS);
}

static void a_claim_runs_out_and_a_failure_waits(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct delivery_claim claim = {0}, other = {0};
    struct err err = ERR_INIT;
    uint64_t wait;

    clean(conn);
    make_channel(conn, "lease", "warning", 0);
    storm(conn, 1, "warning");
    assert_int_equal(form(conn, &wait), 1);
    assert_int_equal(delivery_claim(conn, 50 * USEC_PER_SEC, &claim, &wait, &err), 1);
    assert_true(strncmp(claim.secret, "lws1:", 5) == 0);
    assert_int_equal(delivery_claim(conn, 50 * USEC_PER_SEC, &other, &wait, &err), 0);
    assert_true(wait > 20 * USEC_PER_SEC && wait <= 50 * USEC_PER_SEC);
    fixture_script(conn, "UPDATE alert_deliveries SET lease_until = now()"); /* its hub is gone */
    assert_int_equal(delivery_claim(conn, 50 * USEC_PER_SEC, &other, &wait, &err), 1);
    assert_string_equal(other.id, claim.id);
    assert_int_equal(other.attempts, 2);
    assert_ok(delivery_failed(conn, other.id, "no", 30 * USEC_PER_SEC, &err), &err);
    delivery_claim_done(&other);
    assert_int_equal(delivery_claim(conn, USEC_PER_SEC, &other, &wait, &err), 0);
    assert_ok(delivery_failed(conn, claim.id, "never", 0, &err), &err);
    delivery_claim_done(&claim);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM alert_deliveries WHERE state = 'failed' AND last_error = 'never'"), 1);
    fixture_script(conn,
        "UPDATE alert_channels SET enabled = false; UPDATE alert_deliveries SET state = 'queued', next_at = now()");
    assert_int_equal(delivery_claim(conn, USEC_PER_SEC, &other, &wait, &err), 0);
    assert_true(wait > USEC_PER_SEC); /* nobody turns in circles around a channel that is off */
}

/* ---- the weekly report ---- */

static void a_report_is_made_once_a_week_by_one_hub(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state), *other AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    clean(conn);
    make_channel(conn, "week", "warning", 0);
    fixture_script(conn,
        "UPDATE alert_channels SET weekly_report = true; UPDATE report_schedule SET last_at = now() - interval "
        "'8 days'");
    assert_ok(weekly_report_look(conn, &err), &err);
    assert_ok(weekly_report_look(other, &err), &err);
    assert_int_equal(ask(conn, "SELECT count(*) FROM alert_deliveries WHERE kind = 'report'"), 1);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM report_schedule WHERE last_at <= now() AND extract(isodow FROM last_at"
                  " AT TIME ZONE 'UTC') = 1 AND extract(hour FROM last_at AT TIME ZONE 'UTC') = 6"),
        1);
    fixture_script(conn, "INSERT INTO settings (key, value) VALUES ('report_weekday', '3'), ('report_hour', '22');"
                         "UPDATE report_schedule SET last_at = now() - interval '8 days'");
    assert_ok(weekly_report_look(conn, &err), &err);
    assert_int_equal(
        ask(conn, "SELECT count(*) FROM report_schedule WHERE last_at <= now() AND extract(isodow FROM last_at"
                  " AT TIME ZONE 'UTC') = 3 AND extract(hour FROM last_at AT TIME ZONE 'UTC') = 22"),
        1);
    fixture_script(conn, "DELETE FROM settings WHERE key LIKE 'report_%'");
}

static void a_report_counts_the_hours_in_which_the_rpo_was_kept(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_WEEKLY_REPORT struct weekly_report report = {0};
    const uint64_t now = clock_utc_usec();
    const struct report_period week = {now - WEEKLY_REPORT_USEC, now};
    struct err err = ERR_INIT;

    fixture_machine(conn, "11111111-1111-4111-8111-111111111111", "=HYPERLINK(\"<b>\")");
    fixture_vault(conn, "22222222-2222-4222-8222-222222222222", "safe");
    fixture_script(conn,
        "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT m.id, p.id, v.id FROM machines m, policies p,"
        " vaults v WHERE p.is_default;"
        "INSERT INTO sample_rollups (machine_id, step_sec, start, rpo_max_usec, rpo_sum_usec, rpo_count, "
        "changed_bytes, points)"
        " SELECT id, 3600, date_trunc('hour', now()) - make_interval(hours => n), CASE WHEN n = 3 THEN 60000000 ELSE "
        "2000000"
        " END, 4000000, 4, 1000, 3600 FROM machines, generate_series(1, 4) n;"
        "INSERT INTO sample_rollups (machine_id, step_sec, start, rpo_max_usec, points)" /* before the week */
        " SELECT id, 3600, now() - interval '9 days', 900000000, 1 FROM machines");
    assert_ok(weekly_report_make(conn, &week, &report, &err), &err);
    assert_non_null(
        strstr(report.csv, "\r\n\"'=HYPERLINK(\"\"<b>\"\")\",\"unprotected\",\"unknown\",\"default\",15,4,3,60.000000,"
                           "1.000000,4000,0,14400,0,"));
    assert_non_null(strstr(report.html, "<td>=HYPERLINK(&quot;&lt;b&gt;&quot;)</td>"));
    assert_non_null(strstr(report.html, "<td>75.0 % of the hours</td>"));
    assert_non_null(strstr(report.text, "kept in 75.0 % of the hours"));
}

static void what_peers_say_breaks_no_header(void **state)
{
    const struct delivery_claim claim = {.id = "d",
        .kind = "alerts",
        .channel_name = "c",
        .created_at = 1790000000000000,
        .body =
            "{\"critical\":1,\"warning\":0,\"resolved\":0,\"alerts\":[{\"change\":\"raised\",\"severity\":\"critical\","
            "\"code\":\"agent_silent\",\"subject_kind\":\"machine\",\"subject_name\":\"web\\r\\nBcc: x@y\","
            "\"cause\":\"\\u8aac\\n.\\nQUIT\",\"remedy\":\"r\",\"since\":\"s\"}]}"};
    AUTO_ALERT_MESSAGE struct alert_message message = {0};
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(alert_message_make(&claim, HUB, &message, &err), &err);
    assert_string_equal(message.subject, "[Leeward] critical: web  Bcc: x@y: An agent is silent");
    assert_string_equal(message.date, "Mon, 21 Sep 2026 14:13:20 +0000");
    assert_null(strstr(message.text, "\nBcc"));
    assert_null(strstr(message.text, "\n.\n"));
}

static void a_subject_that_is_not_ascii_is_encoded(void **state)
{
    (void)state;
    AUTO_FREE char *plain = alert_message_encode("just text");
    AUTO_FREE char *encoded = alert_message_encode("\xc3\xa5\xc3\xa4\xc3\xb6");
    AUTO_FREE char *long_one = mem_alloc(301, 1);

    assert_string_equal(plain, "just text");
    assert_string_equal(encoded, "=?UTF-8?B?w6XDpMO2?=");
    for (int i = 0; i < 300; i += 3)
        memcpy(long_one + i, "\xe4\xb8\xad", 3);
    AUTO_FREE char *many = alert_message_encode(long_one);

    for (char *line = strtok(many, "\r\n"); line; line = strtok(NULL, "\r\n"))
        assert_true(strlen(line) <= 76);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_lies_sealed_and_opens_where_it_belongs_only),
        cmocka_unit_test(a_hub_with_another_ca_says_so),
        cmocka_unit_test(what_an_older_version_left_is_sealed),
        cmocka_unit_test(a_storm_is_one_message),
        cmocka_unit_test(the_first_change_waits_for_others),
        cmocka_unit_test(hubs_put_each_change_into_one_delivery),
        cmocka_unit_test(a_claim_runs_out_and_a_failure_waits),
        cmocka_unit_test(a_report_is_made_once_a_week_by_one_hub),
        cmocka_unit_test(a_report_counts_the_hours_in_which_the_rpo_was_kept),
        cmocka_unit_test(what_peers_say_breaks_no_header),
        cmocka_unit_test(a_subject_that_is_not_ascii_is_encoded),
    };

    return cmocka_run_group_tests_name("notify", tests, postgres_fixture_up, postgres_fixture_down);
}
