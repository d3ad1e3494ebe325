/* SPDX-License-Identifier: Apache-2.0
 *
 * nbdkit plugin that serves a recovery point of a machine (read-only) or a branch of it (read-write), one export per disk,
 * named by the disk's number; the default export is the lowest. The vault starts one nbdkit per open point.
 *
 *     nbdkit -f -U SOCKET leeward-vault-nbd.so machine=DIR sequence=N key-fd=3 [branch=DIR nonce-stream=N reserve=BYTES]
 *         [cache=BYTES]
 *
 * The machine's data keys come through a descriptor or a file, as keyring.h writes them, never on the command line. Every record is
 * verified before a byte of it is given out; what cannot be read or verified is EIO, never other data. Requests run in
 * parallel. When nbdkit is told to end, a branch is flushed.
 */
#define NBDKIT_API_VERSION 2
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"
#include "transport/vault/branch.h"
#include "transport/vault/view.h"

#define KEY_HEX_SIZE (2 * SEAL_KEY_SIZE)
#define EXTENTS_PER_REPLY 2048
#define BLOCK_MAX (32u << 20) /* nbdkit takes no larger request */

/* The command line, then what it opened. Written before the first connection, only read afterwards. */
static struct {
    char *machine;
    char *branch_dir;
    uint64_t sequence;
    uint64_t nonce_stream;
    uint64_t cache_bytes;
    uint64_t reserve_bytes;
    char *key_file;
    int key_fd;
    struct keyring keys;
    struct view *view;
    struct branch *branch;
} vault = {.key_fd = -1};

/* One connection. */
struct handle {
    uint32_t disk;
    uint64_t size_bytes;
};

/* Damage is told once for each record: a client that asks again and again must not fill the log. A slot that two of them share
 * tells both more often. */
static bool is_told(const struct err *err)
{
    static _Atomic uint32_t told[256];
    uint32_t hash = hash_32(err->text, strlen(err->text)) | 1u;
    return (err->code == ERR_CORRUPT || err->code == ERR_DENIED) &&
           atomic_exchange(&told[hash >> 8 & 255], hash) == hash;
}

static int fail(const struct err *err)
{
    if (!is_told(err))
        nbdkit_error("%s%s%s", err->text, err->correction[0] != '\0' ? "; " : "", err->correction);
    nbdkit_set_error(err->code == ERR_NOSPACE ? ENOSPC : err->code == ERR_NOMEM ? ENOMEM : EIO);
    return -1;
}

/* ---- start and end ---- */

static int take_path(const char *value, char **slot)
{
    free(*slot);
    *slot = nbdkit_absolute_path(value);
    return *slot == NULL ? -1 : 0;
}

static int take_number(const char *key, const char *value, uint64_t *slot)
{
    return nbdkit_parse_uint64_t(key, value, slot);
}

static int vaultnbd_config(const char *key, const char *value)
{
    if (strcmp(key, "machine") == 0)
        return take_path(value, &vault.machine);
    if (strcmp(key, "branch") == 0)
        return take_path(value, &vault.branch_dir);
    if (strcmp(key, "key-file") == 0)
        return take_path(value, &vault.key_file);
    if (strcmp(key, "key-fd") == 0)
        return nbdkit_parse_int(key, value, &vault.key_fd);
    if (strcmp(key, "sequence") == 0)
        return take_number(key, value, &vault.sequence);
    if (strcmp(key, "nonce-stream") == 0)
        return take_number(key, value, &vault.nonce_stream);
    if (strcmp(key, "cache") == 0)
        return take_number(key, value, &vault.cache_bytes);
    if (strcmp(key, "reserve") == 0)
        return take_number(key, value, &vault.reserve_bytes);
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static int vaultnbd_config_complete(void)
{
    if (vault.machine == NULL || (vault.key_fd < 0) == (vault.key_file == NULL)) {
        nbdkit_error("machine=DIR and one of key-fd=N and key-file=PATH are required");
        return -1;
    }
    if (vault.branch_dir != NULL && (vault.nonce_stream == 0 || vault.nonce_stream > UINT32_MAX)) {
        nbdkit_error("a branch needs a nonce-stream that was never used");
        return -1;
    }
    return 0;
}

static int read_keys(void)
{
    char text[KEYRING_TEXT_MAX] = {0};
    struct err err = ERR_INIT;
    size_t have = 0;
    int fd = vault.key_fd >= 0 ? vault.key_fd : open(vault.key_file, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && have < sizeof(text) - 1) {
        ssize_t n = read(fd, text + have, sizeof(text) - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (fd >= 0)
        (void)close(fd);
    int result = keyring_from_text(text, &vault.keys, &err);
    OPENSSL_cleanse(text, sizeof(text));
    return result < 0 ? fail(&err) : 0;
}

static int vaultnbd_get_ready(void)
{
    struct err err = ERR_INIT;
    if (read_keys() < 0)
        return -1;
    if (view_open(vault.machine, vault.sequence, &vault.keys, vault.cache_bytes, &vault.view, &err) < 0)
        return fail(&err);
    struct branch_conf conf = {.dir = vault.branch_dir,
        .base = vault.view,
        .keys = &vault.keys,
        .nonce_stream = (uint32_t)vault.nonce_stream,
        .cache_bytes = vault.cache_bytes,
        .reserve_bytes = vault.reserve_bytes};
    if (vault.branch_dir != NULL && branch_open(&conf, &vault.branch, &err) < 0)
        return fail(&err);
    keyring_cleanse(&vault.keys);
    return 0;
}

static void vaultnbd_unload(void)
{
    branch_close(vault.branch);
    view_close(vault.view);
    free(vault.machine);
    free(vault.branch_dir);
    free(vault.key_file);
}

/* ---- exports ---- */

static int vaultnbd_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    const struct mark *m = view_mark(vault.view);
    (void)readonly;
    (void)is_tls;
    for (uint32_t i = 0; i < m->disk_count; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "%u", m->disks[i].number);
        if (nbdkit_add_export(exports, name, m->disks[i].name) < 0)
            return -1;
    }
    return 0;
}

static const char *vaultnbd_default_export(int readonly, int is_tls)
{
    (void)readonly;
    (void)is_tls;
    const struct mark *m = view_mark(vault.view);
    return m->disk_count == 0 ? NULL : nbdkit_printf_intern("%u", m->disks[0].number);
}

static const struct mark_disk *disk_by_name(const char *name)
{
    const struct mark *m = view_mark(vault.view);
    char *end;
    if (name == NULL || name[0] == '\0')
        return m->disk_count == 0 ? NULL : &m->disks[0];
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (errno != 0 || *end != '\0' || end == name || number > RECORD_DISK_MAX)
        return NULL;
    return view_disk(vault.view, (uint32_t)number);
}

static void *vaultnbd_open(int readonly)
{
    (void)readonly;
    const struct mark_disk *d = disk_by_name(nbdkit_export_name());
    struct handle *h = mem_new(struct handle);
    if (d == NULL || h == NULL) {
        nbdkit_error("there is no disk '%s' at this point", nbdkit_export_name());
        free(h);
        return NULL;
    }
    h->disk = d->number;
    h->size_bytes = d->size_bytes;
    return h;
}

static void vaultnbd_close(void *handle)
{
    free(handle);
}

static int64_t vaultnbd_get_size(void *handle)
{
    const struct handle *h = handle;
    return (int64_t)h->size_bytes;
}

static int vaultnbd_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = 4096;
    *maximum = BLOCK_MAX;
    return 0;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int is_branch(void *handle)
{
    (void)handle;
    return vault.branch != NULL;
}

static int vaultnbd_can_fua(void *handle)
{
    (void)handle;
    return vault.branch != NULL ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

/* ---- data ---- */

static int vaultnbd_pread(void *handle, void *data, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct handle *h = handle;
    struct err err = ERR_INIT;
    (void)flags;
    int result = vault.branch != NULL ? branch_read(vault.branch, h->disk, offset, count, data, &err)
                                      : view_read(vault.view, h->disk, offset, count, data, &err);
    return result < 0 ? fail(&err) : 0;
}

static int finish(int result, uint32_t flags, struct err *err)
{
    if (result == 0 && (flags & NBDKIT_FLAG_FUA) != 0)
        result = branch_flush(vault.branch, err);
    return result < 0 ? fail(err) : 0;
}

static int vaultnbd_pwrite(void *handle, const void *data, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct handle *h = handle;
    struct err err = ERR_INIT;
    return finish(branch_write(vault.branch, h->disk, offset, count, data, &err), flags, &err);
}

static int vaultnbd_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct handle *h = handle;
    struct err err = ERR_INIT;
    return finish(branch_zero(vault.branch, h->disk, offset, count, &err), flags, &err);
}

static int vaultnbd_flush(void *handle, uint32_t flags)
{
    struct err err = ERR_INIT;
    (void)handle;
    (void)flags;
    return branch_flush(vault.branch, &err) < 0 ? fail(&err) : 0;
}

static int vaultnbd_extents(
    void *handle, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents *extents)
{
    const struct handle *h = handle;
    struct err err = ERR_INIT;
    uint64_t at = offset;
    uint64_t end = offset + count;
    for (int i = 0; at < end && i < EXTENTS_PER_REPLY; i++) {
        struct piece p;
        uint64_t key = extent_key(h->disk, at);
        uint64_t end_key = extent_key(h->disk, end + RECORD_SECTOR - 1);
        int result = vault.branch != NULL ? branch_piece(vault.branch, key, end_key, &p, &err)
                                          : view_piece(vault.view, key, end_key, &p, &err);
        if (result < 0)
            return fail(&err);
        uint64_t next = extent_key_bytes(key + p.sectors);
        next = next < h->size_bytes ? next : h->size_bytes;
        if (nbdkit_add_extent(
                extents, at, next - at, p.kind == PIECE_DATA ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) < 0)
            return -1;
        at = next;
        if ((flags & NBDKIT_FLAG_REQ_ONE) != 0 && p.kind != PIECE_DATA)
            break;
    }
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "leeward-vault",
    .longname = "Leeward recovery points and branches",
    .version = LEEWARD_VERSION,
    .config = vaultnbd_config,
    .config_complete = vaultnbd_config_complete,
    .config_help = "machine=DIR       the machine's folder in the vault (required)\n"
                   "sequence=N        the recovery point; 0 or left out: the latest\n"
                   "key-fd=N          descriptor to read the data keys from (64 hex digits, or lines of keyring.h)\n"
                   "key-file=PATH     file to read it from instead\n"
                   "branch=DIR        serve this branch of the point, read-write\n"
                   "nonce-stream=N    for a branch: a nonce stream that was never used\n"
                   "reserve=BYTES     for a branch: kept free on the vault's disk\n"
                   "cache=BYTES       of decoded blocks (default 64 MiB)",
    .get_ready = vaultnbd_get_ready,
    .unload = vaultnbd_unload,
    .list_exports = vaultnbd_list_exports,
    .default_export = vaultnbd_default_export,
    .open = vaultnbd_open,
    .close = vaultnbd_close,
    .get_size = vaultnbd_get_size,
    .block_size = vaultnbd_block_size,
    .can_write = is_branch,
    .can_flush = is_branch,
    .can_trim = is_branch,
    .can_zero = is_branch,
    .can_fast_zero = is_branch,
    .can_extents = yes,
    .can_multi_conn = yes,
    .can_fua = vaultnbd_can_fua,
    .pread = vaultnbd_pread,
    .pwrite = vaultnbd_pwrite,
    .flush = vaultnbd_flush,
    .trim = vaultnbd_zero,
    .zero = vaultnbd_zero,
    .extents = vaultnbd_extents,
};

/* The macro defines it without declaring it. */
struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
