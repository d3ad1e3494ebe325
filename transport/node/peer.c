/* SPDX-License-Identifier: Apache-2.0
 *
 * The vaults that this node forwards to: one connection each, shared by all machines that replicate there.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"

/* As long as a machine pauses (link.c): a channel that paused longer would fail each try meanwhile. Many machines try, so it is not less. */
#define PAUSE_MAX_USEC (1600 * USEC_PER_MSEC)

static struct peer *find(struct node *node, const struct ident *vault, const char *endpoint)
{
    for (struct peer *p = node->peers; p != NULL; p = p->next) {
        if (ident_equal(&p->vault, vault) && strcmp(p->endpoint, endpoint) == 0)
            return p;
    }
    return NULL;
}

struct peer *peer_get(struct node *node, const struct ident *vault, const char *endpoint, struct err *err)
{
    const struct rpc_limits limits = {.backoff_max_usec = PAUSE_MAX_USEC};
    struct peer *p = find(node, vault, endpoint);
    if (p != NULL) {
        p->refs++;
        return p;
    }
    p = mem_new(struct peer);
    if (p == NULL || strlen(endpoint) >= sizeof(p->endpoint)) {
        (void)err_set(err, p == NULL ? ERR_NOMEM : ERR_TOO_LARGE, "vault at %s", endpoint);
        free(p);
        return NULL;
    }
    p->vault = *vault;
    p->refs = 1;
    (void)snprintf(p->endpoint, sizeof(p->endpoint), "%s", endpoint);
    if (rpc_channel_new(node->loop, endpoint, node->conf.client_tls, "vault", vault, &limits, &p->channel, err) < 0) {
        free(p);
        return NULL;
    }
    rpc_channel_set_send_queue(p->channel, node->unsent_max);
    p->next = node->peers;
    node->peers = p;
    return p;
}

void peer_put(struct node *node, struct peer *peer)
{
    if (--peer->refs > 0)
        return;
    for (struct peer **at = &node->peers; *at != NULL; at = &(*at)->next) {
        if (*at == peer) {
            *at = peer->next;
            break;
        }
    }
    rpc_channel_free(peer->channel);
    free(peer);
}
