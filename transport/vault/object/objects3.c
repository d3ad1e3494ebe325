/* SPDX-License-Identifier: Apache-2.0
 *
 * S3 and what speaks like it: path style (ENDPOINT/BUCKET/NAME), SigV4 with the hash of the body, ListObjectsV2. Conditional
 * writes (If-None-Match: *) are S3's since 2024; older services pass over the header, which only object_probe shows.
 */
#include "transport/vault/object/object_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/vault/object/objectrest.h"

enum { AUTH_MAX = 4096 };

struct objects3 {
    struct objectrest rest; /* first: the functions of objectrest.h take this */
    struct object_place at;
    char *key_id, *secret, *region;
    char time[17];
    char body_hash[OBJECTSIGN_SHA256_HEX];
    struct buf authorization;
};

static void s3_close(void *d)
{
    struct objects3 *s = d;

    objectweb_close(s->rest.web);
    if (s->secret != NULL)
        explicit_bzero(s->secret, strlen(s->secret));
    free(s->secret);
    free(s->key_id);
    free(s->region);
    buf_done(&s->authorization);
    free(s);
}

static int s3_sign(void *driver, struct web_exchange *x, uint64_t now_utc_usec, struct err *err)
{
    struct objects3 *s = driver;
    struct sign_v4_key key = {.id = s->key_id, .secret = s->secret, .region = s->region, .service = "s3"};

    objectsign_v4_time(now_utc_usec, s->time);
    if (objectsign_sha256(x->body, x->body_bytes, s->body_hash, err) < 0)
        return -1;
    objectweb_header(x, "x-amz-date", s->time);
    objectweb_header(x, "x-amz-content-sha256", s->body_hash);
    buf_clear(&s->authorization);
    if (objectsign_v4(&x->ask, &key, s->time, s->body_hash, &s->authorization, err) < 0)
        return -1;
    const char *value = buf_str(&s->authorization, err);
    if (value == NULL)
        return -1;
    objectweb_header(x, "authorization", value);
    return 0;
}

static bool region_is_valid(const char *region)
{
    return *region != '\0' && strlen(region) <= 63 &&
           strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(region);
}

/* It becomes part of a header. */
static bool key_id_is_valid(const char *key_id)
{
    size_t n = strlen(key_id);

    for (size_t i = 0; i < n; i++) {
        if (key_id[i] <= ' ' || key_id[i] > '~' || key_id[i] == ',' || key_id[i] == '/')
            return false;
    }
    return n > 0 && n <= 256;
}

static int take_keys(struct objects3 *s, const struct object_conf *conf, const char *region, struct err *err)
{
    if (conf->key_id == NULL || !key_id_is_valid(conf->key_id) || conf->secret == NULL || conf->sas != NULL) {
        err_set(err, ERR_INVALID, "S3 needs an access key id and a secret key");
        return err_hint(err, "make an access key for an account that may use the bucket %s", s->at.first);
    }
    s->key_id = mem_strdup(conf->key_id);
    s->secret = mem_strdup(conf->secret);
    s->region = mem_strdup(region);
    if (s->key_id == NULL || s->secret == NULL || s->region == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a key");
    return 0;
}

int objects3_open(const struct object_conf *conf, const struct object_place *at, void **ret_driver, struct err *err)
{
    const char *region = conf->region ? conf->region : "us-east-1";

    if (!region_is_valid(region))
        return err_set(err, ERR_INVALID, "\"%.64s\" is not the name of a region", region);
    AUTO_FREE char *own = mem_printf("https://s3.%s.amazonaws.com", region);
    struct objects3 *s = mem_new(struct objects3);
    if (own == NULL || s == NULL) {
        free(s);
        return err_set(err, ERR_NOMEM, "out of memory for an object store");
    }
    s->at = *at;
    s->rest = (struct objectrest){.kind = "bucket", .place = s->at.first, .range_header = "range"};
    s->authorization = BUF_INIT(AUTH_MAX);
    if (objectweb_open(conf->endpoint ? conf->endpoint : own, conf, s3_sign, s, &s->rest.web, err) < 0 ||
        take_keys(s, conf, region, err) < 0) {
        s3_close(s);
        return -1;
    }
    *ret_driver = s;
    return 0;
}

/* ---- requests ---- */

static int s3_put(void *d, const char *name, const void *data, size_t n, bool if_absent, struct err *err)
{
    struct objects3 *s = d;
    char path[OBJECTREST_PATH_MAX];
    struct web_exchange x = {.ask = {.method = "PUT", .path = path}, .body = n > 0 ? data : "", .body_bytes = n};

    objectrest_path(&s->rest, name, path);
    objectweb_header(&x, "content-type", "application/octet-stream");
    if (if_absent)
        objectweb_header(&x, "if-none-match", "*");
    return objectrest_run(&s->rest, &x, err);
}

static int s3_list(
    void *d, const char *prefix, const char *after, unsigned limit, struct object_page *page, struct err *err)
{
    static const struct list_words words = {.root = "ListBucketResult",
        .entry = "Contents",
        .name = "Key",
        .size = "Size",
        .next = "NextContinuationToken"};
    struct objects3 *s = d;
    char path[OBJECTREST_PATH_MAX], count[16];
    struct web_exchange x = {.ask = {.method = "GET", .path = path}};

    objectrest_path(&s->rest, "", path);
    snprintf(count, sizeof(count), "%u", limit);
    objectweb_query(&x, "list-type", "2");
    objectweb_query(&x, "max-keys", count);
    if (*prefix != '\0')
        objectweb_query(&x, "prefix", prefix);
    if (after != NULL)
        objectweb_query(&x, "continuation-token", after);
    return objectrest_list(&s->rest, &x, &words, limit, page, err);
}

/* Not OBJECT_CONDITION_HONOURED: that is for object_probe to find. */
const struct object_driver objects3_driver = {
    .features = OBJECT_PUT_IF_ABSENT | OBJECT_LIST_PAGES | OBJECT_RANGED_GET | OBJECT_DELETE,
    .close = s3_close,
    .put = s3_put,
    .put_pieces = objectmultipart_put,
    .get = objectrest_get,
    .size = objectrest_size,
    .remove = objectrest_remove,
    .list = s3_list,
};
