/* SPDX-License-Identifier: Apache-2.0
 *
 * A fleet of simulated agents, nodes and vaults in one process with one event loop. Each enrols with a token of its own, gets a
 * certificate of its own and holds a session of its own; what they share is the key pair behind the certificates, since a key per
 * machine would prove nothing more.
 *
 * One timer drives all: it begins sessions (a bounded number at once, so that hand-shakes do not come as a wall), lets time pass in the
 * machines whose status is due, and says what they say.
 */
#ifndef HUB_FLEET_SIMFLEET_H
#define HUB_FLEET_SIMFLEET_H

#include "hub/fleet/simmachine.h"
#include "hub/fleet/simpeer.h"
#include "transport/loop/loop.h"

enum simrole { SIM_AGENT, SIM_NODE, SIM_VAULT };

struct simfleet;

struct simmember {
    struct simpeer peer; /* first */
    struct simfleet *fleet;
    enum simrole role;
    unsigned number; /* from 1, in its role */
    char *token;     /* NULL: enrolled */
    bool enrolling, connecting;
    uint64_t next_usec; /* monotonic: of the next status, or of the next attempt to connect */
    uint64_t version;   /* of the desired state; nodes and vaults */
    /* agents */
    struct simmachine machine;
    struct simmember *node, *vault; /* NULL: none, or a real one */
    bool past_told;
    /* sums over its machines: nodes and vaults */
    uint64_t streams, stored_bytes, sent_bytes, capacity_bytes;
};

struct simenrol;

struct simfleet_conf {
    const char *hub, *data_dir;
    bool with_past; /* machines bring points of the past sixty days */
};

struct simfleet {
    struct simfleet_conf conf;
    sd_event *loop;
    struct loop_timer *tick;
    struct simmember *members;
    size_t count, enrolled, connecting, up;
    uint64_t summed_usec, told_usec;
    size_t told_up;
    bool stopping;
    struct simenrol *enrol;
};

/* tokens: lines "agent lwe_...", "node lwe_...", "vault lwe_..."; the number of lines is the size of the fleet. Begins to work from the
 * first turn of the loop on. A token that the hub refuses ends the loop with 1. */
int simfleet_new(
    sd_event *loop, const struct simfleet_conf *conf, const char *tokens, struct simfleet **ret_fleet, struct err *err);
void simfleet_free(struct simfleet *fleet); /* NULL allowed */

/* ---- inside ---- */

/* simenrol.c: enrols all members, some at a time. simenrol_done is told by simfleet_enrolled for each. */
int simenrol_new(struct simfleet *fleet, struct simenrol **ret_enrol, struct err *err);
void simenrol_free(struct simenrol *enrol);
void simenrol_go_on(struct simenrol *enrol); /* from the tick */
void simfleet_enrolled(struct simmember *member);

/* simagent.c */
extern const struct simpeer_ops simagent_ops;
void simagent_tick(struct simmember *agent, uint64_t now_utc_usec);
bool simagent_is_away(const struct simmember *agent, uint64_t now_utc_usec);

/* simstore.c: nodes and vaults */
extern const struct simpeer_ops simnode_ops, simvault_ops;
void simstore_sum(struct simfleet *fleet);
void simnode_tick(struct simmember *node);
void simvault_tick(struct simmember *vault);
/* New points of a machine, told by its vault; count 0 is nothing. */
void simvault_points(struct simmember *agent, const struct simmachine_point *points, unsigned count);
/* The points that the machine had before it was first protected. */
void simvault_past(struct simmember *agent, uint64_t now_utc_usec);

/* What all kinds of members do when a session begins and ends. */
void simfleet_on_up(struct simpeer *peer);
void simfleet_on_down(struct simpeer *peer);
struct simmember *simfleet_find(struct simfleet *fleet, enum simrole role, const char *id);

#endif
