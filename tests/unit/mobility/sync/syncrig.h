/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent without hub and TLS for tests: engine, uplink, outbox and hash fetcher over the real RPC to a fake node, on loop
 * disks. It runs on a thread of the test, or in a child process that can be killed.
 */
#ifndef TESTS_UNIT_MOBILITY_SYNC_SYNCRIG_H
#define TESTS_UNIT_MOBILITY_SYNC_SYNCRIG_H

#include <pthread.h>
#include <sys/types.h>

#include "mobility/sync/engine.h"
#include "tests/unit/mobility/sync/fakenode.h"
#include "tests/unit/mobility/track/loopdisk.h"

#define SYNCRIG_DISKS 2

struct syncrig_agent;

struct syncrig {
    char dir[64];
    char bpf[96]; /* a bpffs of the test's own: what the tracker pins goes with the test, however it ends */
    struct loopdisk disks[SYNCRIG_DISKS];
    unsigned disk_count;
    struct fakenode *node;
    struct engine_wish wish;
    uint64_t patience_usec;      /* of the engine; 0: its own */
    const char *driver;          /* of the tracker; NULL: the best that there is */
    struct syncrig_agent *agent; /* running on a thread; NULL: not */
    pid_t child;                 /* running as a process; 0: not */
};

/* Makes the disks and the node; nothing is protected yet. */
void syncrig_init(struct syncrig *rig, unsigned disk_count, uint64_t size_bytes, unsigned sector_bytes);
/* The same on backing files of the caller, given away. */
void syncrig_init_on(
    struct syncrig *rig, unsigned disk_count, uint64_t size_bytes, unsigned sector_bytes, const int *file_fds);
void syncrig_done(struct syncrig *rig); /* stops what runs and removes every trace */

/* Makes an ext4 on the disk with that index and mounts it at DIR/mntINDEX. It is to be unmounted before syncrig_done. */
void syncrig_mount(struct syncrig *rig, unsigned disk);
void syncrig_unmount(struct syncrig *rig, unsigned disk);

void syncrig_start(struct syncrig *rig); /* on a thread, with rig->wish */
void syncrig_stop(struct syncrig *rig);
struct engine *syncrig_engine(struct syncrig *rig);
/* The part in points of a group; the test is the loop that orders them. */
struct group_part *syncrig_part(struct syncrig *rig);
/* Times that an event of this code was given since syncrig_start. */
unsigned syncrig_events(struct syncrig *rig, const char *code);
/* Waits for the result of a command, 90 s at most. */
bool syncrig_result(struct syncrig *rig, const char *command_id, struct engine_output *ret_output);
bool syncrig_wait_phase(struct syncrig *rig, enum phase phase);
bool syncrig_wait_event(struct syncrig *rig, const char *code);

void syncrig_start_process(struct syncrig *rig);
void syncrig_kill_process(struct syncrig *rig); /* SIGKILL, and waits */

/* Waits for two more points and fails the test unless the images of the node are the disks, byte for byte. The disks must
 * stand still. */
void syncrig_assert_equal(struct syncrig *rig);

#endif
