/* SPDX-License-Identifier: Apache-2.0
 *
 * The branches of a machine as folders: which there are, what they stand on, how much they take, and removing one for good.
 * Opening and writing is branch.h.
 */
#ifndef TRANSPORT_VAULT_BRANCHLIST_H
#define TRANSPORT_VAULT_BRANCHLIST_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/branch.h"

struct branch_entry {
    char name[NAME_MAX + 1]; /* of its folder: the id as text */
    bool damaged;            /* its file `branch` cannot be read: info is zero but for what the name says */
    struct branch_info info;
    uint64_t stored_bytes;
};

struct branch_list {
    struct branch_entry *items;
    size_t count;
};

/* All branches of the machine in that folder, open or not; none when it has no branches at all. */
int branchlist_load(const char *machine_dir, struct branch_list *ret_list, struct err *err);
void branchlist_done(struct branch_list *list);
#define AUTO_BRANCH_LIST __attribute__((cleanup(branchlist_done)))

/* Removes a branch that is not open; after a crash it is there or not there. 0 too when there is none. */
int branchlist_discard(const char *machine_dir, const char *name, struct err *err);
/* Removes what a discard left when it was interrupted. */
int branchlist_sweep(const char *machine_dir, struct err *err);

#endif
