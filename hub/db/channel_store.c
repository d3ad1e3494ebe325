/* SPDX-License-Identifier: Apache-2.0
 *
 * Channels and deliveries. Two hubs may form and claim at the same time: a channel's row is locked while a delivery is made of its
 * changes, and a claim is a lease, as with jobs.
 */
#include "hub/db/channel_store.h"

#include "hub/db/news.h"
#include "hub/db/secret_box.h"
#include "transport/base/clock.h"

#define WAIT_MAX_USEC (60 * USEC_PER_SEC)
/* A message names so many alerts; of the rest it says how many there are. */
#define BODY_ALERTS "200"

static int name_taken(const char *name, struct err *err)
{
    if (err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a channel named %s exists", name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    return -1;
}

#define SET_COLUMNS                                                                                                    \
    "name = $2, kind = $3, enabled = $4, min_severity = $5, send_resolved = $6, weekly_report = $7, group_usec = $8,"  \
    " url = $9, server = $10, port = $11::bigint, security = $12, username = $13, from_address = $14,"                 \
    " to_addresses = $15::jsonb, ca_certificate = $16, secret = coalesce($17, secret)"
#define ROW_VALUES(row, secret)                                                                                        \
    DB_S((row)->name), DB_S((row)->kind), DB_B((row)->enabled), DB_S((row)->min_severity), DB_B((row)->send_resolved), \
        DB_B((row)->weekly_report), DB_U((row)->group_usec), DB_S((row)->url), DB_S((row)->server), DB_U((row)->port), \
        DB_S((row)->security), DB_S((row)->username), DB_S((row)->from_address), DB_S((row)->to_json),                 \
        DB_S((row)->ca_certificate), DB_S(secret)

int channel_create(struct db_conn *conn, const struct channel_row *row, const char *secret,
    char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE char *sealed = NULL;
    struct ident id;

    if (ident_random(&id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&id, ret_id);
    if (secret_seal(conn, ret_id, secret, &sealed, err) < 0)
        return -1;
    if (db_exec(conn, NULL, err,
            "INSERT INTO alert_channels (id, name, kind, told_seq) SELECT $1::uuid, $2, $3,"
            " coalesce((SELECT max(seq) FROM alert_changes), 0)",
            DB_S(ret_id), DB_S(row->name), DB_S(row->kind)) < 0)
        return name_taken(row->name, err);
    return db_exec(conn, NULL, err, "UPDATE alert_channels SET " SET_COLUMNS " WHERE id = $1", DB_S(ret_id),
               ROW_VALUES(row, sealed)) < 0
               ? -1
               : 0;
}

static int stale(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_alert_channels, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "channel %s was changed by somebody else", id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

int channel_update(
    struct db_conn *conn, const struct channel_row *row, const char *secret, uint64_t if_version, struct err *err)
{
    AUTO_FREE char *sealed = NULL;
    int n;

    if (secret && secret_seal(conn, row->id, secret, &sealed, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE alert_channels SET " SET_COLUMNS ", version = version + 1, updated_at = now()"
        " WHERE id = $1 AND ($18::bigint = 0 OR version = $18::bigint)",
        DB_S(row->id), ROW_VALUES(row, sealed), DB_U(if_version));

    if (n < 0)
        return name_taken(row->name, err);
    return n == 0 ? stale(conn, row->id, err) : 0;
}

int channel_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "DELETE FROM alert_channels WHERE id = $1 AND ($2::bigint = 0 OR version = $2::bigint)", DB_S(id),
        DB_U(if_version));

    return n < 0 ? -1 : n == 0 ? stale(conn, id, err) : 0;
}

int delivery_queue(struct db_conn *conn, const char *channel_id, const char *kind, const char *body,
    char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    struct ident id;

    if (ident_random(&id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&id, ret_id);
    if (db_exec(conn, NULL, err,
            "INSERT INTO alert_deliveries (id, channel_id, kind, body) VALUES ($1, $2, $3, $4::jsonb)", DB_S(ret_id),
            DB_S(channel_id), DB_S(kind), DB_S(body)) < 0)
        return -1;
    return news_tell(conn, NEWS_ALERTS, err);
}

/* ---- forming ---- */

/* A channel whose last message was sent: as long as one is queued, what changes waits for the next. */
#define IDLE                                                                                                           \
    "c.enabled AND NOT EXISTS (SELECT 1 FROM alert_deliveries d WHERE d.channel_id = c.id AND d.state = 'queued'"      \
    " AND d.kind = 'alerts')"

/* Of each alert its last change counts; what was raised and resolved in between is told as resolved. The caller holds the channel's
 * row; what it knew of the channel's deliveries may be older than that, so they are looked at once more. */
static int form_one(struct db_conn *conn, const char *channel_id, struct err *err)
{
    return db_exec(conn, NULL, err,
        "WITH ch AS (SELECT c.* FROM alert_channels c WHERE c.id = $1 AND " IDLE "),"
        " up AS (SELECT coalesce(max(seq), 0) AS seq FROM alert_changes),"
        " last AS (SELECT DISTINCT ON (c.alert_id) c.* FROM alert_changes c, ch, up"
        " WHERE c.seq > ch.told_seq AND c.seq <= up.seq ORDER BY c.alert_id, c.seq DESC),"
        " told AS (SELECT l.change, l.severity, l.at, a.id, a.code, a.subject_kind, a.subject_id, a.detail,"
        " coalesce(m.name, n.name, v.name, g.name, 'hub') AS subject_name, l.cause, a.remedy,"
        " to_char(a.since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS since,"
        " row_number() OVER (ORDER BY l.change = 'resolved', l.severity, l.seq) AS place"
        " FROM last l JOIN alerts a ON a.id = l.alert_id CROSS JOIN ch LEFT JOIN machines m ON m.id = a.machine_id"
        " LEFT JOIN nodes n ON n.id = a.node_id LEFT JOIN vaults v ON v.id = a.vault_id"
        " LEFT JOIN consistency_groups g ON g.id = a.group_id"
        " WHERE (l.severity = 'critical' OR ch.min_severity = 'warning') AND (l.change <> 'resolved' OR "
        "ch.send_resolved)),"
        " made AS (INSERT INTO alert_deliveries (channel_id, kind, change_count, body) SELECT ch.id, 'alerts', t.n,"
        " jsonb_build_object('critical', t.critical, 'warning', t.warning, 'resolved', t.resolved, 'alerts', t.list)"
        " FROM ch, (SELECT count(*) AS n, count(*) FILTER (WHERE change <> 'resolved' AND severity = 'critical') AS"
        " critical, count(*) FILTER (WHERE change <> 'resolved' AND severity = 'warning') AS warning,"
        " count(*) FILTER (WHERE change = 'resolved') AS resolved,"
        " jsonb_agg(to_jsonb(told) - 'place' ORDER BY place) FILTER (WHERE place <= " BODY_ALERTS ") AS list"
        " FROM told) t WHERE t.n > 0 RETURNING 1)"
        " UPDATE alert_channels c SET told_seq = up.seq FROM up, ch WHERE c.id = ch.id",
        DB_S(channel_id));
}

static int form_all(struct db_conn *conn, uint64_t *ret_wait_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT c.id, greatest((extract(epoch FROM f.at - now()) * 1000000)::bigint + c.group_usec, 0)"
        " FROM alert_channels c CROSS JOIN LATERAL (SELECT at FROM alert_changes a WHERE a.seq > c.told_seq"
        " ORDER BY a.seq LIMIT 1) f WHERE " IDLE " FOR UPDATE OF c SKIP LOCKED");
    int made = 0;

    for (int i = 0; i < n; i++) {
        uint64_t wait = db_u64(r, i, 1);

        if (wait > 0) {
            *ret_wait_usec = wait < *ret_wait_usec ? wait : *ret_wait_usec;
            continue;
        }
        int formed = form_one(conn, db_text(r, i, 0), err);

        if (formed < 0)
            return -1;
        made += formed;
    }
    return n < 0 ? -1 : made;
}

int delivery_form(struct db_conn *conn, uint64_t *ret_wait_usec, struct err *err)
{
    int made;

    *ret_wait_usec = WAIT_MAX_USEC;
    if (db_begin(conn, err) < 0)
        return -1;
    made = form_all(conn, ret_wait_usec, err);
    if (made < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err) < 0 ? -1 : made;
}

/* ---- sending ---- */

static int next_due(struct db_conn *conn, uint64_t *ret_wait_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "SELECT coalesce((extract(epoch FROM min(greatest(next_at, lease_until)) - now()) * 1000000)::bigint,"
            " 60000000) FROM alert_deliveries q JOIN alert_channels e ON e.id = q.channel_id WHERE q.state = 'queued'"
            " AND (e.enabled OR q.kind = 'test')") < 0)
        return -1;
    int64_t wait = db_i64(r, 0, 0);

    *ret_wait_usec = wait < 10000 ? 10000 : (uint64_t)wait > WAIT_MAX_USEC ? WAIT_MAX_USEC : (uint64_t)wait;
    return 0;
}

int delivery_claim(
    struct db_conn *conn, uint64_t lease_usec, struct delivery_claim *c, uint64_t *ret_wait_usec, struct err *err)
{
    PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "UPDATE alert_deliveries d SET attempts = attempts + 1, lease_until = now() + $1::bigint * interval '1 "
        "microsecond'"
        " FROM alert_channels c WHERE c.id = d.channel_id AND d.id = (SELECT q.id FROM alert_deliveries q"
        " JOIN alert_channels e ON e.id = q.channel_id WHERE q.state = 'queued' AND q.next_at <= now()"
        " AND (q.lease_until IS NULL OR q.lease_until <= now()) AND (e.enabled OR q.kind = 'test')"
        " ORDER BY q.next_at LIMIT 1 FOR UPDATE OF q SKIP LOCKED)"
        " RETURNING d.id, d.kind, d.body::text, d.attempts, (extract(epoch FROM d.created_at) * 1000000)::bigint, c.id,"
        " c.name, c.kind, c.url, c.server, c.security, c.username, c.from_address, c.to_addresses::text,"
        " c.ca_certificate, c.secret, c.port",
        DB_U(lease_usec));

    if (n <= 0) {
        PQclear(r);
        return n < 0 ? -1 : next_due(conn, ret_wait_usec, err);
    }
    *c = (struct delivery_claim){.result = r,
        .id = db_text(r, 0, 0),
        .kind = db_text(r, 0, 1),
        .body = db_text(r, 0, 2),
        .attempts = db_u64(r, 0, 3),
        .created_at = db_u64(r, 0, 4),
        .channel_id = db_text(r, 0, 5),
        .channel_name = db_text(r, 0, 6),
        .channel_kind = db_text(r, 0, 7),
        .url = db_text(r, 0, 8),
        .server = db_text(r, 0, 9),
        .security = db_text(r, 0, 10),
        .username = db_text(r, 0, 11),
        .from_address = db_text(r, 0, 12),
        .to_json = db_text(r, 0, 13),
        .ca_certificate = db_text(r, 0, 14),
        .secret = db_text(r, 0, 15),
        .port = db_u64(r, 0, 16)};
    return 1;
}

void delivery_claim_done(struct delivery_claim *c)
{
    PQclear(c->result);
    *c = (struct delivery_claim){0};
}

int delivery_done(struct db_conn *conn, const char *id, struct err *err)
{
    return db_exec(conn, NULL, err,
               "WITH d AS (UPDATE alert_deliveries SET state = 'delivered', finished_at = now(), last_error = '',"
               " lease_until = NULL WHERE id = $1 AND state = 'queued' RETURNING channel_id)"
               " UPDATE alert_channels c SET last_delivered_at = now(), last_error = '' FROM d WHERE c.id = "
               "d.channel_id",
               DB_S(id)) < 0
               ? -1
               : 0;
}

int delivery_failed(struct db_conn *conn, const char *id, const char *why, uint64_t retry_usec, struct err *err)
{
    return db_exec(conn, NULL, err,
               "WITH d AS (UPDATE alert_deliveries SET last_error = $2, lease_until = NULL,"
               " state = CASE WHEN $3::bigint = 0 THEN 'failed' ELSE state END,"
               " finished_at = CASE WHEN $3::bigint = 0 THEN now() END,"
               " next_at = now() + $3::bigint * interval '1 microsecond'"
               " WHERE id = $1 AND state = 'queued' RETURNING channel_id)"
               " UPDATE alert_channels c SET last_failed_at = now(), last_error = $2 FROM d WHERE c.id = d.channel_id",
               DB_S(id), DB_S(why), DB_U(retry_usec)) < 0
               ? -1
               : 0;
}
