/* SPDX-License-Identifier: Apache-2.0
 *
 * Large objects in S3: CreateMultipartUpload, UploadPart for each piece, CompleteMultipartUpload. An upload that broke off is found again
 * (ListMultipartUploads, ListParts) where the service can list them; a part is used again when its ETag is the piece's MD5.
 *
 * Failure modes. An upload that nobody completes stays, and costs, until a lifecycle rule of the bucket ends it. A completion whose answer was
 * lost is repeated to an upload that is gone: then the object itself tells. A completion may say 200 and fail in its body.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/vault/object/objectpieces.h"
#include "transport/vault/object/objectrest.h"

enum {
    UPLOAD_ID_MAX = 1024,
    ANSWER_MAX = 8 << 20,
    ETAG_SIZE = 80,
    MD5_HEX = 33,
    PAGES_MAX = 100,
};

struct multipart {
    struct objectrest *r;
    const char *name;
    char path[OBJECTREST_PATH_MAX];
    char id[UPLOAD_ID_MAX + 1];
    char (*etags)[ETAG_SIZE]; /* of each part; empty: it is not there */
    uint64_t *sizes;
    unsigned count;
};

/* ---- finding the upload ---- */

static int take_upload(void *arg, const char *const *texts, struct err *err)
{
    struct multipart *m = arg;

    (void)err;
    if (texts[0] != NULL && texts[1] != NULL && strcmp(texts[0], m->name) == 0 && strlen(texts[1]) <= UPLOAD_ID_MAX)
        memcpy(m->id, texts[1], strlen(texts[1]) + 1);
    return 0;
}

/* Many uploads of one name do not happen: one page will do. */
static int find_upload(struct multipart *m, struct err *err)
{
    static const char *const fields[] = {"Key", "UploadId", NULL};
    AUTO_BUF struct buf xml = BUF_INIT(ANSWER_MAX);
    char path[OBJECTREST_PATH_MAX];
    struct web_exchange x = {.ask = {.method = "GET", .path = path}, .out = &xml};
    struct err why = ERR_INIT;

    objectrest_path(m->r, "", path);
    objectweb_query(&x, "prefix", m->name);
    objectweb_query(&x, "uploads", "");
    int found = objectweb_run(m->r->web, &x, &why);
    if (found == 1)
        return objectlist_rows(xml.data, xml.len, "ListMultipartUploadsResult", "Upload", fields, take_upload, m, err);
    if (found == 0 || why.code == ERR_UNSUPPORTED || why.code == ERR_REFUSED)
        return 0; /* it cannot list them: a new one then */
    err_copy(err, &why);
    return -1;
}

static int begin_upload(struct multipart *m, struct err *err)
{
    AUTO_BUF struct buf xml = BUF_INIT(ANSWER_MAX);
    struct web_exchange x = {.ask = {.method = "POST", .path = m->path}, .body = "", .out = &xml};

    objectweb_query(&x, "uploads", "");
    objectweb_header(&x, "content-type", "application/octet-stream");
    if (objectrest_run(m->r, &x, err) < 0)
        return -1;
    if (objectlist_text(xml.data, xml.len, "InitiateMultipartUploadResult", "UploadId", m->id, sizeof(m->id)) < 0)
        return err_set(err, ERR_CORRUPT, "the service began an upload and gave it no id");
    return 0;
}

/* ---- what it has ---- */

static int take_part(void *arg, const char *const *texts, struct err *err)
{
    struct multipart *m = arg;
    unsigned long number = texts[0] == NULL ? 0 : strtoul(texts[0], NULL, 10);

    (void)err;
    if (number < 1 || number > m->count || texts[1] == NULL || texts[2] == NULL || strlen(texts[1]) >= ETAG_SIZE)
        return 0;
    memcpy(m->etags[number - 1], texts[1], strlen(texts[1]) + 1);
    m->sizes[number - 1] = strtoull(texts[2], NULL, 10);
    return 0;
}

static int list_parts(struct multipart *m, struct err *err)
{
    static const char *const fields[] = {"PartNumber", "ETag", "Size", NULL};
    char next[16] = "", last[16];

    for (int page = 0; page < PAGES_MAX; page++) {
        AUTO_BUF struct buf xml = BUF_INIT(ANSWER_MAX);
        struct web_exchange x = {.ask = {.method = "GET", .path = m->path}, .out = &xml};
        if (next[0] != '\0')
            objectweb_query(&x, "part-number-marker", next);
        objectweb_query(&x, "uploadId", m->id);
        int found = objectweb_run(m->r->web, &x, err);
        if (found <= 0) {
            m->id[0] = '\0'; /* it ended meanwhile */
            return found;
        }
        if (objectlist_rows(xml.data, xml.len, "ListPartsResult", "Part", fields, take_part, m, err) < 0)
            return -1;
        memcpy(last, next, sizeof(last));
        if (objectlist_text(xml.data, xml.len, "ListPartsResult", "NextPartNumberMarker", next, sizeof(next)) < 0 ||
            strtoul(next, NULL, 10) <= strtoul(last, NULL, 10))
            return 0;
    }
    return 0;
}

static bool is_md5(const char *etag, const char md5[MD5_HEX])
{
    size_t quote = etag[0] == '"';

    return strncmp(etag + quote, md5, MD5_HEX - 1) == 0 && strlen(etag) == MD5_HEX - 1 + 2 * quote;
}

static int md5_of(const struct buf *data, char out[MD5_HEX], struct err *err)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(data->data, data->len, raw, &n, EVP_md5(), NULL) != 1 || n != 16)
        return err_set(err, ERR_UNSUPPORTED, "OpenSSL has no MD5 here");
    bytes_to_hex(raw, 16, out);
    return 0;
}

/* ---- the parts ---- */

static int put_part(struct multipart *m, unsigned index, const struct buf *data, struct err *err)
{
    char number[16];
    struct web_exchange x = {.ask = {.method = "PUT", .path = m->path}, .body = data->data, .body_bytes = data->len};

    (void)snprintf(number, sizeof(number), "%u", index + 1);
    objectweb_query(&x, "partNumber", number);
    objectweb_query(&x, "uploadId", m->id);
    int done = objectweb_run(m->r->web, &x, err);
    if (done == 0)
        return err_set(err, ERR_UNAVAILABLE, "the service has ended the upload of %s; it begins again", m->name);
    if (done < 0)
        return -1;
    if (x.etag[0] == '\0' || strpbrk(x.etag, "<>&") != NULL)
        return err_set(err, ERR_CORRUPT, "the service gave part %u of %s no ETag", index + 1, m->name);
    (void)snprintf(m->etags[index], ETAG_SIZE, "%s", x.etag);
    return 0;
}

static int put_parts(struct multipart *m, struct object_pieces *p, struct err *err)
{
    char md5[MD5_HEX];

    for (unsigned i = 0; i < p->count; i++) {
        if (objectpieces_read(p, i, err) < 0)
            return -1;
        if (m->etags[i][0] != '\0') { /* only what is there already needs its MD5 */
            if (md5_of(&p->data, md5, err) < 0)
                return -1;
            if (m->sizes[i] == p->data.len && is_md5(m->etags[i], md5))
                continue;
        }
        if (put_part(m, i, &p->data, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the end ---- */

static int completion(const struct multipart *m, struct buf *xml, struct err *err)
{
    if (buf_append_str(xml, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", err) < 0)
        return -1;
    for (unsigned i = 0; i < m->count; i++)
        if (buf_printf(xml, err, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1, m->etags[i]) < 0)
            return -1;
    return buf_append_str(xml, "</CompleteMultipartUpload>", err);
}

/* The upload is not there: was it our own completion, whose answer got lost? */
static int is_complete(struct multipart *m, uint64_t bytes, struct err *err)
{
    uint64_t size = 0;
    int found = objectrest_size(m->r, m->name, &size, err);

    if (found < 0)
        return -1;
    if (found == 1 && size == bytes)
        return 1;
    return err_set(err, ERR_UNAVAILABLE, "the service has ended the upload of %s; it begins again", m->name);
}

static void abort_upload(struct multipart *m)
{
    struct web_exchange x = {.ask = {.method = "DELETE", .path = m->path}};

    objectweb_query(&x, "uploadId", m->id);
    (void)objectweb_run(m->r->web, &x, NULL);
}

static int complete(struct multipart *m, uint64_t bytes, bool if_absent, struct err *err)
{
    AUTO_BUF struct buf xml = BUF_INIT(ANSWER_MAX), answer = BUF_INIT(ANSWER_MAX);
    char code[64], message[160], etag[ETAG_SIZE];
    struct web_exchange x = {.ask = {.method = "POST", .path = m->path}, .out = &answer};

    if (completion(m, &xml, err) < 0)
        return -1;
    x.body = xml.data;
    x.body_bytes = xml.len;
    objectweb_query(&x, "uploadId", m->id);
    objectweb_header(&x, "content-type", "application/xml");
    if (if_absent)
        objectweb_header(&x, "if-none-match", "*");
    int done = objectweb_run(m->r->web, &x, err);
    if (done == 0 && x.status == 404)
        return is_complete(m, bytes, err);
    if (done == 0)
        abort_upload(m);
    if (done <= 0)
        return done;
    if (objectlist_text(answer.data, answer.len, "CompleteMultipartUploadResult", "ETag", etag, sizeof(etag)) == 0)
        return 1;
    objectlist_error(answer.data, answer.len, code, sizeof(code), message, sizeof(message));
    return err_set(err, ERR_UNAVAILABLE, "the service did not put %s together: %s", m->name,
        code[0] != '\0' ? code : "it did not say why");
}

static int put_with(struct multipart *m, struct object_pieces *p, bool if_absent, struct err *err)
{
    if (find_upload(m, err) < 0 || (m->id[0] != '\0' && list_parts(m, err) < 0) ||
        (m->id[0] == '\0' && begin_upload(m, err) < 0) || put_parts(m, p, err) < 0)
        return -1;
    return complete(m, p->bytes, if_absent, err);
}

int objectmultipart_put(void *rest, const char *name, struct object_pieces *p, bool if_absent, struct err *err)
{
    struct multipart m = {.r = rest, .name = name, .count = p->count};
    int rc;

    objectrest_path(m.r, name, m.path);
    m.etags = mem_alloc(p->count, sizeof(m.etags[0]));
    m.sizes = mem_alloc(p->count, sizeof(m.sizes[0]));
    if (m.etags == NULL || m.sizes == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory for the parts of an object");
    else
        rc = put_with(&m, p, if_absent, err);
    free(m.etags);
    free(m.sizes);
    return rc;
}
