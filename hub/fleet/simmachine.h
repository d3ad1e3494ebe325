/* SPDX-License-Identifier: Apache-2.0
 *
 * One simulated machine as a model: what it is, how much it writes at which hour, and what its agent would say. No sockets and no
 * clock of its own: time is what the caller says, so a test can let a day pass in a millisecond.
 *
 * Most machines are well. Some are behind their recovery point objective, some fall silent, some have a disk that cannot be tracked,
 * some copy slowly: the console and the alerts have something to show. Which one is which follows from its number alone.
 */
#ifndef HUB_FLEET_SIMMACHINE_H
#define HUB_FLEET_SIMMACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/ident.h"
#include "transport/proto/control.pb-c.h"

struct simclass;

#define SIMMACHINE_NAME_SIZE 32
#define SIMMACHINE_DISKS_MAX 4u
#define SIMMACHINE_POINTS_MAX 8u /* one step makes; more are left out, as a machine that catches up does */

enum simmachine_temper { TEMPER_WELL, TEMPER_BEHIND, TEMPER_SILENT, TEMPER_BROKEN, TEMPER_SLOW };
enum simmachine_state { SIM_IDLE, SIM_INITIAL, SIM_PROTECTED, SIM_RESYNC, SIM_ERROR };

struct simmachine_point {
    uint64_t sequence, time_utc_usec, changed_bytes;
    const char *kind; /* "crash", "filesystem", "application" */
    char tag[64];
};

struct simmachine_disk {
    uint64_t size_bytes, used_bytes;
    bool is_protected;
    uint32_t number;       /* of the machine's log, as the hub gave it */
    uint64_t minute_bytes; /* changed in the minute that runs */
};

struct simmachine {
    unsigned number;
    const struct simclass *class;
    enum simmachine_temper temper;
    uint64_t random;
    struct simmachine_disk disks[SIMMACHINE_DISKS_MAX];
    unsigned disk_count;
    double churn_bytes_per_sec; /* average over a day */

    /* as the hub wants it */
    uint64_t version, generation, interval_usec, resync_request;
    bool is_wanted;
    char node_id[IDENT_TEXT_SIZE], vault_id[IDENT_TEXT_SIZE];

    /* as it is */
    enum simmachine_state state;
    uint64_t at_usec;    /* of the last step; 0: none yet */
    uint64_t since_usec; /* in this state */
    uint64_t copy_usec;  /* how long a full copy takes here */
    uint64_t total_bytes, done_bytes;
    uint64_t sequence, point_usec, changed_since_point;
    uint64_t changed_bytes, sent_bytes, points_made, points_frozen;
    uint64_t minute_usec; /* that runs */
    char cause[160], remedy[160];
};

void simmachine_init(struct simmachine *m, unsigned number);
/* "sim-web-0007" */
void simmachine_name(const struct simmachine *m, char out[SIMMACHINE_NAME_SIZE]);
/* Takes up a desired state. vault_is_simulated: whether its vault is one of ours; a real one gets nothing. */
void simmachine_desire(struct simmachine *m, const Leeward__Control__V1__AgentDesired *desired, bool vault_is_simulated,
    uint64_t now_usec);
/* Lets time pass up to now. Returns how many points were made. */
unsigned simmachine_step(
    struct simmachine *m, uint64_t now_usec, struct simmachine_point points[SIMMACHINE_POINTS_MAX]);
/* A point that was asked for; false: it makes none now. */
bool simmachine_make_point(
    struct simmachine *m, const char *kind, const char *tag, uint64_t now_usec, struct simmachine_point *ret_point);
/* The n-th (from 0) of the points that it is said to have had before it was first protected, oldest first; false: there are no more.
 * Monthly to minutely, so that a timeline has something to zoom into. */
bool simmachine_past_point(
    const struct simmachine *m, unsigned n, uint64_t now_usec, struct simmachine_point *ret_point);
unsigned simmachine_past_count(const struct simmachine *m);
/* Texts point into m. */
void simmachine_status(const struct simmachine *m, uint64_t now_usec, Leeward__Control__V1__AgentStatus *ret_status);
/* A minute that is over of disk `disk`: true, once per minute and disk. */
bool simmachine_minute(
    struct simmachine *m, unsigned disk, uint64_t now_usec, Leeward__Control__V1__DiskMinute *ret_minute);
/* After the minutes of all disks were taken. */
void simmachine_minute_done(struct simmachine *m, uint64_t now_usec);
/* Whether its agent is away now. */
bool simmachine_is_away(const struct simmachine *m, uint64_t now_usec);

/* An inventory whose pointers stay within this struct and the machine's class (siminventory.c). */
struct simmachine_inventory {
    Leeward__Control__V1__Inventory message;
    char name[SIMMACHINE_NAME_SIZE], uid[33], boot_id[IDENT_TEXT_SIZE], address[24];
    char *addresses[1];
    Leeward__Control__V1__InventoryDisk disks[SIMMACHINE_DISKS_MAX], *disk_list[SIMMACHINE_DISKS_MAX];
    Leeward__Control__V1__InventoryVolume volumes[SIMMACHINE_DISKS_MAX], *volume_list[SIMMACHINE_DISKS_MAX];
    char keys[SIMMACHINE_DISKS_MAX][48], devices[SIMMACHINE_DISKS_MAX][16], partitions[SIMMACHINE_DISKS_MAX][16];
    char mounts[SIMMACHINE_DISKS_MAX][32], *mount_list[SIMMACHINE_DISKS_MAX];
};
void simmachine_inventory(const struct simmachine *m, struct simmachine_inventory *ret_inventory);

#endif
