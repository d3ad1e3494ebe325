/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of salvage.h. Its options for the bucket are the daemon's own.
 */
#include "transport/vault/salvagecommand.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/vault/bucketconf.h"
#include "transport/vault/salvage.h"

#define SUMMARY "Makes a machine usable again whose log has a hole and whose index is lost; the vault must be stopped."

struct config {
    struct bucketconf bucket;
    char *data, *machine;
    bool cut;
};

static const struct conf_row rows[] = {
    {.key = "data",
        .type = CONF_STRING,
        .offset = CONF_OFFSET(struct config, data),
        .required = true,
        .help = "folder of the vault"},
    {.key = "machine",
        .type = CONF_STRING,
        .offset = CONF_OFFSET(struct config, machine),
        .required = true,
        .help = "id of the machine"},
    {.key = "from",
        .type = CONF_STRING,
        .offset = CONF_OFFSET(struct config, bucket.url),
        .help = "URL of the vault's bucket, to fetch what is missing"},
    {.key = "cut",
        .type = CONF_BOOL,
        .offset = CONF_OFFSET(struct config, cut),
        .help =
            "go on with what stands before the hole: all points behind it are given up (their files are kept aside)"},
    BUCKETCONF_ROWS(struct config, bucket),
};

static void tell(const struct salvage_result *r)
{
    if (r->opens_as_it_is && r->hole == 0)
        printf("nothing to salvage: the machine opens, with %llu points\n", (unsigned long long)r->points);
    else if (r->opens_as_it_is && r->fetched_bytes == 0)
        printf("the machine opens, with %llu points; what lies in segment %llu cannot be read\n",
            (unsigned long long)r->points, (unsigned long long)r->hole);
    else if (r->opens_as_it_is)
        printf("the machine opens: %llu MiB fetched from the bucket, %llu points\n",
            (unsigned long long)(r->fetched_bytes >> 20), (unsigned long long)r->points);
    else
        printf("cut at segment %llu: %llu points are left, up to change set %llu; %llu segments were moved aside\n",
            (unsigned long long)r->hole, (unsigned long long)r->points, (unsigned long long)r->sequence,
            (unsigned long long)r->moved);
}

static int run(const struct config *c, struct err *err)
{
    struct object_store *objects AUTO_OF(object_store) = NULL;
    struct salvage_result result;
    struct ident machine;

    if (ident_from_text(c->machine, &machine) < 0) {
        (void)err_set(err, ERR_INVALID, "%s is not the id of a machine", c->machine);
        return err_hint(err, "it is the name of the machine's folder in DATA/machines: leeward machine list shows it");
    }
    bool has_bucket = c->bucket.url != NULL && c->bucket.url[0] != '\0';
    if (has_bucket && bucketconf_open(&c->bucket, NULL, &objects, err) < 0)
        return -1;
    if (salvage_run(c->data, &machine, objects, c->cut, &result, err) < 0)
        return -1;
    tell(&result);
    return 0;
}

int salvagecommand_main(int argc, char **argv)
{
    struct config c = {0};
    struct err err = ERR_INIT;
    int result = conf_load(rows, ARRAY_LEN(rows), "leeward-vault salvage", SUMMARY, argc, argv, &c, &err);

    if (result > 0)
        return 0;
    log_set_daemon("leeward-vault");
    if (result == 0)
        result = run(&c, &err);
    conf_done(rows, ARRAY_LEN(rows), &c);
    if (result == 0)
        return 0;
    (void)fprintf(
        stderr, "leeward-vault salvage: %s%s%s\n", err.text, err.correction[0] != '\0' ? "; " : "", err.correction);
    return 1;
}
