/* SPDX-License-Identifier: Apache-2.0
 *
 * What diskimage.c, imagenote.c and imageconvert.c share and nobody else sees, except retention (opening_report.c).
 */
#ifndef TRANSPORT_VAULT_DISKIMAGE_PRIVATE_H
#define TRANSPORT_VAULT_DISKIMAGE_PRIVATE_H

#include "transport/vault/diskcopy.h"
#include "transport/vault/diskimage.h"
#include "transport/vault/vaultd_private.h"

struct imageconvert;

struct diskimage {
    struct diskimage *next; /* of vaultd.images */
    struct vaultd *d;
    struct vmachine *vm;
    struct diskimage_spec spec; /* its texts are not kept */
    char *id, *path, *part, *format;
    uint64_t sequence; /* resolved once prepared */
    bool is_device, cancelled;
    bool begun;     /* what is left of it is ours to remove */
    bool again;     /* a note of an earlier run was found */
    bool finished;  /* ... which had verified all */
    uint64_t noted; /* and had this much durable */
    struct view *view;
    int fd;
    struct diskcopy *copy;
    struct imageconvert *convert;
    struct diskimage_result result;
};

/* imagenote.c: 1 and the note is in i; 0: there is none for this very export. */
int imagenote_load(struct diskimage *i, struct err *err);
/* Durable when it returns. Any thread. */
int imagenote_write(const struct diskimage *i, uint64_t durable, bool finished, struct err *err);
void imagenote_remove(const struct vaultd *d, const char *id);
/* The file that a note says was begun, to be freed; NULL: none. */
char *imagenote_part(const struct vaultd *d, const char *id);

/* imageconvert.c: through qemu-img, over an opening of its own. Calls diskimage_written once. */
int imageconvert_start(struct diskimage *i, struct err *err);
void imageconvert_cancel(struct imageconvert *c);

/* diskimage.c: all is written and verified, or it failed. */
void diskimage_written(struct diskimage *i, const struct err *err);

#endif
