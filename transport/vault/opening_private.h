/* SPDX-License-Identifier: Apache-2.0
 *
 * What opening.c, opening_child.c and opening_file.c share and nobody else sees.
 */
#ifndef TRANSPORT_VAULT_OPENING_PRIVATE_H
#define TRANSPORT_VAULT_OPENING_PRIVATE_H

#include "transport/log/mark.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"

enum opening_state { OPENING_PREPARING, OPENING_STARTING, OPENING_OPEN, OPENING_WAITING, OPENING_CLOSING };

#define OPENING_PID_SUFFIX                                                                                             \
    ".pid" /* of the server's file, beside its socket; who changes a branch locks it (hub/fabric/fixup_machine.c) */

struct opening {
    struct opening *next;
    struct vaultd *d;
    struct vmachine *vm;
    char id[IDENT_TEXT_SIZE];
    uint64_t sequence; /* resolved once prepared */
    bool write;
    bool passing;
    bool reopen;
    enum opening_state state;
    char *socket;
    struct mark mark; /* of the point: its disks */
    uint32_t nonce_stream;
    int key_fd; /* memory that holds the data key for the child; -1 */
    struct loop_child *child;
    struct loop_timer *timer;
    uint64_t started_usec, waits_until_usec;
    unsigned failures; /* children that died, one after the other */
    void (*opened)(void *arg, struct opening *o, const struct err *err);
    void *opened_arg;
    bool discard;
    void (*closed)(void *arg, const struct err *err);
    void *closed_arg;
};

/* opening.c */
/* The child serves, or could not be brought to. */
void opening_ready(struct opening *o);
void opening_failed(struct opening *o, const struct err *err);
void opening_again(struct opening *o);
/* The child is gone and the export is to be forgotten. */
void opening_gone(struct opening *o);

/* opening_child.c */
int opening_child_start(struct opening *o, struct err *err);
void opening_child_end(struct opening *o);
/* Removes the socket and the pid file. */
void opening_child_sweep(const struct opening *o);
/* Calls opening_again in a while. */
int opening_child_wait(struct opening *o, struct err *err);

/* opening_file.c */
int opening_file_write(const struct opening *o, struct err *err);
void opening_file_remove(const struct opening *o);
/* Calls `each` for every kept export. */
int opening_file_load(
    struct vaultd *d, void (*each)(struct vaultd *d, const struct opening_spec *spec), struct err *err);

#endif
