/* SPDX-License-Identifier: Apache-2.0
 *
 * The XML that storage services answer with.
 */
#include "transport/vault/object/objectlist.h"

static int pass(void *arg, const char *const *texts, struct err *err)
{
    (void)arg, (void)texts, (void)err;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct list_words azure = {.root = "EnumerationResults",
        .holder = "Blobs",
        .entry = "Blob",
        .name = "Name",
        .size_holder = "Properties",
        .size = "Content-Length",
        .next = "NextMarker"};
    static const struct list_words blocks = {
        .root = "BlockList", .holder = "UncommittedBlocks", .entry = "Block", .name = "Name", .size = "Size"};
    static const char *const fields[] = {"PartNumber", "ETag", "Size", NULL};
    char code[16], message[32], text[16];
    struct object_page page = {0};

    (void)objectlist_parse(data, size, &azure, 3, &page, NULL);
    object_page_done(&page);
    (void)objectlist_parse(data, size, &blocks, 3, &page, NULL);
    object_page_done(&page);
    objectlist_error(data, size, code, sizeof(code), message, sizeof(message));
    (void)objectlist_rows(data, size, "ListPartsResult", "Part", fields, pass, NULL, NULL);
    (void)objectlist_text(data, size, "ListPartsResult", "NextPartNumberMarker", text, sizeof(text));
    return 0;
}
