/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of one delivery: a mail with subject and text, and the JSON of a webhook. Made of the delivery's row alone, so that each try
 * sends the same.
 */
#ifndef HUB_NOTIFY_ALERT_MESSAGE_H
#define HUB_NOTIFY_ALERT_MESSAGE_H

#include "hub/db/channel_store.h"
#include "transport/base/buf.h"

struct alert_message {
    char *subject;           /* UTF-8, without control characters */
    char *subject_encoded;   /* as it stands in a header (RFC 2047 where it is not ASCII) */
    char *text, *html, *csv; /* html and csv: of a report, else NULL */
    char *json;
    char date[40]; /* RFC 5322 */
    char host[72]; /* for the Message-ID and HELO */
};

/* ERR_CORRUPT: the stored body is none. */
int alert_message_make(
    const struct delivery_claim *delivery, const char *hub_id, struct alert_message *ret_message, struct err *err);
void alert_message_done(struct alert_message *message);
#define AUTO_ALERT_MESSAGE __attribute__((cleanup(alert_message_done)))

/* A header's value: as it is where it is ASCII, else as encoded words of at most 75 characters. NULL: no memory. */
char *alert_message_encode(const char *text);

#endif
