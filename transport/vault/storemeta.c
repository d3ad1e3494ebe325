/* SPDX-License-Identifier: Apache-2.0
 *
 * The file `meta` of a machine (FORMAT.md): 128 bytes, the last 16 of them a hash over the others. It cannot be rebuilt, so
 * damage is an error that tells what is lost.
 */
#include "transport/vault/storemeta.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define META_MAGIC "LWMET\0\0\1"
#define VERSION_WITH_OLDER_KEYS 2 /* the file `keys` belongs to it */
#define META_HASH (STOREMETA_SIZE - HASH_SIZE)

static int damaged(const char *dir, struct err *err)
{
    (void)err_set(err, ERR_CORRUPT, "the file meta in %s is damaged", dir);
    return err_hint(err, "it holds the machine's wrapped data key: put it back from a copy");
}

static int decode(const char *dir, const uint8_t *p, size_t n, struct store_meta *ret_meta, struct err *err)
{
    if (n != STOREMETA_SIZE || memcmp(p, META_MAGIC, 7) != 0)
        return damaged(dir, err);
    if (p[7] != (uint8_t)META_MAGIC[7] && p[7] != VERSION_WITH_OLDER_KEYS)
        return err_set(err, ERR_UNSUPPORTED, "the file meta in %s has the unknown version %u", dir, p[7]);
    if (!hash_is_sealed(p, STOREMETA_SIZE))
        return damaged(dir, err);
    memcpy(ret_meta->machine.bytes, p + 8, IDENT_SIZE);
    ret_meta->generation = get_le64(p + 24);
    ret_meta->epoch = get_le64(p + 32);
    ret_meta->created_utc_usec = get_le64(p + 40);
    ret_meta->next_nonce_stream = get_le32(p + 48);
    memcpy(ret_meta->wrapped_key, p + 52, VAULTKEYS_WRAPPED_SIZE);
    ret_meta->has_older_keys = p[7] == VERSION_WITH_OLDER_KEYS;
    return 0;
}

int storemeta_load(const char *machine_dir, struct store_meta *ret_meta, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(4096);
    char *path AUTO_FREE = mem_printf("%s/meta", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read meta");
    if (file_read(path, &content, err) < 0)
        return -1;
    return decode(machine_dir, content.data, content.len, ret_meta, err);
}

void storemeta_encode(const struct store_meta *meta, uint8_t out[STOREMETA_SIZE])
{
    memset(out, 0, STOREMETA_SIZE);
    memcpy(out, META_MAGIC, sizeof(META_MAGIC) - 1);
    out[7] = meta->has_older_keys ? VERSION_WITH_OLDER_KEYS : out[7];
    memcpy(out + 8, meta->machine.bytes, IDENT_SIZE);
    put_le64(out + 24, meta->generation);
    put_le64(out + 32, meta->epoch);
    put_le64(out + 40, meta->created_utc_usec);
    put_le32(out + 48, meta->next_nonce_stream);
    memcpy(out + 52, meta->wrapped_key, VAULTKEYS_WRAPPED_SIZE);
    hash_seal(out, META_HASH);
}

int storemeta_store(const char *machine_dir, const struct store_meta *meta, struct err *err)
{
    uint8_t out[STOREMETA_SIZE];
    char *path AUTO_FREE = mem_printf("%s/meta", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write meta");
    storemeta_encode(meta, out);
    return file_replace(path, out, sizeof(out), 0600, err);
}
