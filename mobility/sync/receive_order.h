/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub's command ReceiveDisks says, checked and within bounds. Pure.
 */
#ifndef MOBILITY_SYNC_RECEIVE_ORDER_H
#define MOBILITY_SYNC_RECEIVE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/log/mark.h"
#include "transport/proto/control.pb-c.h"

struct receive_order {
    char command_id[IDENT_TEXT_SIZE]; /* never empty */
    char receive_id[IDENT_TEXT_SIZE]; /* a UUID in lower case: passes of one failback */
    struct {
        uint32_t number;
        char key[256]; /* never empty, none twice */
    } disks[MARK_DISKS_MAX];
    struct ident machine; /* whose points; zero: the machine's own */
    unsigned disk_count;  /* at least one, unless they are only given back */
    uint64_t sequence;    /* 0: the newest; never 0 for the last time */
    bool check_only, last, release;
};

/* ERR_INVALID. */
int receive_order_read(const char *command_id, const Leeward__Control__V1__ReceiveDisks *command,
    struct receive_order *ret_order, struct err *err);
/* The same disks in the same order? */
bool receive_order_same_disks(const struct receive_order *a, const struct receive_order *b);

#endif
