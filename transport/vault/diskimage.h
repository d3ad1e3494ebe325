/* SPDX-License-Identifier: Apache-2.0
 *
 * Export of a disk at a point to an image file or a block device of the vault's host. A file grows under its name with ".part" behind it
 * and gets its own name when it is complete and was verified. DATA/exports/<command id>.copy says what was begun: the same command again,
 * after the vault or the hub was killed, goes on (raw, block device) or begins again (other formats).
 */
#ifndef TRANSPORT_VAULT_DISKIMAGE_H
#define TRANSPORT_VAULT_DISKIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

struct vaultd;
struct diskimage;

struct diskimage_result {
    uint64_t size_bytes;
    uint64_t written_bytes; /* in this run; raw and block device, else 0 */
    bool resumed;           /* it went on where an earlier run ended */
};

struct diskimage_spec {
    const char *id; /* of the command */
    const char *machine_id;
    uint64_t sequence; /* 0: the latest */
    uint32_t disk;
    const char *path;   /* absolute; a file that is not there yet, or a block device */
    const char *format; /* "raw", "qcow2", "vpc", "vmdk"; a block device takes raw alone */
    char *const *protected_devices;
    size_t protected_count;
    void (*progress)(void *arg, unsigned permille, const char *what);
    /* Once: with NULL, or the error. The diskimage is gone when it returns. */
    void (*done)(void *arg, const struct diskimage_result *result, const struct err *err);
    void *arg;
};

/* Begins. ERR_INVALID, ERR_EXISTS, ERR_REFUSED, ... before it began; later failures come by done. */
int diskimage_start(struct vaultd *d, const struct diskimage_spec *spec, struct diskimage **ret_image, struct err *err);
/* Ends it soon; done comes with ERR_CANCELLED. */
void diskimage_cancel(struct diskimage *image);
/* The command was cancelled while nobody worked on it: removes what it left. */
void diskimage_forget(const struct vaultd *d, const char *id);

#endif
