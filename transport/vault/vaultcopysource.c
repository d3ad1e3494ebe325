/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/vault/vaultcopy_private.h"

#define IDLE_USEC (60 * USEC_PER_SEC)

struct copy_source *vaultcopysource_find(struct vaultd *d, const struct ident *vault, const char *endpoint)
{
    struct copy_source *s = d->copy_sources;
    while (s != NULL && (!ident_equal(&s->vault, vault) || strcmp(s->endpoint, endpoint) != 0))
        s = s->next;
    return s;
}

struct copy_source *vaultcopysource_get(
    struct vaultd *d, const struct ident *vault, const char *endpoint, struct err *err)
{
    struct copy_source *s = vaultcopysource_find(d, vault, endpoint);
    if (s != NULL) {
        s->refs++;
        return s;
    }
    s = mem_new(struct copy_source);
    if (s == NULL) {
        (void)err_set(err, ERR_NOMEM, "no memory for a copy");
        return NULL;
    }
    s->vault = *vault;
    s->refs = 1;
    (void)snprintf(s->endpoint, sizeof(s->endpoint), "%s", endpoint);
    if (rpc_channel_new(d->loop, endpoint, d->conf.client_tls, "vault", vault, NULL, &s->channel, err) < 0) {
        free(s);
        return NULL;
    }
    s->next = d->copy_sources;
    d->copy_sources = s;
    d->copy_turns.sources++;
    return s;
}

void vaultcopysource_put(struct copy_source *source)
{
    if (source != NULL && --source->refs == 0)
        source->idle_since_usec = clock_mono_usec();
}

void vaultcopysource_tick(struct vaultd *d, uint64_t now)
{
    for (struct copy_source **link = &d->copy_sources; *link != NULL;) {
        struct copy_source *s = *link;
        if (s->refs > 0 || now < s->idle_since_usec + IDLE_USEC) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        d->copy_turns.sources--;
        rpc_channel_free(s->channel);
        free(s);
    }
}

void vaultcopysource_ring(void *arg)
{
    loop_bell_post(((struct vaultd *)arg)->copy_bell);
}

void vaultcopysource_kick(struct vaultd *d)
{
    for (struct copy_ask *a = d->copy_asks; a != NULL; a = a->next)
        if (vaultask_wants_channel(a->ask))
            vaultask_kick(a->ask, a->source == NULL ? NULL : a->source->channel);
}

struct copy_ask *vaultcopysource_ask(struct vaultd *d, struct copy_source *source, struct err *err)
{
    struct copy_ask *a = d->copy_asks;
    while (a != NULL && a->source != NULL)
        a = a->next;
    if (a == NULL) {
        a = mem_new(struct copy_ask);
        if (a == NULL || vaultask_new(vaultcopysource_ring, d, 0, &a->ask, err) < 0) {
            if (a == NULL)
                (void)err_set(err, ERR_NOMEM, "no memory for a copy");
            free(a);
            return NULL;
        }
        a->next = d->copy_asks;
        d->copy_asks = a;
    }
    a->source = source;
    vaultask_give_up(a->ask, false);
    return a;
}

void vaultcopysource_stop(struct vaultd *d)
{
    for (struct copy_ask *a = d->copy_asks; a != NULL; a = a->next)
        vaultask_stop(a->ask);
}

void vaultcopysource_free(struct vaultd *d)
{
    while (d->copy_sources != NULL) {
        struct copy_source *s = d->copy_sources;
        d->copy_sources = s->next;
        rpc_channel_free(s->channel);
        free(s);
    }
    while (d->copy_asks != NULL) {
        struct copy_ask *a = d->copy_asks;
        d->copy_asks = a->next;
        vaultask_free(a->ask);
        free(a);
    }
}
