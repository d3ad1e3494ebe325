/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands print: tables of items, one item as a list of its members, JSON. Control characters in what came from a
 * hub are never passed to the terminal.
 */
#ifndef HUB_CLI_OUTPUT_H
#define HUB_CLI_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "hub/cli/command.h"

enum column_form {
    COLUMN_TEXT,
    COLUMN_NUMBER,
    COLUMN_BYTES,   /* 1.5 GiB */
    COLUMN_RATE,    /* 1.5 MiB/s */
    COLUMN_SECONDS, /* 1.2 s, 3 min, 2 d */
    COLUMN_TIME,    /* without fraction */
    COLUMN_PERCENT,
    COLUMN_YES_NO,
    COLUMN_LIST, /* array of texts, joined */
};

struct column {
    const char *title, *member;
    enum column_form form;
    bool wide; /* only with -o wide */
};

/* items: array of objects. JSON: {"items": [...]} as it came. */
int output_items(
    const struct command_line *line, const json_t *items, const struct column *columns, size_t count, FILE *out);
/* One object. Table: what is said of it in people's words, without what is not there and what only programs need. Wide: every
 * member under its name in the API. JSON: the object. */
int output_item(const struct command_line *line, const json_t *item, FILE *out);
/* One object and, below, its member `list` as a table, if that is not empty. Takes the list out of the item. JSON: the object. */
int output_item_and_list(const struct command_line *line, json_t *item, const char *list, const struct column *columns,
    size_t count, FILE *out);
void output_json(const json_t *value, FILE *out);
/* Text with control characters replaced. */
void output_text(const char *text, FILE *out);
/* Ends the text (UTF-8) after so many code points, for a line of a terminal with that many columns. */
void output_cut(char *text, size_t columns);
/* One value in its form; out holds n bytes. */
void output_value(const json_t *value, enum column_form form, char *out, size_t n);

#endif
