/* SPDX-License-Identifier: Apache-2.0
 *
 * One libcurl handle per message. Failures: no connection, a certificate that nobody vouches for, an answer that is not 2xx, a mail
 * that the server does not take; the first line of what the receiver said is part of the error.
 */
#include "hub/notify/courier.h"

#include <curl/curl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"

#define CONNECT_TIMEOUT_SEC 10L
#define ANSWER_KEPT 200u

static inline void curl_done(CURL **curl)
{
    curl_easy_cleanup(*curl);
}
static inline void slist_done(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}
static inline void mime_done(curl_mime **mime)
{
    curl_mime_free(*mime);
}
#define AUTO_CURL __attribute__((cleanup(curl_done)))
#define AUTO_SLIST __attribute__((cleanup(slist_done)))
#define AUTO_MIME __attribute__((cleanup(mime_done)))

int courier_init(struct err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || sodium_init() < 0)
        return err_set(err, ERR_INTERNAL, "libcurl or libsodium does not start");
    return 0;
}

/* The beginning of what the receiver says, for the error. */
struct answer {
    char text[ANSWER_KEPT];
    size_t len;
};

static size_t keep_answer(char *data, size_t size, size_t count, void *arg)
{
    struct answer *a = arg;

    for (size_t i = 0; i < size * count && a->len + 1 < sizeof(a->text); i++)
        a->text[a->len++] = data[i] >= ' ' && data[i] < 127 ? data[i] : ' ';
    a->text[a->len] = 0;
    return size * count;
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    (void)dt, (void)dn, (void)ut, (void)un;
    return atomic_load((const atomic_bool *)arg);
}

static CURL *new_handle(const struct delivery_claim *to, struct answer *answer, const atomic_bool *stop, char *error)
{
    struct curl_blob ca = {
        .data = (void *)(uintptr_t)to->ca_certificate, .len = strlen(to->ca_certificate), .flags = CURL_BLOB_COPY};
    CURL *curl = curl_easy_init();

    if (!curl)
        return NULL;
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)COURIER_TIMEOUT_SEC);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_answer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, stop);
    if (ca.len > 0)
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &ca);
    return curl;
}

static int failed(CURLcode code, const char *error, const struct answer *answer, struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "%.120s%s%.120s", error[0] ? error : curl_easy_strerror(code),
        answer->text[0] ? ": " : "", answer->text);
}

/* ---- webhook ---- */

static int add_header(struct curl_slist **list, const char *name, const char *value)
{
    AUTO_FREE char *line = mem_printf("%s: %s", name, value);
    struct curl_slist *longer = line ? curl_slist_append(*list, line) : NULL;

    if (!longer)
        return -1;
    *list = longer;
    return 0;
}

static int sign(const char *secret, const char *timestamp, const char *body, struct curl_slist **list)
{
    crypto_auth_hmacsha256_state state;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    char text[8 + 2 * sizeof(mac)] = "sha256=";

    (void)crypto_auth_hmacsha256_init(&state, (const unsigned char *)secret, strlen(secret));
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)timestamp, strlen(timestamp));
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)".", 1);
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)body, strlen(body));
    (void)crypto_auth_hmacsha256_final(&state, mac);
    bytes_to_hex(mac, sizeof(mac), text + 7);
    return add_header(list, "X-Leeward-Signature", text);
}

static int webhook_headers(const struct delivery_claim *to, const char *body, struct curl_slist **list)
{
    char timestamp[24];

    (void)snprintf(timestamp, sizeof(timestamp), "%llu", (unsigned long long)(clock_utc_usec() / USEC_PER_SEC));
    if (add_header(list, "Content-Type", "application/json") < 0 || add_header(list, "Expect", "") < 0 ||
        add_header(list, "X-Leeward-Delivery", to->id) < 0 || add_header(list, "X-Leeward-Event", to->kind) < 0 ||
        add_header(list, "X-Leeward-Timestamp", timestamp) < 0)
        return -1;
    return to->secret[0] ? sign(to->secret, timestamp, body, list) : 0;
}

static int send_webhook(
    const struct delivery_claim *to, const struct alert_message *m, const atomic_bool *stop, struct err *err)
{
    char error[CURL_ERROR_SIZE] = "";
    struct answer answer = {0};
    AUTO_SLIST struct curl_slist *headers = NULL;
    AUTO_CURL CURL *curl = new_handle(to, &answer, stop, error);
    CURLcode code;
    long status = 0;

    if (!curl || webhook_headers(to, m->json, &headers) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    (void)curl_easy_setopt(curl, CURLOPT_URL, to->url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "leeward-hub/" LEEWARD_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, m->json);
    code = curl_easy_perform(curl);
    if (code != CURLE_OK)
        return failed(code, error, &answer, err);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300)
        return 0;
    return err_set(
        err, ERR_UNAVAILABLE, "the receiver answered %ld%s%.120s", status, answer.text[0] ? ": " : "", answer.text);
}

/* ---- mail ---- */

static int add_text(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (!longer)
        return -1;
    *list = longer;
    return 0;
}

/* Receivers for the envelope, and as one header. */
static int mail_receivers(const char *to_json, struct curl_slist **envelope, struct buf *header, struct err *err)
{
    json_t *list = json_loads(to_json, JSON_REJECT_DUPLICATES, NULL), *one;
    size_t i;
    int rc = 0;

    json_array_foreach(list, i, one)
    {
        const char *address = json_string_value(one);

        if (rc == 0 && address &&
            (add_text(envelope, address) < 0 || buf_printf(header, err, "%s%s", i ? ", " : "To: ", address) < 0))
            rc = err_set(err, ERR_NOMEM, "no memory for a mail");
    }
    json_decref(list);
    return rc;
}

static int mail_headers(
    const struct delivery_claim *to, const struct alert_message *m, const char *receivers, struct curl_slist **list)
{
    AUTO_FREE char *from = mem_printf("From: Leeward <%s>", to->from_address);
    AUTO_FREE char *subject = mem_printf("Subject: %s", m->subject_encoded);
    AUTO_FREE char *id = mem_printf("Message-ID: <%s@%s>", to->id, m->host);
    AUTO_FREE char *date = mem_printf("Date: %s", m->date);

    return !from || !subject || !id || !date || add_text(list, from) < 0 || add_text(list, receivers) < 0 ||
                   add_text(list, subject) < 0 || add_text(list, id) < 0 || add_text(list, date) < 0 ||
                   add_text(list, "Auto-Submitted: auto-generated") < 0
               ? -1
               : 0;
}

static int add_part(curl_mime *mime, const char *text, const char *type, const char *file_name)
{
    curl_mimepart *part = text ? curl_mime_addpart(mime) : NULL;

    if (!part)
        return text ? -1 : 0;
    return curl_mime_data(part, text, CURL_ZERO_TERMINATED) != CURLE_OK || curl_mime_type(part, type) != CURLE_OK ||
                   curl_mime_encoder(part, "base64") != CURLE_OK ||
                   (file_name && curl_mime_filename(part, file_name) != CURLE_OK)
               ? -1
               : 0;
}

static curl_mime *mail_body(CURL *curl, const struct alert_message *m)
{
    curl_mime *mime = curl_mime_init(curl);

    if (mime && add_part(mime, m->text, "text/plain; charset=utf-8", NULL) == 0 &&
        add_part(mime, m->html, "text/html; charset=utf-8", m->html ? "report.html" : NULL) == 0 &&
        add_part(mime, m->csv, "text/csv; charset=utf-8", "report.csv") == 0)
        return mime;
    curl_mime_free(mime);
    return NULL;
}

static void mail_options(CURL *curl, const struct delivery_claim *to)
{
    long ssl = strcmp(to->security, "none") == 0 ? CURLUSESSL_NONE : CURLUSESSL_ALL;

    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    (void)curl_easy_setopt(curl, CURLOPT_USE_SSL, ssl);
    (void)curl_easy_setopt(curl, CURLOPT_MAIL_FROM, to->from_address);
    (void)curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    if (!to->username[0])
        return;
    (void)curl_easy_setopt(curl, CURLOPT_USERNAME, to->username);
    (void)curl_easy_setopt(curl, CURLOPT_PASSWORD, to->secret);
}

static int send_mail(
    const struct delivery_claim *to, const struct alert_message *m, const atomic_bool *stop, struct err *err)
{
    char error[CURL_ERROR_SIZE] = "";
    struct answer answer = {0};
    AUTO_BUF struct buf receivers = BUF_INIT(64u * 1024u);
    AUTO_FREE char *url = mem_printf(
        "%s://%s:%u/%s", strcmp(to->security, "tls") == 0 ? "smtps" : "smtp", to->server, (unsigned)to->port, m->host);
    AUTO_SLIST struct curl_slist *headers = NULL;
    AUTO_SLIST struct curl_slist *envelope = NULL;
    AUTO_CURL CURL *curl = new_handle(to, &answer, stop, error);
    CURLcode code;

    if (!curl || !url || mail_receivers(to->to_json, &envelope, &receivers, err) < 0 ||
        buf_append(&receivers, "", 1, err) < 0 || mail_headers(to, m, (const char *)receivers.data, &headers) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a mail");
    AUTO_MIME curl_mime *mime = mail_body(curl, m);

    if (!mime)
        return err_set(err, ERR_NOMEM, "no memory for a mail");
    mail_options(curl, to);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, envelope);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_MIMEPOST, mime);
    code = curl_easy_perform(curl);
    return code == CURLE_OK ? 0 : failed(code, error, &answer, err);
}

int courier_send(
    const struct delivery_claim *to, const struct alert_message *message, const atomic_bool *stop, struct err *err)
{
    return strcmp(to->channel_kind, "smtp") == 0 ? send_mail(to, message, stop, err)
                                                 : send_webhook(to, message, stop, err);
}
