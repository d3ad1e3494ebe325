/* SPDX-License-Identifier: Apache-2.0
 *
 * The query of the offsets is peer_store's; a text that cannot be parsed any more (it was checked when it was stored) is none.
 */
#include "hub/control/desired_hours.h"

#include <string.h>

#include "hub/db/peer_store.h"
#include "transport/base/log.h"

static void take_windows(struct desired_hours *h, const char *text)
{
    struct work_window windows[WORK_HOURS_MAX];
    struct err bad = ERR_INIT;
    size_t count = 0;

    if (work_hours_parse(text, windows, &count, &bad) < 0) {
        log_event(LOG_WARN, "work_hours_ignored", LOG_E(&bad));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        h->windows[i] = (Leeward__Control__V1__WorkWindow)LEEWARD__CONTROL__V1__WORK_WINDOW__INIT;
        h->windows[i].days = windows[i].days;
        h->windows[i].from_minute = windows[i].from_minute;
        h->windows[i].to_minute = windows[i].to_minute;
    }
    h->window_count = count;
}

static void take_rows(struct desired_hours *h, const PGresult *r, int n)
{
    memset(h, 0, sizeof(*h));
    if (n > 0)
        take_windows(h, db_text(r, 0, 2));
    for (int i = 0; i < n && h->offset_count < DESIRED_OFFSETS_MAX; i++) {
        Leeward__Control__V1__UtcOffset *o = &h->offsets[h->offset_count++];

        *o = (Leeward__Control__V1__UtcOffset)LEEWARD__CONTROL__V1__UTC_OFFSET__INIT;
        o->from_utc_usec = db_u64(r, i, 0);
        o->seconds = (int32_t)db_i64(r, i, 1);
    }
}

int desired_hours_load(struct db_conn *conn, const char *machine_id, struct desired_hours *h, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = desired_offsets(conn, machine_id, &r, err);

    take_rows(h, r, n);
    return n < 0 ? -1 : 0;
}

int desired_hours_load_node(struct db_conn *conn, const char *node_id, struct desired_hours *h, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = desired_node_offsets(conn, node_id, &r, err);

    take_rows(h, r, n);
    return n < 0 ? -1 : 0;
}

int desired_hours_load_vault(struct db_conn *conn, const char *vault_id, struct desired_hours *h, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = desired_vault_offsets(conn, vault_id, &r, err);

    take_rows(h, r, n);
    return n < 0 ? -1 : 0;
}

static void lay_lists(struct desired_hours *h)
{
    for (size_t i = 0; i < h->window_count; i++)
        h->window_list[i] = &h->windows[i];
    for (size_t i = 0; i < h->offset_count; i++)
        h->offset_list[i] = &h->offsets[i];
}

void desired_hours_lay(struct desired_hours *h, Leeward__Control__V1__AgentDesired *a)
{
    lay_lists(h);
    a->work_windows = h->window_list;
    a->n_work_windows = h->window_count;
    a->utc_offsets = h->offset_list;
    a->n_utc_offsets = h->offset_count;
}

void desired_hours_lay_node(struct desired_hours *h, Leeward__Control__V1__NodeDesired *n)
{
    lay_lists(h);
    n->work_windows = h->window_list;
    n->n_work_windows = h->window_count;
    n->utc_offsets = h->offset_list;
    n->n_utc_offsets = h->offset_count;
}

void desired_hours_lay_vault(struct desired_hours *h, Leeward__Control__V1__VaultDesired *v)
{
    lay_lists(h);
    v->work_windows = h->window_list;
    v->n_work_windows = h->window_count;
    v->utc_offsets = h->offset_list;
    v->n_utc_offsets = h->offset_count;
}
