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
    const char *size, *next;
};

/* Fills the page (empty before); entries in the order of the document. ERR_CORRUPT: not such a list. On failure the page may
 * hold something and is still to be released. */
int objectlist_parse(const void *xml, size_t n, const struct list_words *words, unsigned limit,
    struct object_page *page, struct err *err);
/* Code and message of an error document; empty texts when it is none. */
void objectlist_error(const void *xml, size_t n, char *code, size_t code_size, char *message, size_t message_size);

#endif
