/* SPDX-License-Identifier: Apache-2.0
 *
 * Two counters under one lock.
 */
#include "hub/api/login_gate.h"

#include <pthread.h>
#include <stdlib.h>

#include "transport/base/mem.h"

#define RUNNING_MAX 2u

struct login_gate {
    pthread_mutex_t lock; /* running, inside */
    pthread_cond_t left;
    unsigned running, inside; /* inside: running and waiting */
    unsigned inside_max;
};

struct login_gate *login_gate_new(unsigned handler_threads)
{
    struct login_gate *gate = mem_new(struct login_gate);

    if (!gate)
        return NULL;
    (void)pthread_mutex_init(&gate->lock, NULL);
    (void)pthread_cond_init(&gate->left, NULL);
    gate->inside_max = handler_threads > 1 ? handler_threads - 1 : 1;
    return gate;
}

void login_gate_free(struct login_gate *gate)
{
    if (!gate)
        return;
    (void)pthread_cond_destroy(&gate->left);
    (void)pthread_mutex_destroy(&gate->lock);
    free(gate);
}

bool login_gate_enter(struct login_gate *gate)
{
    bool may;

    (void)pthread_mutex_lock(&gate->lock);
    may = gate->inside < gate->inside_max;
    if (may) {
        gate->inside++;
        while (gate->running == RUNNING_MAX)
            (void)pthread_cond_wait(&gate->left, &gate->lock);
        gate->running++;
    }
    (void)pthread_mutex_unlock(&gate->lock);
    return may;
}

void login_gate_leave(struct login_gate *gate)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->running--;
    gate->inside--;
    (void)pthread_cond_signal(&gate->left);
    (void)pthread_mutex_unlock(&gate->lock);
}
