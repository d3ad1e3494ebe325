/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts of a peer end in logs and events: they are cut to our sizes, and control characters become spaces.
 */
#include "mobility/group/group_wire.h"

#include <stdio.h>
#include <string.h>

#include "transport/proto/group.pb-c.h"
#include "transport/proto/wire.h"

static_assert((int)GROUP_ORDER_ABORT == (int)LEEWARD__GROUP__V1__ORDER_KIND__ABORT, "as the protocol numbers them");
static_assert((int)GROUP_ANSWER_FAILED == (int)LEEWARD__GROUP__V1__ANSWER_KIND__FAILED, "as the protocol numbers them");

static void take_text(char *out, size_t size, const char *in)
{
    snprintf(out, size, "%s", in ? in : "");
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

int group_wire_put_order(const struct group_order *o, struct buf *out, struct err *err)
{
    Leeward__Group__V1__Order m = LEEWARD__GROUP__V1__ORDER__INIT;
    Leeward__Group__V1__Prepare p = LEEWARD__GROUP__V1__PREPARE__INIT;

    m.kind = (Leeward__Group__V1__OrderKind)o->kind;
    if (o->kind == GROUP_ORDER_PREPARE) {
        p.group_id = (ProtobufCBinaryData){IDENT_SIZE, (uint8_t *)(uintptr_t)o->group.bytes};
        p.group_point_id = (ProtobufCBinaryData){IDENT_SIZE, (uint8_t *)(uintptr_t)o->point.bytes};
        p.membership = o->membership;
        p.budget_usec = o->budget_usec;
        m.prepare = &p;
    }
    m.text = (char *)o->text;
    return wire_pack(&m.base, out, err);
}

int group_wire_put_answer(const struct group_answer *a, struct buf *out, struct err *err)
{
    Leeward__Group__V1__Answer m = LEEWARD__GROUP__V1__ANSWER__INIT;

    m.kind = (Leeward__Group__V1__AnswerKind)a->kind;
    m.freeze_usec = a->freeze_usec;
    m.sequence = a->sequence;
    if (a->kind == GROUP_ANSWER_FAILED) {
        m.code = (char *)(uintptr_t)err_code_name(a->why.code);
        m.text = (char *)a->why.text;
        m.correction = (char *)a->why.correction;
    }
    return wire_pack(&m.base, out, err);
}

static int take_prepare(const Leeward__Group__V1__Prepare *p, struct group_order *o, struct err *err)
{
    if (!p || p->group_id.len != IDENT_SIZE || p->group_point_id.len != IDENT_SIZE)
        return err_set(err, ERR_INVALID, "an order to prepare without its ids");
    memcpy(o->group.bytes, p->group_id.data, IDENT_SIZE);
    memcpy(o->point.bytes, p->group_point_id.data, IDENT_SIZE);
    o->membership = p->membership;
    o->budget_usec = p->budget_usec;
    return 0;
}

int group_wire_get_order(const struct buf *message, struct group_order *ret_order, struct err *err)
{
    ProtobufCMessage *m;
    const Leeward__Group__V1__Order *order;
    int r = 0;

    if (wire_unpack(&leeward__group__v1__order__descriptor, message->data, message->len, &m, err) < 0)
        return -1;
    order = (const Leeward__Group__V1__Order *)m;
    *ret_order = (struct group_order){.kind = (enum group_order_kind)order->kind};
    take_text(ret_order->text, sizeof(ret_order->text), order->text);
    if ((int)order->kind <= GROUP_ORDER_NONE || (int)order->kind >= GROUP_ORDERS)
        r = err_set(err, ERR_INVALID, "an order of unknown kind %d", (int)order->kind);
    else if (ret_order->kind == GROUP_ORDER_PREPARE)
        r = take_prepare(order->prepare, ret_order, err);
    wire_free(m);
    return r;
}

static void take_why(const Leeward__Group__V1__Answer *a, struct err *why)
{
    char text[200], correction[200];

    take_text(text, sizeof(text), a->text);
    take_text(correction, sizeof(correction), a->correction);
    err_set(why, err_code_from_name(a->code ? a->code : ""), "%s", text[0] ? text : "no reason given");
    if (correction[0])
        err_hint(why, "%s", correction);
}

int group_wire_get_answer(const struct buf *message, struct group_answer *ret_answer, struct err *err)
{
    ProtobufCMessage *m;
    const Leeward__Group__V1__Answer *a;
    int r = 0;

    if (wire_unpack(&leeward__group__v1__answer__descriptor, message->data, message->len, &m, err) < 0)
        return -1;
    a = (const Leeward__Group__V1__Answer *)m;
    *ret_answer = (struct group_answer){
        .kind = (enum group_answer_kind)a->kind, .freeze_usec = a->freeze_usec, .sequence = a->sequence};
    if ((int)a->kind <= GROUP_ANSWER_NONE || (int)a->kind > GROUP_ANSWER_FAILED)
        r = err_set(err, ERR_INVALID, "an answer of unknown kind %d", (int)a->kind);
    else if (ret_answer->kind == GROUP_ANSWER_FAILED)
        take_why(a, &ret_answer->why);
    wire_free(m);
    return r;
}
