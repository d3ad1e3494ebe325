/* SPDX-License-Identifier: Apache-2.0
 *
 * How old points are, as SQL over the tables `machines` (an alias of it) and `protections` (p). A point bears the time of whoever made it, and clocks are wrong: it is
 * set right by what that one's clock was off when it was last heard (core/skew.h).
 */
#ifndef HUB_DB_POINT_AGE_H
#define HUB_DB_POINT_AGE_H

/* How far the clock is ahead that dates the points of machine m. While its replica is what is protected, these are made in the vault. */
#define POINT_SKEW(m)                                                                                                  \
    "CASE WHEN " m ".state IN ('reverse_replicating', 'reverse_protected') THEN coalesce((SELECT o.clock_skew_usec"    \
    " FROM protections q JOIN vaults o ON o.id = q.vault_id WHERE q.machine_id = " m ".id), 0) ELSE " m                \
    ".clock_skew_usec END"

/* What a point lost, or would lose, of a moment of ours; NULL without a point. Microseconds, less than 0 for one of later. */
#define POINT_LOSS(m, moment, point_time)                                                                              \
    "(extract(epoch FROM " moment " - " point_time ") * 1000000 + " POINT_SKEW(m) ")"

/* Is the RPO held to its target? While points are made, and while disks are compared, when none are made and what would be lost grows all the same. While a disk
 * is copied for the first time, the others go on having points, if there were any: those from before the machine was protected (again) are none. */
#define RPO_COUNTS                                                                                                     \
    "(m.last_point_at IS NOT NULL AND (m.state IN ('protected', 'resynchronizing') OR (m.state = "                     \
    "'initial_replication'"                                                                                            \
    " AND m.last_point_at - m.clock_skew_usec * interval '1 microsecond' >= p.enabled_at)))"

#endif
