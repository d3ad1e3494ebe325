/* SPDX-License-Identifier: Apache-2.0
 *
 * How the bucket is configured, for the daemon and for the rebuild: rows for a daemon's table, and the store that they open.
 */
#ifndef TRANSPORT_VAULT_BUCKETCONF_H
#define TRANSPORT_VAULT_BUCKETCONF_H

#include "transport/base/conf.h"
#include "transport/vault/object/object.h"

struct bucketconf {
    char *url, *endpoint, *region, *key_id, *secret, *sas; /* empty: not given */
    uint64_t rate;
};

/* Rows of a table whose struct has `struct bucketconf member`. What is secret is never taken from a command line, which everybody on the
 * machine can read. */
#define BUCKETCONF_ROWS(owner, field)                                                                                  \
    {.key = "bucket-endpoint",                                                                                         \
        .type = CONF_STRING,                                                                                           \
        .offset = CONF_OFFSET(owner, field.endpoint),                                                                  \
        .help = "URL of the storage service, where it is not Azure's or Amazon's own"},                                \
        {.key = "bucket-region",                                                                                       \
            .type = CONF_STRING,                                                                                       \
            .offset = CONF_OFFSET(owner, field.region),                                                                \
            .help = "region of an S3 bucket (default: us-east-1)"},                                                    \
        {.key = "bucket-key-id",                                                                                       \
            .type = CONF_STRING,                                                                                       \
            .offset = CONF_OFFSET(owner, field.key_id),                                                                \
            .help = "S3 access key id"},                                                                               \
        {.key = "bucket-secret",                                                                                       \
            .type = CONF_STRING,                                                                                       \
            .offset = CONF_OFFSET(owner, field.secret),                                                                \
            .secret = true,                                                                                            \
            .no_argument = true,                                                                                       \
            .help = "S3 secret key, or Azure account key"},                                                            \
        {.key = "bucket-sas",                                                                                          \
            .type = CONF_STRING,                                                                                       \
            .offset = CONF_OFFSET(owner, field.sas),                                                                   \
            .secret = true,                                                                                            \
            .no_argument = true,                                                                                       \
            .help = "Azure shared access signature, instead of the account key"},                                      \
    {                                                                                                                  \
        .key = "bucket-rate", .type = CONF_BYTES, .offset = CONF_OFFSET(owner, field.rate), .fallback = "0",           \
        .help = "bytes per second to and from the bucket at the most (0: no limit)"                                    \
    }

/* stop: as of struct object_conf. */
int bucketconf_open(
    const struct bucketconf *c, const atomic_bool *stop, struct object_store **ret_store, struct err *err);

#endif
