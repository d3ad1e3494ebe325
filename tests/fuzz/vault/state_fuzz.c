/* SPDX-License-Identifier: Apache-2.0
 *
 * The small files of a machine with any content: manifest, point list, meta, older keys, branch; and keys as text. Their hashes are made right first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"
#include "transport/vault/branch.h"
#include "transport/vault/keyring.h"
#include "transport/vault/manifest.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/storemeta.h"

static char path[] = "/tmp/leeward-fuzz-XXXXXX";

static void folder_remove(void)
{
    (void)file_remove_tree(path, NULL);
}

static const char *folder(void)
{
    static int made;
    if (!made && (mkdtemp(path) == NULL || atexit(folder_remove) != 0))
        abort();
    made = 1;
    return path;
}

static void put(const char *name, const uint8_t *data, size_t n)
{
    char file[64];
    (void)snprintf(file, sizeof(file), "%s/%s", folder(), name);
    FILE *f = fopen(file, "w");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        abort();
}

/* With the hash of everything before the last 16 bytes as those. */
static void put_hashed(const char *name, const uint8_t *data, size_t n)
{
    struct hash128 hash;
    uint8_t *copy = malloc(n + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    if (n >= HASH_SIZE) {
        hash_128(copy, n - HASH_SIZE, &hash);
        memcpy(copy + n - HASH_SIZE, hash.bytes, HASH_SIZE);
    }
    put(name, copy, n);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ident machine = {{7}};
    struct manifest m = {0};
    struct pointlist points = {0};
    struct point point;
    struct store_meta meta;
    struct branch_info info;
    struct seal_key newest = {{1}};
    struct keyring ring;
    put_hashed("manifest", data, size);
    put_hashed("meta", data, size);
    put_hashed("branch", data, size);
    put_hashed("keys", data, size);
    put("points-0000000000000001", data, size);
    if (manifest_load(folder(), &machine, &m, NULL) == 0)
        manifest_done(&m);
    for (uint64_t count = 0; count < 4; count++)
        if (pointlist_load(folder(), 1, &machine, count * count * count * 1000, &points, NULL) == 0)
            pointlist_done(&points);
    (void)pointlist_lookup(folder(), 1, &machine, 32, 7, &point, NULL);
    (void)storemeta_load(folder(), &meta, NULL);
    (void)keyring_load(folder(), &machine, &newest, &ring, NULL);
    char *text = mem_strndup((const char *)data, size);
    if (text != NULL)
        (void)keyring_from_text(text, &ring, NULL);
    free(text);
    (void)branch_load_info(folder(), &info, NULL);
    return 0;
}
