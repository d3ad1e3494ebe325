/* SPDX-License-Identifier: Apache-2.0
 *
 * The size of disks, asked for anew. A disk that was made larger under a running system (a LUN of a SAN, a virtual disk of some
 * hypervisors, the file below a loop device) keeps the size that the kernel once read until somebody asks it: SCSI by
 * device/rescan, NVMe by device/rescan_controller in sysfs, loop devices by LOOP_SET_CAPACITY (loop(4)). Where there is no way to ask,
 * as for virtio, the kernel hears of it by itself. What the kernel then says, the engine follows without being told.
 *
 * Asking waits for the hardware, so it is done on a thread of its own, one request after the other.
 */
#ifndef MOBILITY_DISKSIZE_H
#define MOBILITY_DISKSIZE_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "mobility/inventory.h"

#define DISKSIZE_KEYS_MAX 256u

/* Asks those disks, on the caller's thread. *ret_answer is an object, {"disks": [{"key", "device", "before_bytes", "size_bytes"}]} in the
 * order of the keys, with sizes as text. ERR_NOT_FOUND names a disk that is not there; ERR_IO, ERR_DENIED one that cannot be asked. */
int disksize_look(
    const struct inventory_source *source, char *const *keys, size_t count, json_t **ret_answer, struct err *err);

struct disksize;

/* On the loop thread. error NULL: `answer` is the text of the object above; both live until it returns. */
typedef void disksize_done(void *arg, const char *command_id, const struct err *error, const char *answer);

int disksize_new(sd_event *loop, disksize_done *done, void *arg, struct disksize **ret_disksize, struct err *err);
/* Waits for a request that runs; nobody hears of it any more. NULL is allowed. */
void disksize_free(struct disksize *d);
/* ERR_INVALID without keys or with too many; ERR_NOMEM when too many requests wait. */
int disksize_ask(struct disksize *d, const char *command_id, char *const *keys, size_t count, struct err *err);

#endif
