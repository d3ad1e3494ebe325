/* SPDX-License-Identifier: Apache-2.0
 *
 * Users. A password that the hub draws is in the answer that makes it and nowhere else. A new password, and disabling, end
 * the user's sessions; the last administrator stays.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/login_gate.h"
#include "hub/api/row_json.h"
#include "hub/db/user_store.h"

#define U(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct user_row, member)                                                       \
    }
static const struct row_json_member user_members[] = {
    U("id", ROW_TEXT, id),
    U("name", ROW_TEXT, name),
    U("display_name", ROW_TEXT, display_name),
    U("role", ROW_TEXT, role),
    U("disabled", ROW_BOOL, disabled),
    U("has_password", ROW_BOOL, has_password),
    U("must_change_password", ROW_BOOL, must_change_password),
    U("oidc_issuer", ROW_TEXT_OR_NULL, oidc_issuer),
    U("oidc_subject", ROW_TEXT_OR_NULL, oidc_subject),
    U("session_count", ROW_NUMBER, session_count),
    U("last_login_at", ROW_TIME, last_login_at),
    U("password_changed_at", ROW_TIME, password_changed_at),
    U("etag", ROW_ETAG, version),
    U("created_at", ROW_TIME, created_at),
    U("updated_at", ROW_TIME, updated_at),
};
#undef U

static json_t *user_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, user_members, ARRAY_LEN(user_members));
}

static const struct row_filter user_filters[] = {
    {"name", "name", DB_LIKE},
    {"role", "role", DB_EQ},
    {"disabled", "disabled", DB_EQ},
};

int serve_user_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_users, .filters = user_filters, .filter_count = ARRAY_LEN(user_filters), .item = user_json};

    return row_list_serve(r, &list, err);
}

int serve_user_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_users, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, user_json(r, set.items), err);
}

/* ---- passwords ---- */

/* The password of the body, or a drawn one where none is named and `draw`. "" = none. */
struct new_password {
    char drawn[USER_PASSWORD_TEXT_SIZE];
    char hash[USER_HASH_SIZE];
};

static int hash_password(struct request *r, const char *password, char hash[USER_HASH_SIZE], struct err *err)
{
    int rc;

    if (!login_gate_enter(r->services->logins))
        return err_set(err, ERR_UNAVAILABLE, "many passwords are worked on at this moment");
    rc = user_password_hash(password, hash, err);
    login_gate_leave(r->services->logins);
    return rc;
}

static int take_password(struct request *r, const char *name, bool draw, struct new_password *p, struct err *err)
{
    const char *password = request_str(r, "password");
    const char *fault = password ? user_password_fault(name, password) : NULL;

    *p = (struct new_password){0};
    if (fault)
        return request_fault(r, err, "/password", "weak", "%s", fault);
    if (password)
        return hash_password(r, password, p->hash, err);
    if (!draw)
        return 0;
    user_password_draw(p->drawn);
    return hash_password(r, p->drawn, p->hash, err);
}

static json_t *with_password(json_t *user, const struct new_password *p)
{
    if (user && p->drawn[0])
        json_object_set_new(user, "password", json_string(p->drawn));
    return user;
}

/* ---- changes ---- */

int serve_user_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct new_password password;
    char id[IDENT_TEXT_SIZE], location[96];
    struct user_spec spec = {
        .name = request_str(r, "name"), .display_name = request_str(r, "display_name"), .role = request_str(r, "role")};

    if (take_password(r, spec.name, true, &password, err) < 0)
        return -1;
    spec.hash = password.hash;
    spec.must_change = request_bool(r, "must_change_password", password.drawn[0] != 0);
    if (user_create(r->conn, &spec, id, err) < 0 || db_need(r->conn, &db_users, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/users/%s", id);
    return reply_created(r, with_password(user_json(r, set.items), &password), location, err);
}

int serve_user_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set after = {0};
    bool draw = request_bool(r, "reset_password", false), disabled, must_change;
    struct user_change change = {.display_name = request_str(r, "display_name"), .role = request_str(r, "role")};
    const struct user_row *row;
    struct new_password password;

    if (db_need(r->conn, &db_users, r->params[0], &set, err) < 0)
        return -1;
    row = db_at(&set, struct user_row, 0);
    if (draw && request_str(r, "password"))
        return request_fault(r, err, "/reset_password", "both", "name a password or have one drawn, not both");
    if (take_password(r, row->name, draw, &password, err) < 0)
        return -1;
    disabled = request_bool(r, "disabled", row->disabled);
    must_change =
        request_bool(r, "must_change_password", password.hash[0] ? password.drawn[0] != 0 : row->must_change_password);
    change.disabled = &disabled;
    change.must_change = &must_change;
    change.hash = password.hash[0] ? password.hash : NULL;
    if (user_update(r->conn, row->id, &change, r->if_version, err) < 0 ||
        db_need(r->conn, &db_users, row->id, &after, err) < 0)
        return -1;
    return reply_json(r, 200, with_password(user_json(r, after.items), &password), err);
}

int serve_user_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_users, r->params[0], &set, err) < 0 ||
        user_delete(r->conn, db_at(&set, struct user_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}
