/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes one disk of a recovery point to an image file or a block device of the vault's host, through qemu-img.
 */
#ifndef TRANSPORT_VAULT_DISKIMAGE_H
#define TRANSPORT_VAULT_DISKIMAGE_H

#include <stdint.h>

#include "transport/base/err.h"

struct vaultd;
struct diskimage;

struct diskimage_spec {
    const char *machine_id;
    uint64_t sequence; /* 0: the latest */
    uint32_t disk;
    const char *path;   /* absolute; a file that is not there yet, or a block device */
    const char *format; /* "raw", "qcow2", "vpc", "vmdk" */
    void (*progress)(void *arg, unsigned permille);
    /* Once: with NULL, or the error. The diskimage is gone when it returns. */
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

/* Begins. ERR_INVALID, ERR_EXISTS, ... before it began; later failures come by done. */
int diskimage_start(struct vaultd *d, const struct diskimage_spec *spec, struct diskimage **ret_image, struct err *err);
/* Ends it soon; done comes with ERR_CANCELLED. */
void diskimage_cancel(struct diskimage *image);

#endif
