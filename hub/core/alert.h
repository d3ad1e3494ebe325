/* SPDX-License-Identifier: Apache-2.0
 *
 * Alerts: what lasts of what health.h finds. A finding becomes an alert when it has stood for a while, and an alert is resolved when the
 * finding has been gone for a while, so that nothing flaps; in between it keeps its row, and who acknowledged it.
 *
 *     (nothing) -> pending -> firing <-> acknowledged -> resolved
 *
 * Pure: the caller keeps the state and passes the time.
 */
#ifndef HUB_CORE_ALERT_H
#define HUB_CORE_ALERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/core/health.h"

struct alert_rule {
    const char *code;  /* as in the finding, or of a source of its own (job_failed) */
    const char *title; /* what it is about, without names or numbers */
    bool at_once;      /* raised with the first finding: waiting would cost data */
    bool sticky;       /* stays until somebody acknowledges it, even when its cause is gone */
    bool covered; /* never raised: another alert, of the vault or the node itself, tells it once for all machines */
};
extern const struct alert_rule alert_rules[];
extern const size_t alert_rule_count;
/* NULL: there is no such rule. */
const struct alert_rule *alert_rule_find(const char *code);
const char *alert_title(const char *code); /* the code itself where there is no rule */

struct alert_timing {
    uint64_t raise_after_usec, clear_after_usec;
    /* An evaluation that comes later than this after the one before tells nothing about the time between. */
    uint64_t gap_usec;
};
extern const struct alert_timing alert_timing_default;

enum alert_phase { ALERT_NONE, ALERT_PENDING, ALERT_FIRING, ALERT_ACKNOWLEDGED, ALERT_RESOLVED };
const char *alert_phase_name(enum alert_phase phase); /* "firing", ... */
enum alert_phase alert_phase_from_name(const char *name);

struct alert_state {
    enum alert_phase phase;
    enum health_level level;
    uint64_t since_usec;   /* when the finding began */
    uint64_t lacks_usec;   /* since when the finding is not there; 0: it is */
    uint64_t eased_usec;   /* since when it is milder than `level`; 0: it is not */
    uint64_t checked_usec; /* of the last evaluation */
};

enum alert_change {
    ALERT_UNCHANGED,
    ALERT_BEGUN,    /* pending; nobody is told */
    ALERT_RAISED,   /* firing */
    ALERT_WORSENED, /* firing, again if it was acknowledged */
    ALERT_EASED,    /* a lower level; nobody is told */
    ALERT_CLEARED,  /* resolved */
    ALERT_FORGOTTEN /* pending and gone again: delete the row */
};

/* One evaluation: the level of `found` is HEALTH_HEALTHY when there is no finding; unknown is none either, nor is one that is explained, as long as nobody
 * was told of it. Changes *state. */
enum alert_change alert_evaluate(const struct alert_rule *rule, const struct alert_timing *timing,
    struct alert_state *state, const struct health *found, uint64_t now_usec);

#endif
