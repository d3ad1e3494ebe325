/* SPDX-License-Identifier: Apache-2.0
 *
 * Points that retention took off the list and the hub may not have heard of: reports are not answered, and a session, a vault or a hub may end
 * at any moment. What stands here is told again at the beginning of each session until it has long been told in one that goes on; else the hub
 * would list points for ever that nobody can open.
 *
 * Kept in the machine's file `dropped`, durable before the points go. Touched by one thread at a time.
 */
#ifndef TRANSPORT_VAULT_DROPLOG_H
#define TRANSPORT_VAULT_DROPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/pointlist.h"

#define DROPLOG_ITEMS_MAX (1u << 20) /* a point every second for twelve days */

struct droplog_item {
    uint64_t sequence;
    uint64_t noted_usec; /* monotonic; 0: before this process began */
};

struct droplog {
    struct droplog_item *items; /* in the order in which they were noted */
    size_t count, cap;
    bool unsure;          /* there were others, which are not known: only the full list says what is left */
    uint64_t unsure_usec; /* monotonic: since when, at the latest; 0: before this process began */
};

void droplog_done(struct droplog *l);
/* A file that is missing or damaged makes it unsure. *l must be empty. */
int droplog_load(const char *machine_dir, const struct ident *machine, struct droplog *l, struct err *err);
/* Durable when it returns. */
int droplog_store(const char *machine_dir, const struct ident *machine, const struct droplog *l, struct err *err);
/* Without a file nothing is noted, and it is unsure. Needs no room. Durable when it returns. */
int droplog_lose(const char *machine_dir, struct droplog *l, uint64_t now_usec, struct err *err);
/* More than DROPLOG_ITEMS_MAX: none stays, and it is unsure. One that was unsure knows these, for when it is not any more. */
int droplog_add(struct droplog *l, const uint64_t *sequences, size_t count, uint64_t now_usec, struct err *err);
/* Forgets what is on the list after all: it was not dropped, or came back with an index that was made again. */
void droplog_leave(struct droplog *l, const struct pointlist *points);
/* Forgets what was noted at or before that moment, and that it was unsure then. True when that changed anything. */
bool droplog_forget(struct droplog *l, uint64_t until_usec);

#endif
