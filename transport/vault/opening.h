/* SPDX-License-Identifier: Apache-2.0
 *
 * Open points: each is one nbdkit child with our plugin on a unix socket, read-only over a point or read-write over a branch.
 * What is open is kept in DATA/exports/<id>.json, so that it is opened again after the vault was restarted; a child that dies
 * is started again.
 */
#ifndef TRANSPORT_VAULT_OPENING_H
#define TRANSPORT_VAULT_OPENING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/proto/control.pb-c.h"

struct vaultd;
struct vmachine;
struct opening;

struct opening_spec {
    const char *export_id; /* UUID text; for a branch also its name */
    const char *machine_id;
    uint64_t sequence; /* 0: the latest */
    bool write;
    bool reopen;        /* of a branch that must be there: none is made */
    const char *socket; /* "": chosen here */
    bool passing;       /* of ours, for a copy: neither kept nor told to the hub */
};

/* `done` is called once, later: with the opening, or with NULL and the error. An id that is open already (same machine) is a
 * success. ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT (being opened or closed). */
int opening_open(struct vaultd *d, const struct opening_spec *spec,
    void (*done)(void *arg, struct opening *o, const struct err *err), void *arg, struct err *err);
/* Ends the child (a branch is flushed first) and forgets the export; discard removes its branch too, open or not. An id that is not
 * open is a success. done: with NULL or the error. */
int opening_close(struct vaultd *d, const char *export_id, bool discard, void (*done)(void *arg, const struct err *err),
    void *arg, struct err *err);

const char *opening_id(const struct opening *o);
const char *opening_socket(const struct opening *o);
/* The result of the command OpenPoint (control.proto); free it. NULL: no memory. */
char *opening_json(const struct opening *o);
/* Does the point have this disk? */
bool opening_has_disk(const struct opening *o, uint32_t number);

/* The points of this machine that are open: *ret_list is allocated. */
int opening_pinned(const struct vmachine *vm, uint64_t **ret_list, size_t *ret_count, struct err *err);
/* Fills status->exports; opening_describe_done frees them. */
int opening_describe(const struct vaultd *d, Leeward__Control__V1__VaultStatus *status, struct err *err);
void opening_describe_done(Leeward__Control__V1__VaultStatus *status);

/* At start: opens again what was open. Bad files are logged and left alone. */
int opening_restore(struct vaultd *d, struct err *err);
/* At the end: tells the children to end; they are opened again at the next start. */
void opening_stop_all(struct vaultd *d);

#endif
