/* SPDX-License-Identifier: Apache-2.0
 *
 * A branch over a point of a model, and an array of what each of its disks holds: a replica at work.
 */
#ifndef TESTS_UNIT_VAULT_MODELBRANCH_H
#define TESTS_UNIT_VAULT_MODELBRANCH_H

#include "tests/unit/vault/vaultmodel.h"
#include "transport/vault/branch.h"
#include "transport/vault/view.h"

struct modelbranch {
    char dir[240];
    uint8_t *disks[MODEL_DISKS];
    struct view *base;
    struct branch *b; /* NULL: not open */
};

void modelbranch_init(struct modelbranch *r, const struct model *m, const char *name);
void modelbranch_done(struct modelbranch *r);
/* Made over that point of the model and opened; `name` as for modelbranch_init. Asserts, as all here. */
void modelbranch_begin(struct modelbranch *r, struct model *m, const char *name, unsigned point);
/* The same for one that was closed and goes on. */
void modelbranch_open(struct modelbranch *r, struct model *m, const char *name, unsigned point);
void modelbranch_close(struct modelbranch *r);
void modelbranch_change(struct modelbranch *r, struct model *m);
/* So many changes and a flush. */
void modelbranch_work(struct modelbranch *r, struct model *m, int changes);

#endif
