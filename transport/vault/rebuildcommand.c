/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of the rebuild. Its options for the bucket are the daemon's own. A signal ends it where it is: it can be begun again.
 */
#include "transport/vault/rebuildcommand.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/vault/bucketconf.h"
#include "transport/vault/rebuild.h"

#define SUMMARY "Makes a lost vault's data again from its bucket and its vault.key."

struct config {
    struct bucketconf bucket;
    char *data;
};

static const struct conf_row rows[] = {
    {.key = "from",
        .type = CONF_STRING,
        .offset = CONF_OFFSET(struct config, bucket.url),
        .required = true,
        .help = "URL of the bucket, as the lost vault had it"},
    {.key = "data",
        .type = CONF_STRING,
        .offset = CONF_OFFSET(struct config, data),
        .required = true,
        .help = "folder of the vault to make, with the lost one's vault.key in it"},
    BUCKETCONF_ROWS(struct config, bucket),
};

static int rebuild(const struct config *c, struct err *err)
{
    struct object_store *objects AUTO_OF(object_store) = NULL;
    struct rebuild_result result;

    if (bucketconf_open(&c->bucket, NULL, &objects, err) < 0 || rebuild_run(c->data, objects, &result, err) < 0)
        return -1;
    printf("%u machines rebuilt (%llu MiB fetched), %u were there already\n", result.machines,
        (unsigned long long)(result.fetched_bytes >> 20), result.present);
    return 0;
}

int rebuildcommand_main(int argc, char **argv)
{
    struct config c = {0};
    struct err err = ERR_INIT;
    int result = conf_load(rows, ARRAY_LEN(rows), "leeward-vault rebuild", SUMMARY, argc, argv, &c, &err);

    if (result > 0)
        return 0;
    log_set_daemon("leeward-vault");
    if (result == 0)
        result = rebuild(&c, &err);
    conf_done(rows, ARRAY_LEN(rows), &c);
    if (result == 0)
        return 0;
    (void)fprintf(
        stderr, "leeward-vault rebuild: %s%s%s\n", err.text, err.correction[0] != '\0' ? "; " : "", err.correction);
    return 1;
}
