/* SPDX-License-Identifier: Apache-2.0
 *
 * XML by libxml2, as a tree: a list has at most a thousand entries. Names of elements are compared without their namespace.
 */
#include "transport/vault/object/objectlist.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "transport/vault/object/object_private.h"

enum { NEXT_MAX = 4096 };

static bool is_called(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static const xmlNode *child_called(const xmlNode *parent, const char *name)
{
    const xmlNode *node = parent->children;

    while (node != NULL && !is_called(node, name))
        node = node->next;
    return node;
}

/* The text of an element: one text node; "" when it is empty, NULL when there is anything else in it. */
static const char *text_of(const xmlNode *element)
{
    const xmlNode *node = element->children;

    if (node == NULL)
        return "";
    if (node->next != NULL || (node->type != XML_TEXT_NODE && node->type != XML_CDATA_SECTION_NODE))
        return NULL;
    return (const char *)node->content;
}

static const char *text_called(const xmlNode *parent, const char *name)
{
    const xmlNode *node = parent ? child_called(parent, name) : NULL;

    return node ? text_of(node) : NULL;
}

static xmlDoc *parse(const void *xml, size_t n)
{
    if (n == 0 || n > INT_MAX)
        return NULL;
    xmlDoc *doc =
        xmlReadMemory(xml, (int)n, "answer.xml", NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (doc != NULL && (doc->intSubset != NULL || doc->extSubset != NULL || xmlDocGetRootElement(doc) == NULL)) {
        xmlFreeDoc(doc);
        return NULL;
    }
    return doc;
}

static int parse_size(const char *text, uint64_t *ret_bytes)
{
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return -1;
    errno = 0;
    *ret_bytes = strtoull(text, &end, 10);
    return errno != 0 || *end != '\0' ? -1 : 0;
}

static int add_entry(const xmlNode *entry, const struct list_words *words, struct object_page *page, struct err *err)
{
    const char *name = text_called(entry, words->name);
    const xmlNode *sized = words->size_holder ? child_called(entry, words->size_holder) : entry;
    uint64_t bytes;

    if (name == NULL || parse_size(text_called(sized, words->size), &bytes) < 0)
        return err_set(err, ERR_CORRUPT, "an entry of the list has no name or no size");
    return object_page_add(page, name, bytes, err);
}

static int read_list(
    const xmlNode *root, const struct list_words *words, unsigned limit, struct object_page *page, struct err *err)
{
    const xmlNode *holder = words->holder ? child_called(root, words->holder) : root;
    const char *next = words->next ? text_called(root, words->next) : NULL;

    for (const xmlNode *node = holder ? holder->children : NULL; node != NULL; node = node->next) {
        if (!is_called(node, words->entry))
            continue;
        if (page->count == limit)
            return err_set(err, ERR_CORRUPT, "the list has more than the %u entries that were asked for", limit);
        if (add_entry(node, words, page, err) < 0)
            return -1;
    }
    if (next == NULL || *next == '\0')
        return 0;
    page->next = strlen(next) > NEXT_MAX ? NULL : mem_strdup(next);
    return page->next ? 0 : err_set(err, ERR_CORRUPT, "the marker of the next page is too long");
}

int objectlist_parse(const void *xml, size_t n, const struct list_words *words, unsigned limit,
    struct object_page *page, struct err *err)
{
    xmlDoc *doc = parse(xml, n);
    int rc = -1;

    if (doc != NULL && is_called(xmlDocGetRootElement(doc), words->root))
        rc = read_list(xmlDocGetRootElement(doc), words, limit, page, err);
    else
        err_set(err, ERR_CORRUPT, "the answer is not a list of objects");
    xmlFreeDoc(doc);
    return rc;
}

void objectlist_error(const void *xml, size_t n, char *code, size_t code_size, char *message, size_t message_size)
{
    xmlDoc *doc = parse(xml, n);
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    const char *word = text_called(root, "Code"), *text = text_called(root, "Message");

    snprintf(code, code_size, "%s", word ? word : "");
    snprintf(message, message_size, "%.*s", (int)strcspn(text ? text : "", "\r\n"), text ? text : "");
    xmlFreeDoc(doc);
}

static int show_row(const xmlNode *node, const char *const *fields,
    int (*visit)(void *arg, const char *const *texts, struct err *err), void *arg, struct err *err)
{
    const char *texts[OBJECTLIST_FIELDS_MAX] = {NULL};

    for (size_t i = 0; i < OBJECTLIST_FIELDS_MAX && fields[i] != NULL; i++)
        texts[i] = text_called(node, fields[i]);
    return visit(arg, texts, err);
}

int objectlist_rows(const void *xml, size_t n, const char *root, const char *entry, const char *const *fields,
    int (*visit)(void *arg, const char *const *texts, struct err *err), void *arg, struct err *err)
{
    xmlDoc *doc = parse(xml, n);
    const xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;
    int rc = 0;

    if (top == NULL || !is_called(top, root))
        rc = err_set(err, ERR_CORRUPT, "the answer is not a %s", root);
    for (const xmlNode *node = rc == 0 ? top->children : NULL; node != NULL && rc == 0; node = node->next)
        if (is_called(node, entry))
            rc = show_row(node, fields, visit, arg, err);
    xmlFreeDoc(doc);
    return rc;
}

int objectlist_text(const void *xml, size_t n, const char *root, const char *element, char *out, size_t out_size)
{
    xmlDoc *doc = parse(xml, n);
    const xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;
    const char *text = top && is_called(top, root) ? text_called(top, element) : NULL;
    bool fits = text != NULL && *text != '\0' && strlen(text) < out_size;

    if (fits)
        memcpy(out, text, strlen(text) + 1);
    xmlFreeDoc(doc);
    return fits ? 0 : -1;
}
