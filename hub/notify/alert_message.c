/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts. What peers said is in them (names, causes): control characters become spaces, so that no line of a mail is theirs.
 * RFC 2047 (encoded words), RFC 5322 (date).
 */
#include "hub/notify/alert_message.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hub/core/alert.h"
#include "transport/base/clock.h"

#define TEXT_MAX (512u * 1024u)
#define WORD_BYTES 42u /* 56 characters of base64 in an encoded word of at most 75 */

void alert_message_done(struct alert_message *m)
{
    free(m->subject);
    free(m->subject_encoded);
    free(m->text);
    free(m->html);
    free(m->csv);
    free(m->json);
    *m = (struct alert_message){0};
}

static void flatten(char *text)
{
    for (; text && *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            *text = ' ';
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text > 126 || (unsigned char)*text < ' ')
            return false;
    return true;
}

/* How much of the text fits one word without cutting a character. */
static size_t word_length(const char *text)
{
    size_t n = strlen(text);

    if (n <= WORD_BYTES)
        return n;
    n = WORD_BYTES;
    while (n > 1 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

char *alert_message_encode(const char *text)
{
    AUTO_BUF struct buf out = BUF_INIT(16u * 1024u);
    char word[80];

    if (is_ascii(text))
        return mem_strdup(text);
    for (size_t n; *text; text += n) {
        n = word_length(text);
        sodium_bin2base64(word, sizeof(word), (const unsigned char *)text, n, sodium_base64_VARIANT_ORIGINAL);
        if (buf_printf(&out, NULL, "%s=?UTF-8?B?%s?=", out.len ? "\r\n " : "", word) < 0)
            return NULL;
    }
    return mem_strndup((const char *)out.data, out.len);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static unsigned count_of(const json_t *object, const char *name)
{
    return (unsigned)json_integer_value(json_object_get(object, name));
}

/* ---- alerts ---- */

static char *subject_of_one(const json_t *alert)
{
    bool resolved = strcmp(text_of(alert, "change"), "resolved") == 0;

    return mem_printf("[Leeward] %s: %s: %s", resolved ? "resolved" : text_of(alert, "severity"),
        text_of(alert, "subject_name"), alert_title(text_of(alert, "code")));
}

static char *alerts_subject(const json_t *body)
{
    const json_t *list = json_object_get(body, "alerts");
    unsigned critical = count_of(body, "critical"), warning = count_of(body, "warning"),
             resolved = count_of(body, "resolved");
    char parts[3][32] = {"", "", ""};

    if (critical + warning + resolved == 1)
        return subject_of_one(json_array_get(list, 0));
    if (critical)
        snprintf(parts[0], sizeof(parts[0]), "%u critical", critical);
    if (warning)
        snprintf(parts[1], sizeof(parts[1]), "%s%u warning", critical ? ", " : "", warning);
    if (resolved)
        snprintf(parts[2], sizeof(parts[2]), "%s%u resolved", critical + warning ? ", " : "", resolved);
    return mem_printf("[Leeward] %u alerts: %s%s%s", critical + warning + resolved, parts[0], parts[1], parts[2]);
}

static int write_alert(struct buf *out, const json_t *alert, struct err *err)
{
    bool resolved = strcmp(text_of(alert, "change"), "resolved") == 0;
    AUTO_FREE char *name = mem_strdup(text_of(alert, "subject_name"));
    AUTO_FREE char *cause = mem_strdup(text_of(alert, "cause"));
    AUTO_FREE char *remedy = mem_strdup(text_of(alert, "remedy"));

    if (!name || !cause || !remedy)
        return err_set(err, ERR_NOMEM, "no memory for a message");
    flatten(name);
    flatten(cause);
    flatten(remedy);
    if (buf_printf(out, err, "%s  %s %s: %s\n    %s\n",
            resolved                                              ? "RESOLVED"
            : strcmp(text_of(alert, "severity"), "critical") == 0 ? "CRITICAL"
                                                                  : "WARNING",
            text_of(alert, "subject_kind"), name, alert_title(text_of(alert, "code")), cause) < 0)
        return -1;
    if (!resolved && buf_printf(out, err, "    What to do: %s\n", remedy) < 0)
        return -1;
    return buf_printf(
        out, err, "    Since: %s   Runbook: docs/runbooks/%s.md\n\n", text_of(alert, "since"), text_of(alert, "code"));
}

static int alerts_text(const json_t *body, struct buf *out, struct err *err)
{
    const json_t *list = json_object_get(body, "alerts"), *alert;
    unsigned all = count_of(body, "critical") + count_of(body, "warning") + count_of(body, "resolved");
    size_t i;

    json_array_foreach(list, i, alert)
    {
        if (write_alert(out, alert, err) < 0)
            return -1;
    }
    if (all > json_array_size(list) &&
        buf_printf(out, err, "... and %u more: leeward alert list\n", all - (unsigned)json_array_size(list)) < 0)
        return -1;
    return 0;
}

static void add_titles(json_t *body)
{
    json_t *alert;
    size_t i;

    json_array_foreach(json_object_get(body, "alerts"), i, alert)
        json_object_set_new(alert, "title", json_string(alert_title(text_of(alert, "code"))));
}

/* ---- all kinds ---- */

static int make_text(const struct delivery_claim *d, const json_t *body, struct alert_message *m, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(TEXT_MAX);
    bool alerts = strcmp(d->kind, "alerts") == 0;

    m->subject = alerts ? alerts_subject(body) : mem_printf("[Leeward] %s", text_of(body, "subject"));
    if (alerts ? alerts_text(body, &out, err) < 0 : buf_printf(&out, err, "%s\n", text_of(body, "text")) < 0)
        return -1;
    m->text = mem_strndup((const char *)out.data, out.len);
    if (*text_of(body, "html"))
        m->html = mem_strdup(text_of(body, "html"));
    if (*text_of(body, "csv"))
        m->csv = mem_strdup(text_of(body, "csv"));
    if (!m->subject || !m->text)
        return err_set(err, ERR_NOMEM, "no memory for a message");
    flatten(m->subject);
    m->subject_encoded = alert_message_encode(m->subject);
    return m->subject_encoded ? 0 : err_set(err, ERR_NOMEM, "no memory for a message");
}

static int make_json(
    const struct delivery_claim *d, json_t *body, struct alert_message *m, const char *hub_id, struct err *err)
{
    char at[CLOCK_RFC3339_SIZE];

    clock_rfc3339(d->created_at, at);
    add_titles(body);
    if (json_object_set_new(body, "delivery_id", json_string(d->id)) < 0 ||
        json_object_set_new(body, "event", json_string(d->kind)) < 0 ||
        json_object_set_new(body, "channel", json_string(d->channel_name)) < 0 ||
        json_object_set_new(body, "hub_id", json_string(hub_id)) < 0 ||
        json_object_set_new(body, "created_at", json_string(at)) < 0 ||
        json_object_set_new(body, "summary", json_string(m->subject)) < 0 ||
        !(m->json = json_dumps(body, JSON_COMPACT)))
        return err_set(err, ERR_NOMEM, "no memory for a message");
    return 0;
}

int alert_message_make(const struct delivery_claim *d, const char *hub_id, struct alert_message *m, struct err *err)
{
    time_t at = (time_t)(d->created_at / USEC_PER_SEC);
    json_t *body = json_loads(d->body, JSON_REJECT_DUPLICATES, NULL);
    struct tm tm;
    int rc;

    if (!json_is_object(body)) {
        json_decref(body);
        return err_set(err, ERR_CORRUPT, "the body of delivery %s is not an object", d->id);
    }
    (void)strftime(m->date, sizeof(m->date), "%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&at, &tm));
    (void)snprintf(m->host, sizeof(m->host), "%s.leeward", hub_id);
    rc = make_text(d, body, m, err) < 0 ? -1 : make_json(d, body, m, hub_id, err);
    json_decref(body);
    return rc;
}
