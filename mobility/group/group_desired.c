/* SPDX-License-Identifier: Apache-2.0
 *
 * A list that is wrong in one place is not believed at all: the machine stays in the group as it was.
 */
#include "mobility/group/group_desired.h"

#include <stdio.h>
#include <string.h>

static int read_member(const Leeward__Control__V1__GroupMember *m, struct group_peer *ret_peer, struct err *err)
{
    if (ident_from_text(m->machine_id, &ret_peer->id) < 0 || ident_is_zero(&ret_peer->id))
        return err_set(err, ERR_INVALID, "%.64s is in the group without a proper id", m->name);
    if (strlen(m->address) >= sizeof(ret_peer->address))
        return err_set(err, ERR_INVALID, "%.64s is in the group with an address of %zu bytes, %zu at most", m->name,
            strlen(m->address), sizeof(ret_peer->address) - 1);
    snprintf(ret_peer->name, sizeof(ret_peer->name), "%s", m->name);
    snprintf(ret_peer->address, sizeof(ret_peer->address), "%s", m->address);
    return 0;
}

static bool has(const struct group_wish *w, unsigned count, const struct ident *id)
{
    for (unsigned i = 0; i < count; i++)
        if (ident_equal(&w->members[i].id, id))
            return true;
    return false;
}

int group_desired_read(
    const Leeward__Control__V1__DesiredGroup *d, const struct ident *self, struct group_wish *ret_wish, struct err *err)
{
    struct group_wish *w = ret_wish;

    *w = (struct group_wish){0};
    if (ident_from_text(d->group_id, &w->id) < 0 || ident_is_zero(&w->id))
        return err_set(err, ERR_INVALID, "a group without a proper id");
    if (d->n_members > GROUP_MEMBERS_MAX)
        return err_set(err, ERR_INVALID, "a group of %zu machines, %u at most", d->n_members, GROUP_MEMBERS_MAX);
    snprintf(w->name, sizeof(w->name), "%s", d->name);
    w->number = d->number;
    w->membership = d->membership;
    w->interval_usec = d->interval_usec;
    w->budget_usec = d->freeze_budget_usec;
    for (size_t i = 0; i < d->n_members; i++) {
        if (read_member(d->members[i], &w->members[w->count], err) < 0)
            return -1;
        if (has(w, w->count, &w->members[w->count].id))
            return err_set(err, ERR_INVALID, "%.64s is twice in the group", w->members[w->count].name);
        w->count++;
    }
    if (!has(w, w->count, self))
        return err_set(err, ERR_INVALID, "this machine is not among the members of its group");
    if (ident_from_text(d->coordinator_id, &w->coordinator) < 0 || !has(w, w->count, &w->coordinator))
        w->coordinator = w->members[0].id;
    return 0;
}
