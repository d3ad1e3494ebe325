/* SPDX-License-Identifier: Apache-2.0
 *
 * The XML that both services answer with: lists and errors. It comes from outside: a document type (which could bring
 * entities) is refused, nothing is loaded from anywhere, numbers of entries and lengths are bounded.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECTLIST_H
#define TRANSPORT_VAULT_OBJECT_OBJECTLIST_H

#include <stddef.h>

#include "transport/vault/object/object.h"

/* How a service calls the elements of a list. */
struct list_words {
    const char *root;
    const char *holder; /* element around the entries; NULL: the root itself */
    const char *entry, *name;
    const char *size_holder; /* element around the size inside an entry; NULL: the entry itself */
    const char *size, *next; /* next NULL: lists of this kind have one page */
};

/* Fills the page (empty before); entries in the order of the document. ERR_CORRUPT: not such a list. On failure the page may
 * hold something and is still to be released. */
int objectlist_parse(const void *xml, size_t n, const struct list_words *words, unsigned limit,
    struct object_page *page, struct err *err);
/* Shows each `entry` below the root `root`: the texts of its `fields` (NULL-terminated; at most OBJECTLIST_FIELDS_MAX), NULL for one that it does not have.
 * Ends when visit says -1. ERR_CORRUPT: another document. */
enum { OBJECTLIST_FIELDS_MAX = 4 };
int objectlist_rows(const void *xml, size_t n, const char *root, const char *entry, const char *const *fields,
    int (*visit)(void *arg, const char *const *texts, struct err *err), void *arg, struct err *err);
/* The text of an element right below the root. 0; -1: another document, or no text that fits. */
int objectlist_text(const void *xml, size_t n, const char *root, const char *element, char *out, size_t out_size);
/* Code and message of an error document; empty texts when it is none. */
void objectlist_error(const void *xml, size_t n, char *code, size_t code_size, char *message, size_t message_size);

#endif
