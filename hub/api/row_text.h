/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows as the text of JSON objects, by the tables of row_json.h. For lists that are long and asked for often: a page of fifty machines as a
 * tree of values costs three quarters of what the hub does for it.
 */
#ifndef HUB_API_ROW_TEXT_H
#define HUB_API_ROW_TEXT_H

#include "hub/api/row_json.h"
#include "transport/base/buf.h"

/* An object on its way into a buffer. What fails (no memory, no room) is told once, by row_text_end. */
struct row_text {
    struct buf *out;
    bool some, failed;
};

struct row_text row_text_begin(struct buf *out);
/* Members as a table has them. JSON of the row is JSON that PostgreSQL wrote, and goes out as it is. */
void row_text_members(struct row_text *t, const void *row, const struct row_json_member *members, size_t count);
/* One member more, at `value` in the form. */
void row_text_member(struct row_text *t, const char *name, enum row_json_form form, const void *value);
/* 0; -1: something failed, and the buffer holds a part of the object. */
int row_text_end(struct row_text *t);

#endif
