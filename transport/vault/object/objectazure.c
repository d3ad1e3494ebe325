/* SPDX-License-Identifier: Apache-2.0
 *
 * Azure Blob Storage: block blobs written whole (Put Blob), SharedKey or a shared access signature. REST version 2021-08-06,
 * which Azurite knows as well. A SAS goes as it was given into the query: its own signature covers it.
 */
#include "transport/vault/object/object_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/vault/object/objectrest.h"

#define AZURE_VERSION "2021-08-06"

enum { AUTH_MAX = 1024, SAS_MAX = 2048 };

struct objectazure {
    struct objectrest rest; /* first: the functions of objectrest.h take this */
    struct object_place at;
    char *key;
    char *sas; /* cut at & and =, each piece decoded: what sas_pairs point to */
    struct sign_pair sas_pairs[12];
    size_t sas_count;
    char time[30], length[24];
    struct buf authorization;
};

static void azure_close(void *d)
{
    struct objectazure *a = d;

    objectweb_close(a->rest.web);
    if (a->key != NULL)
        explicit_bzero(a->key, strlen(a->key));
    free(a->key);
    free(a->sas);
    buf_done(&a->authorization);
    free(a);
}

static int azure_sign(void *driver, struct web_exchange *x, uint64_t now_utc_usec, struct err *err)
{
    struct objectazure *a = driver;

    objectsign_http_time(now_utc_usec, a->time);
    objectweb_header(x, "x-ms-date", a->time);
    objectweb_header(x, "x-ms-version", AZURE_VERSION);
    if (x->body != NULL) {
        snprintf(a->length, sizeof(a->length), "%zu", x->body_bytes);
        objectweb_header(x, "content-length", a->length);
    }
    if (a->key == NULL) {
        for (size_t i = 0; i < a->sas_count; i++)
            objectweb_query(x, a->sas_pairs[i].name, a->sas_pairs[i].value);
        return 0;
    }
    buf_clear(&a->authorization);
    if (objectsign_azure(&x->ask, a->at.first, a->key, &a->authorization, err) < 0)
        return -1;
    const char *value = buf_str(&a->authorization, err);
    if (value == NULL)
        return -1;
    objectweb_header(x, "authorization", value);
    return 0;
}

/* ---- opening ---- */

/* %XX in place. */
static int decode(char *text)
{
    char *to = text;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '%') {
            char hex[3] = {c[1], c[1] ? c[2] : '\0', '\0'}, *end;
            long byte = strtol(hex, &end, 16);

            if (end != hex + 2 || byte < 0x20)
                return -1;
            *to++ = (char)byte;
            c += 2;
        } else {
            *to++ = *c;
        }
    }
    *to = '\0';
    return 0;
}

static int bad_sas(struct err *err)
{
    err_set(err, ERR_INVALID, "the shared access signature is not one");
    return err_hint(err, "give the query that follows the question mark of a SAS URL: sv=...&sp=...&sig=...");
}

static int take_sas(struct objectazure *a, const char *sas, struct err *err)
{
    bool has_signature = false;
    char *rest = NULL;

    a->sas = strlen(sas) > SAS_MAX ? NULL : mem_strdup(sas[0] == '?' ? sas + 1 : sas);
    if (a->sas == NULL)
        return bad_sas(err);
    for (char *pair = strtok_r(a->sas, "&", &rest); pair != NULL; pair = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(pair, '=');

        if (value == NULL || a->sas_count == ARRAY_LEN(a->sas_pairs))
            return bad_sas(err);
        *value++ = '\0';
        if (decode(value) < 0)
            return bad_sas(err);
        has_signature = has_signature || strcmp(pair, "sig") == 0;
        a->sas_pairs[a->sas_count++] = (struct sign_pair){pair, value};
    }
    return has_signature ? 0 : bad_sas(err);
}

static int take_secret(struct objectazure *a, const struct object_conf *conf, struct err *err)
{
    if ((conf->secret != NULL) == (conf->sas != NULL)) {
        err_set(err, ERR_INVALID, "Azure needs either an account key or a shared access signature");
        return err_hint(err, "the key is in the portal under \"Access keys\" of the storage account");
    }
    if (conf->sas != NULL) {
        if (!objectweb_is_exposed(a->rest.web))
            return take_sas(a, conf->sas, err);
        err_set(err, ERR_INVALID, "a shared access signature would go over the network for all to read");
        return err_hint(err, "use an endpoint with https");
    }
    a->key = mem_strdup(conf->secret);
    return a->key ? 0 : err_set(err, ERR_NOMEM, "out of memory for a key");
}

int objectazure_open(const struct object_conf *conf, const struct object_place *at, void **ret_driver, struct err *err)
{
    AUTO_FREE char *own = mem_printf("https://%s.blob.core.windows.net", at->first);
    struct objectazure *a = mem_new(struct objectazure);

    if (own == NULL || a == NULL) {
        free(a);
        return err_set(err, ERR_NOMEM, "out of memory for an object store");
    }
    a->at = *at;
    a->rest = (struct objectrest){.kind = "container", .place = a->at.second, .range_header = "x-ms-range"};
    a->authorization = BUF_INIT(AUTH_MAX);
    if (objectweb_open(conf->endpoint ? conf->endpoint : own, conf, azure_sign, a, &a->rest.web, err) < 0 ||
        take_secret(a, conf, err) < 0) {
        azure_close(a);
        return -1;
    }
    *ret_driver = a;
    return 0;
}

/* ---- requests ---- */

static int azure_put(void *d, const char *name, const void *data, size_t n, bool if_absent, struct err *err)
{
    struct objectazure *a = d;
    char path[OBJECTREST_PATH_MAX];
    struct web_exchange x = {.ask = {.method = "PUT", .path = path}, .body = n > 0 ? data : "", .body_bytes = n};

    objectrest_path(&a->rest, name, path);
    objectweb_header(&x, "content-type", "application/octet-stream");
    objectweb_header(&x, "x-ms-blob-type", "BlockBlob");
    if (if_absent)
        objectweb_header(&x, "if-none-match", "*");
    return objectrest_run(&a->rest, &x, err);
}

static int azure_list(
    void *d, const char *prefix, const char *after, unsigned limit, struct object_page *page, struct err *err)
{
    static const struct list_words words = {.root = "EnumerationResults",
        .holder = "Blobs",
        .entry = "Blob",
        .name = "Name",
        .size_holder = "Properties",
        .size = "Content-Length",
        .next = "NextMarker"};
    struct objectazure *a = d;
    char path[OBJECTREST_PATH_MAX], count[16];
    struct web_exchange x = {.ask = {.method = "GET", .path = path}};

    objectrest_path(&a->rest, "", path);
    snprintf(count, sizeof(count), "%u", limit);
    objectweb_query(&x, "restype", "container");
    objectweb_query(&x, "comp", "list");
    objectweb_query(&x, "maxresults", count);
    if (*prefix != '\0')
        objectweb_query(&x, "prefix", prefix);
    if (after != NULL)
        objectweb_query(&x, "marker", after);
    return objectrest_list(&a->rest, &x, &words, limit, page, err);
}

const struct object_driver objectazure_driver = {
    .features =
        OBJECT_PUT_IF_ABSENT | OBJECT_CONDITION_HONOURED | OBJECT_LIST_PAGES | OBJECT_RANGED_GET | OBJECT_DELETE,
    .close = azure_close,
    .put = azure_put,
    .put_pieces = objectblocks_put,
    .get = objectrest_get,
    .size = objectrest_size,
    .remove = objectrest_remove,
    .list = azure_list,
};
