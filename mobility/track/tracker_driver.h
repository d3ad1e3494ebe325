/* SPDX-License-Identifier: Apache-2.0
 *
 * What a driver gives to tracker.c, and what it may count on. The interface checks arguments, finds the disk, refuses
 * duplicates and keeps the list of disks; a driver does the rest. Calls are as their namesakes in tracker.h.
 */
#ifndef MOBILITY_TRACK_TRACKER_DRIVER_H
#define MOBILITY_TRACK_TRACKER_DRIVER_H

#include "mobility/track/tracker.h"
#include "mobility/track/wholedisk.h"

struct tracker_disk {
    const struct tracker *tracker;
    dev_t dev;
    char path[WHOLEDISK_NAME_MAX + 8];
    uint64_t size_bytes;    /* the driver changes it in resize */
    unsigned granule_shift; /* add fills it with what suits the size; the driver may put what it took over */
    uint64_t sequence;      /* the kernel's diskseq */
    struct dirty_tag tag;   /* the driver fills it in add */
    void *state;            /* the driver's own */
};

struct tracker_driver {
    const char *name;
    void (*prepare)(void); /* NULL: there is nothing to do ahead */
    /* Leaves *ret_state NULL on failure. The config's strings are checked and never NULL, pin_root excepted. */
    int (*open)(const struct tracker_config *config, void **ret_state, struct err *err);
    void (*close)(void *state); /* every disk was released before */
    int (*destroy)(const struct tracker_config *config, struct err *err);
    int (*add)(void *state, struct tracker_disk *disk, struct err *err);
    void (*release)(void *state, struct tracker_disk *disk); /* this process's side only; tracking goes on */
    int (*remove)(void *state, struct tracker_disk *disk, struct err *err); /* release follows */
    int (*forget_others)(void *state, struct tracker_disk *const *disks, size_t count, struct err *err);
    int (*resize)(void *state, struct tracker_disk *disk, uint64_t size_bytes, struct err *err);
    int (*drain)(void *state, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
        uint64_t *ret_granules, struct err *err);
    /* NULL: it sees writes, and what was read makes no difference to it. The range lies within the disk as tracked. */
    void (*note_read)(void *state, struct tracker_disk *disk, uint64_t start, uint32_t length, const void *data);
    bool compares; /* tracker_compares */
    uint64_t (*barriers)(void *state, const struct tracker_disk *disk);
    bool (*countable)(void *state, struct tracker_disk *disk, struct err *why);
    void (*stats)(void *state, const struct tracker_disk *disk, struct tracker_stats *ret_stats);
    bool (*is_unknown)(void *state, const struct tracker_disk *disk);
    void (*acknowledge)(void *state, struct tracker_disk *disk);
    uint64_t (*event_cost_nsec)(void *state, uint64_t *ret_events);
};

extern const struct tracker_driver tracker_ebpf_driver, tracker_scan_driver;

#endif
