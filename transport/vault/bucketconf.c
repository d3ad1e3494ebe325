/* SPDX-License-Identifier: Apache-2.0
 *
 * From configuration to a store: what is empty there is absent here.
 */
#include "transport/vault/bucketconf.h"

static const char *given(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

int bucketconf_open(
    const struct bucketconf *c, const atomic_bool *stop, struct object_store **ret_store, struct err *err)
{
    const struct object_conf conf = {.url = c->url,
        .endpoint = given(c->endpoint),
        .region = given(c->region),
        .key_id = given(c->key_id),
        .secret = given(c->secret),
        .sas = given(c->sas),
        .bytes_per_second = c->rate,
        .stop = stop};

    return object_open(&conf, ret_store, err);
}
