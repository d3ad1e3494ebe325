/* SPDX-License-Identifier: Apache-2.0
 *
 * What kinds of machines a simulated fleet has.
 */
#ifndef HUB_FLEET_SIMCLASS_H
#define HUB_FLEET_SIMCLASS_H

struct simclass {
    const char *word, *os, *kernel, *fs_type, *mount_point;
    double churn_mib_per_sec;
    unsigned disk_gib, memory_gib, cpus;
    int peak_hour;  /* UTC */
    double daytime; /* share of the work that follows the day; the rest is even */
};

/* The class of the machine with that number. */
const struct simclass *simclass_of(unsigned number);

#endif
