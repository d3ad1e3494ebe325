/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/churn_store.h"
#include "hub/db/config_store.h"
#include "hub/db/health_store.h"
#include "hub/db/journal.h"
#include "hub/db/peer_store.h"
#include "hub/db/protection_store.h"
#include "hub/db/token_store.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define FINGERPRINT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void new_id(char out[IDENT_TEXT_SIZE])
{
    struct ident id;

    assert_int_equal(ident_random(&id), 0);
    ident_to_text(&id, out);
}

static const struct policy_row a_policy = {.name = "p",
    .interval_usec = 1000000,
    .rpo_target_usec = 15000000,
    .keep_all_usec = 86400000000,
    .freeze_budget_usec = 200000,
    .max_rounds = 12,
    .may_freeze = true,
    .compress_at_agent = true,
    .compress_level = 3};

/* ---- lists ---- */

static void make_sites(struct db_conn *conn, const char *prefix, int count)
{
    for (int i = 0; i < count; i++) {
        AUTO_FREE char *name = mem_printf("%s-%02d", prefix, i);
        const struct site_row row = {.name = name, .description = i % 2 ? "odd" : "even"};
        char id[IDENT_TEXT_SIZE];
        struct err err = ERR_INIT;

        assert_ok(site_create(conn, &row, id, &err), &err);
    }
}

static void test_pages_give_every_row_once_in_order(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct db_filter filter = {"name", DB_LIKE, "page-"};
    AUTO_FREE char *cursor = NULL;
    int seen = 0;

    make_sites(conn, "page", 7);
    do {
        const struct db_page page = {
            .filters = &filter, .filter_count = 1, .sort = "-name", .cursor = cursor, .limit = 3};
        AUTO_DB_SET struct db_set set = {0};
        struct err err = ERR_INIT;

        assert_ok(db_list(conn, &db_sites, &page, &set, &err), &err);
        for (size_t i = 0; i < set.count; i++, seen++) {
            AUTO_FREE char *want = mem_printf("page-%02d", 6 - seen);

            assert_string_equal(db_at(&set, struct site_row, i)->name, want);
        }
        free(cursor);
        cursor = TAKE_PTR(set.next);
    } while (cursor);
    assert_int_equal(seen, 7);
}

static void test_pages_by_a_column_that_is_not_unique(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct db_filter filter = {"name", DB_LIKE, "same-"};
    AUTO_FREE char *cursor = NULL;
    int seen = 0;

    make_sites(conn, "same", 5);
    do {
        const struct db_page page = {
            .filters = &filter, .filter_count = 1, .sort = "created_at", .cursor = cursor, .limit = 2};
        AUTO_DB_SET struct db_set set = {0};
        struct err err = ERR_INIT;

        assert_ok(db_list(conn, &db_sites, &page, &set, &err), &err);
        seen += (int)set.count;
        free(cursor);
        cursor = TAKE_PTR(set.next);
    } while (cursor);
    assert_int_equal(seen, 5);
}

static size_t count_sites(struct db_conn *conn, const char *field, enum db_op op, const char *value)
{
    const struct db_filter filters[] = {{"name", DB_LIKE, "filter-"}, {field, op, value}};
    const struct db_page page = {.filters = filters, .filter_count = 2};
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    uint64_t count = 0;

    assert_ok(db_list(conn, &db_sites, &page, &set, &err), &err);
    assert_ok(db_count(conn, &db_sites, &page, &count, &err), &err);
    assert_int_equal(count, set.count);
    return set.count;
}

static void test_filters_mean_what_they_say(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    make_sites(conn, "filter", 4);
    assert_int_equal(count_sites(conn, "name", DB_EQ, "filter-01,filter-02,nobody"), 2);
    assert_int_equal(count_sites(conn, "name", DB_NE, "filter-01"), 3);
    assert_int_equal(count_sites(conn, "name", DB_LIKE, "R-0"), 4);
    assert_int_equal(count_sites(conn, "name", DB_LIKE, "%"), 0);
    assert_int_equal(count_sites(conn, "name", DB_EQ, "'; DROP TABLE sites; --"), 0);
    assert_int_equal(count_sites(conn, "name", DB_EQ, "\",\\{}"), 0);
    assert_int_equal(count_sites(conn, "created_at", DB_LT, "2000-01-01T00:00:00Z"), 0);
    assert_int_equal(count_sites(conn, "created_at", DB_GE, "2000-01-01T00:00:00Z"), 4);
}

static void test_bad_lists_are_invalid_with_a_correction(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct db_filter unknown = {"nonsense", DB_EQ, "x"}, not_uuid = {"id", DB_EQ, "x"};
    const struct db_page pages[] = {
        {.filters = &unknown, .filter_count = 1},
        {.filters = &not_uuid, .filter_count = 1},
        {.sort = "description"},
        {.sort = "name; DROP TABLE sites"},
        {.cursor = "zz"},
        {.cursor = "6e616d65"},           /* no key */
        {.cursor = "2d6e616d650a780a79"}, /* of the other direction */
        {.cursor = "6e616d650a780a79"},   /* key is no uuid */
        {.limit = 501},
    };

    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        AUTO_DB_SET struct db_set set = {0};
        struct err err = ERR_INIT;

        assert_int_equal(db_list(conn, &db_sites, &pages[i], &set, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_every_entity_can_be_listed_by_each_of_its_sorts_and_filters(void **state)
{
    static const struct db_entity *const all[] = {&db_sites, &db_policies, &db_machines, &db_disks, &db_nodes,
        &db_vaults, &db_points, &db_groups, &db_group_points, &db_exports, &db_jobs, &db_job_steps, &db_job_log,
        &db_events, &db_samples, &db_api_tokens, &db_enrolment_tokens, &db_certificates, &db_audit_log};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    for (size_t e = 0; e < ARRAY_LEN(all); e++) {
        for (size_t c = 0; c < all[e]->column_count; c++) {
            const struct db_filter empty = {all[e]->columns[c].field, DB_EQ, ""};
            struct db_page page = {.limit = 1};
            AUTO_DB_SET struct db_set set = {0};
            AUTO_DB_SET struct db_set filtered = {0};
            struct err err = ERR_INIT;

            if (all[e]->columns[c].flags & DB_SORT)
                page.sort = all[e]->columns[c].field;
            assert_ok(db_list(conn, all[e], &page, &set, &err), &err);
            page.filters = &empty;
            page.filter_count = (all[e]->columns[c].flags & DB_FILTER) ? 1 : 0;
            assert_ok(db_list(conn, all[e], &page, &filtered, &err), &err);
        }
    }
}

static void test_get_finds_by_id_and_by_name(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set by_name = {0};
    AUTO_DB_SET struct db_set by_id = {0};
    AUTO_DB_SET struct db_set none = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], key[IDENT_TEXT_SIZE];

    new_id(id);
    fixture_machine(conn, id, "found by name");
    assert_int_equal(db_get(conn, &db_machines, "found by name", &by_name, &err), 1);
    assert_int_equal(db_get(conn, &db_machines, id, &by_id, &err), 1);
    assert_string_equal(db_at(&by_id, struct machine_row, 0)->name, "found by name");
    assert_string_equal(db_at(&by_name, struct machine_row, 0)->id, id);
    assert_true(db_at(&by_id, struct machine_row, 0)->online);
    assert_string_equal(db_at(&by_id, struct machine_row, 0)->policy_id, "");
    assert_ok(db_need_key(conn, &db_machines, "found by name", key, sizeof(key), &err), &err);
    assert_string_equal(key, id);
    assert_ok(db_need_key(conn, &db_machines, id, key, sizeof(key), &err), &err);
    assert_string_equal(key, id);
    assert_int_equal(db_need_key(conn, &db_machines, "nobody", key, sizeof(key), &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(db_get(conn, &db_machines, "nobody", &none, &err), 0);
    assert_int_equal(db_need(conn, &db_machines, "nobody", &none, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

/* ---- configuration ---- */

static void test_a_stale_version_is_a_conflict(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct site_row row = {.name = "versioned"};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    assert_ok(site_create(conn, &row, id, &err), &err);
    row.id = id;
    row.description = "second";
    assert_ok(site_update(conn, &row, 1, &err), &err);
    assert_int_equal(site_update(conn, &row, 1, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_ok(site_update(conn, &row, 0, &err), &err);
    assert_int_equal(site_create(conn, &row, id, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
}

static void test_there_is_always_exactly_one_default_policy(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct policy_row row = a_policy;
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    row.is_default = true;
    assert_ok(policy_create(conn, &row, id, &err), &err);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM policies WHERE is_default"), 1);
    assert_int_equal(policy_delete(conn, id, 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    row.id = id;
    row.is_default = false; /* nobody else has it: it stays */
    assert_ok(policy_update(conn, &row, 0, &err), &err);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM policies WHERE is_default"), 1);
}

/* ---- tokens ---- */

static void test_an_api_token_works_until_it_is_revoked(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct api_token_spec spec = {.name = "ci", .role = "operator", .scopes_json = "[\"points:write\"]"};
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set again = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE];

    assert_ok(api_token_create(conn, &spec, id, text, &err), &err);
    assert_int_equal(strlen(text), API_TOKEN_TEXT_SIZE - 1);
    assert_true(api_token_is_well_formed(text));
    assert_int_equal(api_token_check(conn, text, &set, &err), 1);
    assert_string_equal(db_at(&set, struct api_token_row, 0)->role, "operator");
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM api_tokens WHERE position($1::bytea in hash) > 0",
                         DB_X(text, strlen(text))),
        0);
    assert_ok(api_token_revoke(conn, id, &err), &err);
    assert_int_equal(api_token_check(conn, text, &again, &err), 0);
}

/* To the minute: a write for each request would be too dear. */
static void test_when_a_token_was_used_is_known_to_the_minute(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct api_token_spec spec = {.name = "busy", .role = "viewer"};
    const char *const writes[] = {"NULL", "now() - interval '61 seconds'", "now() - interval '50 seconds'"};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE];

    assert_ok(api_token_create(conn, &spec, id, text, &err), &err);
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        AUTO_FREE char *set_back = mem_printf("UPDATE api_tokens SET last_used_at = %s WHERE id = $1", writes[i]);
        AUTO_DB_SET struct db_set set = {0};

        assert_int_equal(db_exec(conn, NULL, &err, set_back, DB_S(id)), 1);
        assert_int_equal(api_token_check(conn, text, &set, &err), 1);
        assert_int_equal(
            db_exec(conn, NULL, &err,
                "SELECT 1 FROM api_tokens WHERE id = $1 AND last_used_at > now() - interval '10 seconds'", DB_S(id)),
            i < 2);
    }
}

static void test_mistyped_and_expired_api_tokens_are_refused(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct api_token_spec spec = {.name = "old", .role = "viewer", .expires_at = clock_utc_usec() - 1};
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE];

    assert_ok(api_token_create(conn, &spec, id, text, &err), &err);
    assert_int_equal(api_token_check(conn, text, &set, &err), 0);
    text[10] = text[10] == 'A' ? 'B' : 'A';
    assert_false(api_token_is_well_formed(text));
    assert_false(api_token_is_well_formed(""));
    assert_false(api_token_is_well_formed("lwt_"));
    assert_int_equal(api_token_check(conn, "lwt_short", &set, &err), 0);
}

static int use(struct db_conn *conn, const char *text, const char *role, char key, struct enrolment_use *u)
{
    uint8_t key_hash[32];
    struct err err = ERR_INIT;
    int rc;

    memset(key_hash, key, sizeof(key_hash));
    new_id(u->subject_id);
    rc = enrolment_token_use(conn, text, role, key_hash, u, &err);
    assert_ok(rc, &err);
    return rc;
}

static void test_an_enrolment_token_makes_one_identity(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct enrolment_token_spec spec = {.role = "agent", .name = "web"};
    struct enrolment_use first = {0}, again = {0}, other = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], text[ENROLMENT_TOKEN_TEXT_SIZE];

    assert_ok(enrolment_token_create(conn, &spec, FINGERPRINT, id, text, &err), &err);
    assert_int_equal(strlen(text), ENROLMENT_TOKEN_TEXT_SIZE - 1);
    assert_int_equal(use(conn, text, "node", 'a', &other), 0); /* another role */
    assert_int_equal(use(conn, text, "agent", 'a', &first), 1);
    assert_false(first.again);
    assert_int_equal(use(conn, text, "agent", 'b', &other), 0); /* another key */
    assert_int_equal(use(conn, text, "agent", 'a', &again), 1); /* the same key: the same identity */
    assert_true(again.again);
    assert_string_equal(again.subject_id, first.subject_id);
}

static void test_expired_and_revoked_enrolment_tokens_are_refused(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct enrolment_token_spec spec = {.role = "vault", .expires_at = clock_utc_usec() - 1};
    struct enrolment_use u = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], text[ENROLMENT_TOKEN_TEXT_SIZE];

    assert_ok(enrolment_token_create(conn, &spec, FINGERPRINT, id, text, &err), &err);
    assert_int_equal(use(conn, text, "vault", 'a', &u), 0);
    spec.expires_at = 0;
    assert_ok(enrolment_token_create(conn, &spec, FINGERPRINT, id, text, &err), &err);
    assert_ok(enrolment_token_revoke(conn, id, &err), &err);
    assert_int_equal(use(conn, text, "vault", 'a', &u), 0);
}

/* ---- journal ---- */

static void test_the_audit_chain_shows_a_change(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct audit_spec spec = {
        .actor = "token:a", .action = "machine.protect", .object_id = "1", .outcome = "done"};
    struct err err = ERR_INIT;
    uint64_t bad = 0;

    for (int i = 0; i < 5; i++)
        assert_ok(audit_append(conn, &spec, &err), &err);
    assert_int_equal(audit_verify(conn, &bad, &err), 1);
    assert_int_equal(db_exec(conn, NULL, &err, "UPDATE audit_log SET actor = 'x' WHERE seq = 3"), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    /* Somebody with the database in hand gets past the trigger, but not past the chain. */
    assert_ok(db_script(conn, "ALTER TABLE audit_log DISABLE TRIGGER ALL", &err), &err);
    assert_ok(db_exec(conn, NULL, &err, "UPDATE audit_log SET actor = 'x' WHERE seq = 3"), &err);
    assert_int_equal(audit_verify(conn, &bad, &err), 0);
    assert_int_equal(bad, 3);
    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM audit_log"), &err);
    assert_ok(db_script(conn, "ALTER TABLE audit_log ENABLE TRIGGER ALL", &err), &err);
}

static void test_events_are_numbered_in_the_order_of_commits(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *early AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *late AUTO_OF(db_conn) = fixture_conn(state);
    const struct event_spec spec = {.severity = "info", .code = "test", .text = "t"};
    struct err err = ERR_INIT;
    uint64_t first, before, after;

    (void)f;
    assert_ok(event_range(early, &first, &before, &err), &err);
    assert_ok(db_begin(early, &err), &err);
    assert_ok(event_append(early, &spec, &err), &err);
    /* A second writer waits for the first: it cannot get a number that shows before. */
    assert_ok(db_script(late, "SET lock_timeout = '50ms'", &err), &err);
    assert_int_equal(event_append(late, &spec, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_ok(db_commit(early, &err), &err);
    err_clear(&err);
    assert_ok(event_append(late, &spec, &err), &err);
    assert_ok(db_script(late, "SET lock_timeout = '10s'", &err), &err);
    assert_ok(event_range(early, &first, &after, &err), &err);
    assert_true(after >= before + 2);
}

static void test_an_event_that_is_told_twice_is_stored_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct event_spec spec = {.severity = "error", .code = "twice", .text = "t"};
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    spec.told_by = "0b4f1c5e-7d0f-4d0c-9a53-3f1f0c2c9c00";
    spec.told_id = "0b4f1c5e-7d0f-4d0c-9a53-3f1f0c2c9c01";
    for (unsigned i = 0; i < 2; i++)
        assert_ok(event_append(conn, &spec, &err), &err);
    spec.told_by = "0b4f1c5e-7d0f-4d0c-9a53-3f1f0c2c9c0f"; /* another's, whatever it calls it */
    assert_ok(event_append(conn, &spec, &err), &err);
    spec.told_id = ""; /* of these there may be many */
    for (unsigned i = 0; i < 2; i++)
        assert_ok(event_append(conn, &spec, &err), &err);
    assert_ok(db_exec(conn, &r, &err, "SELECT count(*) FROM events WHERE code = 'twice'"), &err);
    assert_int_equal(db_u64(r, 0, 0), 4);
}

static void test_an_event_is_told_in_the_words_of_its_code_with_its_values(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    struct event_spec spec = {.severity = "info",
        .code = "job_finished",
        .values = TEXT_VALUES(VALUE_TEXT("form", "failed"), VALUE_TEXT("job", "export"),
            VALUE_TEXT("problem", "{job} of 磁盘"), VALUE_TEXT("remedy", "Free \"space\"."))};

    assert_ok(event_append(conn, &spec, &err), &err);
    assert_ok(db_exec(conn, &r, &err,
                  "SELECT text, remedy, text_values->>'problem', text_values->>'remedy' FROM events WHERE code ="
                  " 'job_finished' ORDER BY seq DESC LIMIT 1"),
        &err);
    assert_string_equal(db_text(r, 0, 0), "job export: failed: {job} of 磁盘");
    assert_string_equal(db_text(r, 0, 1), "Free \"space\".");
    assert_string_equal(db_text(r, 0, 2), "{job} of 磁盘");
    assert_string_equal(db_text(r, 0, 3), "Free \"space\".");
    spec.values = TEXT_VALUES(VALUE_TEXT("form", "sideways"));
    assert_int_equal(event_append(conn, &spec, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
}

static void test_an_idempotency_key_answers_the_same_again(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    unsigned status = 0;
    char *body = NULL, *location = NULL;

    assert_int_equal(idempotency_begin(conn, "a", "k1", "fp", &status, &body, &location, &err), 1);
    assert_int_equal(idempotency_begin(conn, "a", "k1", "fp", &status, &body, &location, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_ok(idempotency_finish(conn, "a", "k1", 202, "{}", "/api/v1/jobs/1", &err), &err);
    assert_int_equal(idempotency_begin(conn, "a", "k1", "fp", &status, &body, &location, &err), 0);
    assert_int_equal(status, 202);
    assert_string_equal(body, "{}");
    assert_string_equal(location, "/api/v1/jobs/1");
    free(body);
    free(location);
    assert_int_equal(idempotency_begin(conn, "a", "k1", "other", &status, &body, &location, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(idempotency_begin(conn, "b", "k1", "other", &status, &body, &location, &err), 1);
}

/* ---- peers and protection ---- */

#define INVENTORY(disks)                                                                                               \
    "{\"hostname\":\"h\",\"os_name\":\"o\",\"kernel\":\"k\",\"boot_id\":\"b\",\"cpus\":2,\"memory_bytes\":1,"          \
    "\"firmware\":\"uefi\",\"machine_uid\":\"u\",\"addresses\":[\"10.0.0.1\"],\"disks\":[" disks "]}"
#define DISK(key, root, trackable)                                                                                     \
    "{\"key\":\"" key "\",\"device\":\"/dev/" key "\",\"model\":\"\",\"partition_table\":\"gpt\",\"size_bytes\":1000," \
    "\"logical_sector_bytes\":512,\"physical_sector_bytes\":4096,\"trackable\":" trackable                             \
    ",\"not_trackable_reason\":\"r\",\"volatile_cache\":true,\"is_root\":" root ",\"volumes\":[]}"

static int64_t disk_number(struct db_conn *conn, const char *machine, const char *key)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(
        db_exec(conn, &r, &err, "SELECT coalesce(number, -1) FROM disks WHERE machine_id = $1 AND key = $2",
            DB_S(machine), DB_S(key)),
        1);
    return db_i64(r, 0, 0);
}

static void default_policy_id(struct db_conn *conn, char out[IDENT_TEXT_SIZE])
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, &r, &err, "SELECT id FROM policies ORDER BY is_default DESC LIMIT 1"), &err);
    memcpy(out, db_text(r, 0, 0), IDENT_TEXT_SIZE);
}

static void test_a_disk_keeps_its_number_for_ever(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char machine[IDENT_TEXT_SIZE], node[IDENT_TEXT_SIZE], vault[IDENT_TEXT_SIZE], policy[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;
    uint64_t version = 0;

    new_id(machine);
    new_id(node);
    new_id(vault);
    fixture_machine(conn, machine, "disks");
    fixture_node(conn, node, "disks-node");
    fixture_vault(conn, vault, "disks-vault");
    default_policy_id(conn, policy);
    struct protection p = {.machine_id = machine, .policy_id = policy, .node_id = node, .vault_id = vault};

    assert_ok(
        machine_inventory(conn, machine,
            INVENTORY(DISK("sdb", "false", "true") "," DISK("sda", "true", "true") "," DISK("zram", "false", "false")),
            &err),
        &err);
    p.disks_json = "[\"sdb\"]";
    assert_int_equal(protection_put(conn, &p, &version, &err), 1);
    assert_int_equal(disk_number(conn, machine, "sdb"), 0);
    p.disks_json = NULL;
    assert_int_equal(protection_put(conn, &p, &version, &err), 2);
    assert_int_equal(disk_number(conn, machine, "sdb"), 0);
    assert_int_equal(disk_number(conn, machine, "sda"), 1);
    assert_int_equal(disk_number(conn, machine, "zram"), -1);
    assert_ok(protection_end(conn, machine, &version, &err), &err);
    assert_ok(machine_inventory(conn, machine, INVENTORY(DISK("sdc", "false", "true")), &err), &err);
    assert_int_equal(protection_put(conn, &p, &version, &err), 1); /* only what is present */
    assert_int_equal(disk_number(conn, machine, "sdc"), 2);
    p.disks_json = "[\"sda\"]";
    assert_int_equal(protection_put(conn, &p, &version, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_a_machine_whose_disks_are_being_written_is_not_forgotten(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char source[IDENT_TEXT_SIZE], receiver[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    new_id(source);
    new_id(receiver);
    fixture_machine(conn, source, "lost");
    fixture_machine(conn, receiver, "bare");
    assert_int_equal(
        db_exec(conn, NULL, &err,
            "INSERT INTO jobs (id, kind, status, machine_id, params) VALUES (gen_random_uuid(), 'machine_restore',"
            " 'running', $1, jsonb_build_object('to', upper($2::text)))",
            DB_S(source), DB_S(receiver)),
        1);
    assert_int_equal(machine_delete(conn, receiver, 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "with what lost holds"));
    assert_true(err.correction[0]);
    assert_int_equal(
        db_exec(conn, NULL, &err, "UPDATE jobs SET status = 'succeeded' WHERE machine_id = $1", DB_S(source)), 1);
    assert_ok(machine_delete(conn, receiver, 0, &err), &err);
}

static void test_the_state_follows_an_agent_that_has_converged(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char machine[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    new_id(machine);
    fixture_machine(conn, machine, "follows");
    assert_ok(machine_state_move(conn, machine, MOVE_PROTECT, "test", NULL, &err), &err);
    assert_ok(db_exec(conn, NULL, &err, "UPDATE machines SET desired_version = 5, converged_version = 4 WHERE id = $1",
                  DB_S(machine)),
        &err);
    assert_int_equal(machine_state_follow(conn, machine, "protected", true, &err), 0); /* speaks of what was before */
    assert_ok(
        db_exec(conn, NULL, &err, "UPDATE machines SET converged_version = 5 WHERE id = $1", DB_S(machine)), &err);
    assert_int_equal(machine_state_follow(conn, machine, "protected", true, &err), 1);
    assert_int_equal(machine_state_follow(conn, machine, "protected", true, &err), 0);
    assert_int_equal(machine_state_move(conn, machine, MOVE_COMMIT, "test", NULL, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM events WHERE machine_id = $1 AND code = 'machine_state'",
                         DB_S(machine)),
        2);
}

#define POINT(machine, sequence)                                                                                       \
    "{\"machine_id\":\"%s\",\"sequence\":" sequence ",\"time_usec\":1790000000000000,\"kind\":\"crash\",\"tag\":\"\"," \
    "\"group_point_id\":\"\",\"generation\":1,\"changed_bytes\":9,\"frozen\":false,\"unreadable_blocks\":0,"           \
    "\"committed_usec\":1790000000000001}"

static size_t point_count(struct db_conn *conn, const char *machine)
{
    struct err err = ERR_INIT;

    return (size_t)db_exec(conn, NULL, &err, "SELECT 1 FROM recovery_points WHERE machine_id = $1", DB_S(machine));
}

static void test_a_vault_speaks_only_of_machines_that_are_its_own(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char machine[IDENT_TEXT_SIZE], node[IDENT_TEXT_SIZE], vault[IDENT_TEXT_SIZE], other[IDENT_TEXT_SIZE],
        policy[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    new_id(machine);
    new_id(node);
    new_id(vault);
    new_id(other);
    fixture_machine(conn, machine, "points");
    fixture_node(conn, node, "points-node");
    fixture_vault(conn, vault, "points-vault");
    fixture_vault(conn, other, "points-other");
    default_policy_id(conn, policy);
    assert_ok(machine_inventory(conn, machine, INVENTORY(DISK("sda", "true", "true")), &err), &err);
    const struct protection p = {.machine_id = machine, .policy_id = policy, .node_id = node, .vault_id = vault};

    assert_int_equal(protection_put(conn, &p, NULL, &err), 1);
    AUTO_FREE char *two = mem_printf("[" POINT("", "1") "," POINT("", "2") "]", machine, machine);
    AUTO_FREE char *drop = mem_printf("[{\"machine_id\":\"%s\",\"sequence\":1}]", machine);

    assert_ok(point_put(conn, other, two, "[]", &err), &err);
    assert_int_equal(point_count(conn, machine), 0);
    assert_ok(point_put(conn, vault, two, "[]", &err), &err);
    assert_ok(point_put(conn, vault, two, "[]", &err), &err); /* told twice */
    assert_int_equal(point_count(conn, machine), 2);
    assert_ok(point_put(conn, other, "[]", drop, &err), &err);
    assert_int_equal(point_count(conn, machine), 2);
    assert_ok(point_put(conn, vault, "[]", drop, &err), &err);
    assert_int_equal(point_count(conn, machine), 1);
    assert_int_equal(peer_has_machine(conn, "vault", other, machine, &err), 0);
    assert_int_equal(peer_has_machine(conn, "vault", vault, machine, &err), 1);
    assert_int_equal(peer_has_machine(conn, "node", node, machine, &err), 1);
}

static void test_a_taken_name_gets_a_number(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    for (int i = 0; i < 2; i++) {
        char id[IDENT_TEXT_SIZE];

        new_id(id);
        const struct peer_enrolment peer = {.role = "vault", .id = id, .name = "twin"};

        assert_ok(peer_insert(conn, &peer, &err), &err);
    }
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM vaults WHERE name IN ('twin', 'twin-2')"), 2);
}

static void test_a_new_endpoint_reaches_those_who_need_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *before = NULL;
    AUTO_PGRESULT PGresult *after = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &before, &err,
                         "SELECT m.desired_version, n.id FROM machines m JOIN protections p ON p.machine_id = m.id "
                         "JOIN nodes n ON n.id = p.node_id WHERE m.name = 'points'"),
        1);
    const struct peer_hello hello = {.role = "node",
        .id = db_text(before, 0, 1),
        .software = "s",
        .host = "h",
        .endpoint = "elsewhere:9443",
        .clock_skew_usec = -5};

    assert_int_equal(peer_hello(conn, &hello, &err), 1);
    assert_int_equal(db_exec(conn, &after, &err, "SELECT desired_version FROM machines WHERE name = 'points'"), 1);
    assert_int_equal(db_u64(after, 0, 0), db_u64(before, 0, 0) + 1);
    PQclear(TAKE_PTR(after));
    assert_int_equal(db_exec(conn, &after, &err, "SELECT clock_skew_usec FROM nodes WHERE id = $1", DB_S(hello.id)), 1);
    assert_int_equal(db_i64(after, 0, 0), -5);
    const struct peer_hello nobody = {
        .role = "node", .id = "00000000-0000-4000-8000-000000000000", .software = "", .host = "", .endpoint = ""};

    assert_int_equal(peer_hello(conn, &nobody, &err), 0);
}

/* ---- what the sweep reads ---- */

#define MANY (2 * HEALTH_PAGE + 7)

static void make_machines(struct db_conn *conn, int count)
{
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err,
                  "WITH made AS (INSERT INTO machines (id, name) SELECT gen_random_uuid(), 'swept-' || i FROM "
                  "generate_series(1, $1::integer) "
                  "i RETURNING id)"
                  " INSERT INTO certificates (serial, role, subject_id, fingerprint_sha256, not_before, not_after)"
                  " SELECT id::text || '-' || days, 'agent', id, '', now(), now() + days * interval '1 day'"
                  " FROM made, (VALUES (10), (90)) AS d(days)",
                  DB_I(count)),
        &err);
}

static void test_health_is_read_in_pages_of_which_each_begins_behind_the_one_before(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char after[IDENT_TEXT_SIZE] = HEALTH_FIRST;
    struct err err = ERR_INIT;
    int swept = 0, pages = 0, n = HEALTH_PAGE;

    make_machines(conn, MANY);
    while (n == HEALTH_PAGE) {
        AUTO_PGRESULT PGresult *r = NULL;

        n = health_machines(conn, after, &r, &err);
        assert_true(n >= 0 && n <= HEALTH_PAGE);
        for (int i = 0; i < n; i++) {
            assert_true(strcmp(db_text(r, i, HM_ID), after) > 0); /* each once */
            (void)snprintf(after, sizeof(after), "%s", db_text(r, i, HM_ID));
            if (strncmp(db_text(r, i, HM_NAME), "swept-", 6) != 0)
                continue;
            swept++;
            assert_true(db_i64(r, i, HM_CERT_LEFT) > 89 * 86400 * (int64_t)USEC_PER_SEC); /* the newest one counts */
        }
        pages++;
    }
    assert_int_equal(swept, MANY);
    assert_true(pages >= 3);
    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM machines WHERE name LIKE 'swept-%'"), &err);
}

static void test_an_overdue_drill_is_told_with_its_machine(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    new_id(id);
    assert_ok(db_exec(conn, NULL, &err, "INSERT INTO machines (id, name) VALUES ($1, 'drilled')", DB_S(id)), &err);
    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO recovery_plans (name, document) VALUES ('drilled', "
                  "'{\"groups\": [{\"steps\": [{\"type\": \"machine\", \"machine\": \"drilled\"}]}]}')"),
        &err);
    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO drill_schedules (name, plan_id, interval_usec, overdue_after_usec, created_at) SELECT "
                  "'drilled', id, 3600000000,"
                  " 3600000000, now() - interval '2 hours' FROM recovery_plans WHERE name = 'drilled'"),
        &err);
    assert_int_equal(health_drills(conn, &r, &err), 1);
    assert_string_equal(db_text(r, 0, 0), id);
    assert_true(db_u64(r, 0, 1) >= 3600 * USEC_PER_SEC && db_u64(r, 0, 1) < 3700 * USEC_PER_SEC);
    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM drill_schedules WHERE name = 'drilled'"), &err);
}

/* ---- minutes of disks ---- */

static void put_minutes(struct db_conn *conn, const char *machine, const char *gone, int bytes, int entropy)
{
    AUTO_FREE char *json = mem_printf(
        "[{\"id\":\"%s\",\"disk\":0,\"minute_usec\":60000000,\"changed_bytes\":%d,\"incompressible_bytes\":1,"
        "\"turned_bytes\":0,\"entropy_millibits\":%d},{\"id\":\"%s\",\"disk\":0,\"minute_usec\":60000000,"
        "\"changed_bytes\":100,\"incompressible_bytes\":0,\"turned_bytes\":0,\"entropy_millibits\":1000},"
        "{\"id\":\"%s\",\"disk\":0,\"minute_usec\":60000000,\"changed_bytes\":1,\"incompressible_bytes\":0,"
        "\"turned_bytes\":0,\"entropy_millibits\":0}]",
        machine, bytes, entropy, machine, gone);
    struct err err = ERR_INIT;

    assert_non_null(json);
    assert_ok(churn_put(conn, json, &err), &err);
}

static void test_parts_of_a_minute_of_a_disk_add_up(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE], gone[IDENT_TEXT_SIZE];
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    new_id(id);
    new_id(gone);
    assert_ok(db_exec(conn, NULL, &err, "INSERT INTO machines (id, name) VALUES ($1, 'minutes')", DB_S(id)), &err);
    put_minutes(conn, id, gone, 300, 5000); /* with 100 of 1,000: 4,000 on average */
    put_minutes(conn, id, gone, 700, 7000); /* 800 of 6,250 */
    assert_int_equal(db_exec(conn, &r, &err,
                         "SELECT machine_id, changed_bytes, incompressible_bytes, entropy_millibits FROM disk_minutes"),
        1);
    assert_string_equal(db_text(r, 0, 0), id);
    assert_int_equal(db_u64(r, 0, 1), 1200);
    assert_int_equal(db_u64(r, 0, 2), 2);
    assert_int_equal(db_u64(r, 0, 3), (400 * 4000 + 800 * 6250) / 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_give_every_row_once_in_order),
        cmocka_unit_test(test_pages_by_a_column_that_is_not_unique),
        cmocka_unit_test(test_filters_mean_what_they_say),
        cmocka_unit_test(test_bad_lists_are_invalid_with_a_correction),
        cmocka_unit_test(test_get_finds_by_id_and_by_name),
        cmocka_unit_test(test_a_stale_version_is_a_conflict),
        cmocka_unit_test(test_there_is_always_exactly_one_default_policy),
        cmocka_unit_test(test_an_api_token_works_until_it_is_revoked),
        cmocka_unit_test(test_when_a_token_was_used_is_known_to_the_minute),
        cmocka_unit_test(test_mistyped_and_expired_api_tokens_are_refused),
        cmocka_unit_test(test_an_enrolment_token_makes_one_identity),
        cmocka_unit_test(test_expired_and_revoked_enrolment_tokens_are_refused),
        cmocka_unit_test(test_the_audit_chain_shows_a_change),
        cmocka_unit_test(test_events_are_numbered_in_the_order_of_commits),
        cmocka_unit_test(test_an_event_that_is_told_twice_is_stored_once),
        cmocka_unit_test(test_an_event_is_told_in_the_words_of_its_code_with_its_values),
        cmocka_unit_test(test_an_idempotency_key_answers_the_same_again),
        cmocka_unit_test(test_a_disk_keeps_its_number_for_ever),
        cmocka_unit_test(test_a_machine_whose_disks_are_being_written_is_not_forgotten),
        cmocka_unit_test(test_the_state_follows_an_agent_that_has_converged),
        cmocka_unit_test(test_a_vault_speaks_only_of_machines_that_are_its_own),
        cmocka_unit_test(test_a_taken_name_gets_a_number),
        cmocka_unit_test(test_a_new_endpoint_reaches_those_who_need_it),
        cmocka_unit_test(test_health_is_read_in_pages_of_which_each_begins_behind_the_one_before),
        cmocka_unit_test(test_an_overdue_drill_is_told_with_its_machine),
        cmocka_unit_test(test_parts_of_a_minute_of_a_disk_add_up),
        cmocka_unit_test(test_every_entity_can_be_listed_by_each_of_its_sorts_and_filters),
    };

    return cmocka_run_group_tests_name("hub_store", tests, postgres_fixture_up, postgres_fixture_down);
}
