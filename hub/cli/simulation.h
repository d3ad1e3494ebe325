/* SPDX-License-Identifier: Apache-2.0
 *
 * What a simulated fleet needs of the hub: sites, policies, enrolment tokens, protection, and the removal of it all. Everything that is
 * made here is called sim-...
 */
#ifndef HUB_CLI_SIMULATION_H
#define HUB_CLI_SIMULATION_H

#include <stdbool.h>
#include <stdio.h>

#include "hub/cli/client.h"

/* Asked between two requests; true: end early with ERR_CANCELLED. */
typedef bool (*simulation_stop)(void *arg);

struct simulation {
    struct client *client;
    unsigned machines, nodes, vaults;
    unsigned tries; /* while the hub says "not now", a second apart */
    simulation_stop stop;
    void *stop_arg;
    /* Ids, as simulation_prepare found or made them. */
    char sites[3][40];    /* two sources, then where the vaults are */
    char policies[3][40]; /* every few seconds, twice a minute, every few minutes */
};

/* Removes what is there of an earlier simulation: machines, nodes, vaults, and sites and policies that nobody uses otherwise.
 * *ret_machines may be NULL. */
int simulation_remove_all(struct simulation *s, unsigned long long *ret_machines, struct err *err);
/* Makes sites and policies unless they are there. */
int simulation_prepare(struct simulation *s, struct err *err);
/* Makes a token for each member and writes "ROLE TOKEN" lines. */
int simulation_write_tokens(struct simulation *s, FILE *out, struct err *err);
/* Asks for the protection of those machines that have come and are to be protected (24 of 25). *ret_asked grows by their number; call
 * again until it is simulation_protected_goal(). */
int simulation_protect_some(struct simulation *s, json_t *known, unsigned *ret_asked, struct err *err);
unsigned simulation_protected_goal(const struct simulation *s);

#endif
