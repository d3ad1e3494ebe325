/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands on their way out. Rows that are not done are sent once per session; a session that was lost sends them again, and
 * receivers know them by their id. An order that a session has had and not answered is not sent twice.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/job_store.h"
#include "transport/base/bytes.h"
#include "transport/base/log.h"
#include "transport/proto/wire.h"

#define COMMAND_MAX (64 * 1024)

struct commands_task {
    struct control_task task;
    PGresult *rows;
    char target[IDENT_TEXT_SIZE]; /* "" = everybody's */
};

static int commands_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct commands_task *t = (struct commands_task *)task;

    return command_open_list(conn, t->target, &t->rows, err);
}

static int find_sent(const struct peer_session *s, const struct ident *id)
{
    for (unsigned i = 0; i < s->command_count; i++)
        if (ident_equal(&s->commands[i], id))
            return (int)i;
    return -1;
}

/* '\x...' as PostgreSQL writes bytea. */
static int payload_unpack(const char *hex, ProtobufCMessage **ret_m, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(COMMAND_MAX);
    size_t n = strlen(hex) > 2 ? (strlen(hex) - 2) / 2 : 0;

    if (n == 0 || buf_reserve(&bytes, n, err) < 0 || bytes_from_hex(hex + 2, bytes.data, n) < 0)
        return err_set(err, ERR_CORRUPT, "a stored command is not readable");
    return wire_unpack(&leeward__control__v1__command__descriptor, bytes.data, n, ret_m, err);
}

static void send_command(struct peer_session *s, const PGresult *r, int row)
{
    Leeward__Control__V1__Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    struct ident id;

    /* What finds no room now goes out when an answer makes some. */
    if (ident_from_text(db_text(r, row, 0), &id) < 0 || find_sent(s, &id) >= 0 ||
        s->command_count >= SESSION_COMMANDS_MAX)
        return;
    if (!s->commands && !(s->commands = mem_alloc(SESSION_COMMANDS_MAX, sizeof(*s->commands))))
        return; /* they stay open: the next look sends them */
    if (payload_unpack(db_text(r, row, 3), &m, &err) < 0) {
        log_event(LOG_ERROR, "command_unreadable", LOG_S("command", db_text(r, row, 0)), LOG_E(&err));
        return;
    }
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND;
    directive.command = (Leeward__Control__V1__Command *)m;
    if (peer_session_send(s, &directive) == 0) {
        s->commands[s->command_count++] = id;
        log_event(LOG_INFO, "command_sent", LOG_S("peer", s->id), LOG_S("command", db_text(r, row, 0)));
    }
    wire_free(m);
}

static void commands_then(struct control_task *task)
{
    struct commands_task *t = (struct commands_task *)task;
    struct control *control = task->control;

    if (!t->target[0])
        control->commands_busy = false;
    if (task->rc < 0 && task->err.code != ERR_UNAVAILABLE)
        log_event(LOG_WARN, "commands_failed", LOG_E(&task->err));
    for (int i = 0; i < task->rc; i++) {
        struct peer_session *s = peer_session_find(control, db_text(t->rows, i, 2));

        if (s && s->greeted && strcmp(s->role, db_text(t->rows, i, 1)) == 0)
            send_command(s, t->rows, i);
    }
    if (!t->target[0] && control->commands_again) {
        control->commands_again = false;
        commands_push(control, NULL);
    }
}

static void commands_drop(struct control_task *task)
{
    PQclear(((struct commands_task *)task)->rows);
}

void commands_push(struct control *control, struct peer_session *only)
{
    struct commands_task *t;

    if (!only && control->commands_busy) {
        control->commands_again = true;
        return;
    }
    t = (struct commands_task *)control_task_new(sizeof(*t), control, NULL);
    if (!t)
        return;
    t->task.work = commands_work;
    t->task.then = commands_then;
    t->task.drop = commands_drop;
    if (only)
        memcpy(t->target, only->id, sizeof(t->target));
    else
        control->commands_busy = true;
    if (control_task_submit(&t->task, NULL) < 0 && !only)
        control->commands_busy = false;
}

void commands_answered(struct peer_session *s, const char *command_id)
{
    struct ident id;
    int at = ident_from_text(command_id, &id) < 0 ? -1 : find_sent(s, &id);
    bool was_full = s->command_count == SESSION_COMMANDS_MAX;

    if (at < 0)
        return;
    s->commands[at] = s->commands[--s->command_count];
    if (was_full && s->call)
        commands_push(s->control, s);
}
