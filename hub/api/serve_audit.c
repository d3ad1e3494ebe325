/* SPDX-License-Identifier: Apache-2.0
 *
 * The audit log: as a list, checked as a chain, and as a file to keep elsewhere. An export comes in pieces of bounded
 * size; the header Link leads to the next, and every piece begins where the hash of the one before can be checked on.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/db/journal.h"
#include "hub/db/rows.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"

#define PIECE_MAX (16u * 1024u * 1024u)
#define PAGE 500u

#define A(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct audit_row, member)                                                      \
    }
static const struct row_json_member audit_members[] = {
    A("seq", ROW_NUMBER, seq),
    A("at", ROW_TIME, at),
    A("actor", ROW_TEXT, actor),
    A("action", ROW_TEXT, action),
    A("object_kind", ROW_TEXT, object_kind),
    A("object_id", ROW_TEXT, object_id),
    A("outcome", ROW_TEXT, outcome),
    A("detail", ROW_OBJECT, detail_json),
    A("address", ROW_TEXT, address),
    A("request_id", ROW_TEXT, request_id),
    A("hash", ROW_TEXT, hash),
};
#undef A

static json_t *audit_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, audit_members, ARRAY_LEN(audit_members));
}

static const struct row_filter audit_filters[] = {
    {"actor", "actor", DB_EQ},
    {"action", "action", DB_EQ},
    {"object_id", "object_id", DB_EQ},
    {"outcome", "outcome", DB_EQ},
    {"address", "address", DB_EQ},
    {"request_id", "request_id", DB_EQ},
    {"after", "at", DB_GE},
    {"before", "at", DB_LT},
};

int serve_audit_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_audit_log,
        .filters = audit_filters,
        .filter_count = ARRAY_LEN(audit_filters),
        .item = audit_json};

    return row_list_serve(r, &list, err);
}

int serve_audit_verify(struct request *r, struct err *err)
{
    uint64_t entries, bad = 0;
    int whole;

    if (db_count(r->conn, &db_audit_log, &(struct db_page){0}, &entries, err) < 0 ||
        (whole = audit_verify(r->conn, &bad, err)) < 0)
        return -1;
    return reply_json(r, 200,
        json_pack("{s:b, s:I, s:o}", "whole", whole, "entries", (json_int_t)entries, "first_bad_seq",
            whole ? json_null() : json_integer((json_int_t)bad)),
        err);
}

/* ---- export ---- */

/* RFC 4180; what a spreadsheet would take for a formula gets a quote before it. */
static int csv_field(struct buf *b, const char *text, struct err *err)
{
    if (buf_append(b, "\"", 1, err) < 0 || (*text && strchr("=+-@\t\r", *text) && buf_append(b, "'", 1, err) < 0))
        return -1;
    for (; *text; text++)
        if (buf_append(b, text, 1, err) < 0 || (*text == '"' && buf_append(b, text, 1, err) < 0))
            return -1;
    return buf_append(b, "\"", 1, err);
}

static int csv_row(struct buf *b, const struct audit_row *row, struct err *err)
{
    char at[CLOCK_RFC3339_SIZE];
    const char *const texts[] = {at, row->actor, row->action, row->object_kind, row->object_id, row->outcome,
        row->detail_json, row->address, row->request_id, row->hash};

    clock_rfc3339(row->at, at);
    if (buf_printf(b, err, "%llu", (unsigned long long)row->seq) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (buf_append(b, ",", 1, err) < 0 || csv_field(b, texts[i], err) < 0)
            return -1;
    return buf_append(b, "\r\n", 2, err);
}

static int ndjson_row(struct buf *b, const struct audit_row *row, struct err *err)
{
    json_t *json = audit_json(NULL, row);
    AUTO_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for an audit entry");
    return buf_append(b, text, strlen(text), err) < 0 ? -1 : buf_append(b, "\n", 1, err);
}

/* Appends up to `limit` entries behind *seq, which moves on. */
static int export_rows(struct request *r, struct buf *b, bool csv, uint64_t limit, uint64_t *seq, struct err *err)
{
    for (uint64_t done = 0; done < limit;) {
        AUTO_DB_SET struct db_set set = {0};
        char from[24];
        const struct db_filter behind = {"seq", DB_GE, from};
        const struct db_page page = {.filters = &behind,
            .filter_count = 1,
            .sort = "seq",
            .limit = (uint32_t)(limit - done < PAGE ? limit - done : PAGE)};

        (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)*seq + 1);
        if (db_list(r->conn, &db_audit_log, &page, &set, err) < 0)
            return -1;
        for (size_t i = 0; i < set.count; i++) {
            const struct audit_row *row = db_at(&set, struct audit_row, i);

            if ((csv ? csv_row(b, row, err) : ndjson_row(b, row, err)) < 0)
                return -1;
            *seq = row->seq;
        }
        done += set.count;
        if (set.count < page.limit)
            return 0;
    }
    return 1;
}

int serve_audit_export(struct request *r, struct err *err)
{
    static const char head[] = "seq,at,actor,action,object_kind,object_id,outcome,detail,address,request_id,hash\r\n";
    const char *format = request_query(r, "format");
    bool csv = format && strcmp(format, "csv") == 0;
    uint64_t seq = (uint64_t)request_query_int(r, "after_seq", 0);
    uint64_t limit = (uint64_t)request_query_int(r, "limit", 10000);
    struct buf b = BUF_INIT(PIECE_MAX);
    int more;

    if ((csv && seq == 0 && buf_append(&b, head, sizeof(head) - 1, err) < 0) ||
        (more = export_rows(r, &b, csv, limit, &seq, err)) < 0) {
        buf_done(&b);
        return -1;
    }
    /* The buffer's memory becomes the answer's. */
    (void)reply_text(r, 200, csv ? "text/csv; charset=utf-8" : "application/x-ndjson", (char *)b.data, b.len);
    if (more)
        (void)snprintf(r->reply.link, sizeof(r->reply.link),
            "</api/v1/audit/export?format=%s&after_seq=%llu>; rel=\"next\"", csv ? "csv" : "ndjson",
            (unsigned long long)seq);
    return 0;
}
