/* SPDX-License-Identifier: Apache-2.0
 *
 * The tracker: which granules of the protected disks may have changed since they were last drained (P3,
 * superset; the argument is in DESIGN.md). One interface, two drivers:
 *
 *   ebpf   a CO-RE program on the block layer's completion event sets bits in maps that are pinned in bpffs,
 * so tracking goes on while the agent is dead or being upgraded. Needs CAP_BPF and CAP_PERFMON (or root) and
 * kernel BTF. scan   for kernels without BTF: every drain reads the disk and compares it with hashes of what
 * was read of it before (tracker_note_read). Costs a full read; of barriers it knows only that there was none.
 *
 * A tracker watches whole disks; a partition is taken as the disk it lies on. One tracker has one name
 * (instance); opening a name that a dead process left behind takes over its bitmaps without a gap.
 *
 * Not seen by any driver but scan: pass-through commands (sg, NVMe admin), DAX, and what happens while the
 * machine is off. A reboot starts fresh incarnations: see tracker_disk_tag.
 *
 * One thread at a time per tracker. Calls block for as long as memory or one system call takes, scan's drain
 * excepted.
 */
#ifndef MOBILITY_TRACK_TRACKER_H
#define MOBILITY_TRACK_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mobility/track/dirty.h"
#include "transport/base/err.h"

#define TRACKER_GRANULE_SHIFT_MIN 12u
#define TRACKER_BITMAP_MAX_BYTES (64u << 20) /* so granules grow above 2 TiB */
#define TRACKER_DISKS_MAX 256u

struct tracker;
struct tracker_disk;

struct tracker_config {
    const char *driver;    /* "ebpf", "scan"; NULL: ebpf if this kernel has it, else scan */
    const char *pin_root;  /* a folder on bpffs; NULL: /sys/fs/bpf/leeward (bpffs is mounted there if it is not) */
    const char *instance;  /* [a-z0-9-]{1,32}; NULL: "agent" */
    const char *state_dir; /* scan keeps its hash tables here; ebpf does not use it */
};

/* Loads ahead what the kernel takes some tenths of a second to verify, for the next tracker_open of this process that takes over nothing
 * of an earlier one. Nothing is attached or pinned by it. What goes wrong tracker_open will say. */
void tracker_prepare(void);
/* Opens the tracker and takes over what an earlier process of the same instance left (pins of another boot or
 * format are removed first; the disks then come out as fresh). ERR_UNSUPPORTED: no BTF, or no driver of that
 * name. ERR_DENIED: no permission. ERR_CONFLICT: another live process has this instance open. */
int tracker_open(const struct tracker_config *config, struct tracker **ret_tracker, struct err *err);
/* Closes this process's side. Tracking goes on (ebpf). NULL is allowed. */
void tracker_close(struct tracker *t);
DEFINE_AUTO(tracker, tracker_close)
/* Removes every trace of the instance: tracking ends. For uninstall, and for tests. Absence is success. */
int tracker_destroy(const struct tracker_config *config, struct err *err);
const char *tracker_driver_name(const struct tracker *t);
/* Why the driver that would have been preferred does not work here, and what to do (text and correction; ERR_UNSUPPORTED). NULL: this is the
 * one that was asked for, or the preferred one. Lives as long as the tracker. */
const struct err *tracker_refused(const struct tracker *t);

/* The whole disk behind a path (block special file, or a link to one). ERR_NOT_FOUND, ERR_INVALID (not a
 * block device). */
int tracker_whole_disk(const char *path, dev_t *ret_disk, struct err *err);
/* Whether the ebpf driver can see the writes of this whole disk. 0: yes. -1: no, and err says why and what to
 * do instead (ERR_UNSUPPORTED: bio-based devices such as zram, pmem, NVMe multipath heads; zoned disks;
 * stacked ones -- LVM, md, dm
 * -- whose disks at the bottom are to be tracked). */
int tracker_is_trackable(dev_t disk, struct err *err);
/* 12 up to 2 TiB, then one more for each doubling. */
unsigned tracker_granule_shift(uint64_t size_bytes);

/* Begins (or, after a take-over, goes on) tracking the whole disk behind path. When this returns, every write
 * that completes is seen; one that was in flight has landed, for which it waits up to a second. A fresh disk has no
 * dirty bits (scan: all of it is dirty until it is read): the caller knows that nothing of it was read yet. ERR_EXISTS: already added.
 * The disk is the tracker's until tracker_remove or tracker_close. */
int tracker_add(struct tracker *t, const char *path, struct tracker_disk **ret_disk, struct err *err);
/* Ends tracking of one disk and forgets its bits. Also for a disk that is gone. */
int tracker_remove(struct tracker *t, struct tracker_disk *disk, struct err *err);
/* Disks that an earlier process tracked and this one has not added: forgets them. */
int tracker_forget_others(struct tracker *t, struct err *err);
/* Follows the device to its present size. What was added to it comes out dirty with the next drain. The
 * granule never changes in the life of an incarnation. The caller resizes its own dirty sets before the next
 * drain. */
int tracker_resize(struct tracker *t, struct tracker_disk *disk, struct err *err);

dev_t tracker_disk_dev(const struct tracker_disk *disk);
const char *tracker_disk_path(const struct tracker_disk *disk);      /* "/dev/NAME"; lives as long as disk */
uint64_t tracker_disk_size_bytes(const struct tracker_disk *disk);   /* as tracked */
uint64_t tracker_disk_actual_bytes(const struct tracker_disk *disk); /* as the device is now; 0: gone */
unsigned tracker_disk_granule_shift(const struct tracker_disk *disk);
/* The tag under which a dirty set of this disk is to be kept. When dirty_open with this tag resumes, the set
 * and the tracker's bits together hold everything that changed; when it does not, the disk has to be
 * resynchronized. */
void tracker_disk_tag(const struct tracker_disk *disk, struct dirty_tag *ret_tag);

/* Moves the dirty bits out of the tracker. Each is set in `pending` first (may be NULL), then in `round` (may
 * be NULL), and only then cleared in the tracker, so that neither an error nor a kill loses any. Both sets
 * must have the disk's size and granule. *ret_granules (may be NULL): how many were handed out. Everything
 * that completed before the call is in. Read the blocks after this returns, never before. scan hands a block out again until
 * it was read. Errors: those of dirty_set_word; scan: ERR_IO. */
int tracker_drain(struct tracker *t, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err);

/* To be called with all that is read of a disk because it was handed out or is copied, in the order of reading and before the next drain.
 * data NULL: it could not be read, so what was read before still stands. What is noted must be delivered, or be read again whatever the
 * next drain says (it is in `pending`, or a copy that was set back comes to it again). Costs ebpf nothing, scan a hash. */
void tracker_note_read(struct tracker *t, struct tracker_disk *disk, uint64_t start, uint32_t length, const void *data);
/* The driver finds changes by comparing content (scan). Then a drain takes long, so that it has found nothing does not say that there was a moment at which
 * the disks were as they were read; and a block that was never read is handed out, so a copy that leaves out free space saves nothing. */
bool tracker_compares(const struct tracker *t);

/* Barriers that completed on all tracked disks so far: flushes and FUA writes; scan: bytes written, so that any write counts as one. Only
 * differences mean anything. */
uint64_t tracker_barriers(const struct tracker *t);
/* False while a tracked disk's barriers cannot be counted (no volatile write cache, so the block layer drops
 * flushes, and no hook before that; or it drops them above the disk, at a volume that says it has none; scan: the
 * kernel does not count writes, queue/iostats). A round is then a window only if no write completed during it.
 * `why` (may be NULL): of the first such disk, and what to do. Reads sysfs; ask once per cycle. */
bool tracker_barriers_are_countable(const struct tracker *t, struct err *why);

struct tracker_stats {
    uint64_t writes;      /* completed write requests, discards and write-zeroes among them */
    uint64_t bytes;       /* of them */
    uint64_t discards;    /* discard, secure erase and write-zeroes requests */
    uint64_t barriers;    /* flushes and FUA writes */
    uint64_t wide;        /* requests recorded by whole lines of 512 granules */
    uint64_t beyond;      /* writes behind the tracked end: the disk has grown; tracker_resize makes up for them */
    uint64_t passthrough; /* data-out commands that bypass the block layer's addressing; their effect is not
                             recorded */
    uint64_t lost;        /* what could not be recorded at all */
    uint64_t unlisted;    /* requests that had no place in the list of those in flight, the second line of defence */
    uint64_t
        overtaken; /* completions that the kernel did not tell, made good by that list when the request was used again */
};
void tracker_disk_stats(const struct tracker_disk *disk, struct tracker_stats *ret_stats);
/* True when something was lost since the disk was added or acknowledged: its content is unknown,
 * resynchronize it. */
bool tracker_disk_is_unknown(const struct tracker_disk *disk);
/* The caller has made the disk known again by a resync that began (with a drain) after this call. */
void tracker_disk_acknowledge(struct tracker_disk *disk);

/* Mean cost of the programs per request in nanoseconds (its issue and its completion together), as the kernel measured it while
 * kernel.bpf_stats_enabled was on; 0 when unknown. */
uint64_t tracker_event_cost_nsec(const struct tracker *t, uint64_t *ret_events);

#endif
