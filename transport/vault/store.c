/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing a machine's store, the rules by which a stream is let in (replication.proto: generation, epoch), and
 * what is handed out with it. Whatever may never be given twice (nonce streams) or never be taken back (epochs, generations)
 * is durable in `meta` before it leaves.
 */
#include "transport/vault/store.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/promote.h"
#include "transport/vault/seed_private.h"
#include "transport/vault/store_private.h"
#include "transport/vault/view.h"

#define EPOCH_MAX (1ULL << 62)
#define EPOCH_LEAP_MAX (1ULL << 41)

static int open_subdir(const char *dir, const char *name, int *ret_fd, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/%s", dir, name);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a store");
    if (file_make_dirs(path, 0700, err) < 0)
        return -1;
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? err_sys(err, errno, "opening %s", path) : 0;
}

static int meta_create(struct store *s, const struct store_conf *conf, struct err *err)
{
    struct stat st;
    if (fstatat(s->main_fd, "0000000000000001.seg", &st, 0) == 0) {
        (void)err_set(err, ERR_CORRUPT, "the file meta in %s is missing, and the machine has a log", s->dir);
        return err_hint(err, "it holds the machine's wrapped data key: put it back from a copy");
    }
    s->meta = (struct store_meta){
        .machine = s->machine, .generation = 1, .created_utc_usec = clock_utc_usec(), .next_nonce_stream = 1};
    struct seal_key key;
    if (vaultkeys_random(&key, err) < 0)
        return -1;
    keyring_init(&s->keys, &key);
    OPENSSL_cleanse(&key, sizeof(key));
    if (vaultkeys_wrap(&conf->vault_key, &s->machine, keyring_newest(&s->keys), s->meta.wrapped_key, err) < 0)
        return -1;
    return storemeta_store(s->dir, &s->meta, err);
}

static int newest_key(const struct store *s, const struct store_conf *conf, struct seal_key *ret_key, struct err *err)
{
    if (conf->has_older_key && vaultkeys_unwrap(&conf->older_key, &s->machine, s->meta.wrapped_key, ret_key, NULL) == 0)
        return 0;
    return vaultkeys_unwrap(&conf->vault_key, &s->machine, s->meta.wrapped_key, ret_key, err);
}

static int older_keys(struct store *s, const struct seal_key *newest, struct err *err)
{
    struct err why = ERR_INIT;
    if (!s->meta.has_older_keys) {
        keyring_init(&s->keys, newest);
        return 0;
    }
    if (keyring_load(s->dir, &s->machine, newest, &s->keys, &why) == 0)
        return 0;
    if (why.code == ERR_NOT_FOUND) {
        (void)err_set(
            &why, ERR_CORRUPT, "the file keys in %s is missing, and the machine has had several data keys", s->dir);
        (void)err_hint(&why, "it holds the machine's older data keys: put it back from a copy");
    }
    err_copy(err, &why);
    return -1;
}

static int keys_open(struct store *s, const struct store_conf *conf, struct err *err)
{
    struct seal_key key;
    int result = newest_key(s, conf, &key, err);
    if (result == 0)
        result = older_keys(s, &key, err);
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

static int meta_open(struct store *s, const struct store_conf *conf, struct err *err)
{
    struct err why = ERR_INIT;
    if (storemeta_load(s->dir, &s->meta, &why) == 0) {
        if (!ident_equal(&s->meta.machine, &s->machine))
            return err_set(err, ERR_CORRUPT, "the folder %s is another machine's", s->dir);
        return keys_open(s, conf, err);
    }
    if (why.code == ERR_NOT_FOUND)
        return meta_create(s, conf, err);
    err_copy(err, &why);
    return -1;
}

static int store_init(struct store *s, const struct store_conf *conf, struct err *err)
{
    static _Atomic uint64_t instances;
    s->main_fd = s->runs_fd = -1;
    s->instance = atomic_fetch_add(&instances, 1) + 1;
    s->machine = conf->machine;
    s->reserve_bytes = conf->reserve_bytes;
    s->clock = conf->clock;
    s->flush_extents = conf->flush_extents == 0 ? STORE_FLUSH_EXTENTS : conf->flush_extents;
    s->segment_bytes = conf->segment_bytes == 0 ? SEGMENT_TARGET_BYTES : conf->segment_bytes;
    s->dir = mem_strdup(conf->dir);
    s->pending.digest = record_digest_new();
    s->work = seal_work_new();
    s->scratch = mem_alloc(1, RECORD_BLOCK_SIZE);
    manifest_init(&s->manifest, &s->machine);
    if (s->dir == NULL || s->pending.digest == NULL || s->work == NULL || s->scratch == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a store");
    return memtable_init(&s->memtable, err);
}

/* Frees all without touching the disk. */
static void store_release(struct store *s)
{
    segment_writer_close(s->writer);
    memtable_done(&s->memtable);
    manifest_done(&s->manifest);
    pointlist_done(&s->points);
    record_digest_free(s->pending.digest);
    free(s->pending.items);
    free(s->lost);
    seal_work_free(s->work);
    free(s->scratch);
    if (s->main_fd >= 0)
        (void)close(s->main_fd);
    if (s->runs_fd >= 0)
        (void)close(s->runs_fd);
    keyring_cleanse(&s->keys);
    free(s->dir);
    free(s);
}

/* An index that was made again knows the times of the sources, not those of the commits. */
static int lock_recount(struct store *s, struct err *err)
{
    if (s->lock.damaged)
        log_event(LOG_ERROR, "locks_damaged", LOG_S("dir", s->dir));
    if (!s->rebuilt || !storelock_recount(&s->lock, clock_utc_usec()))
        return 0;
    return storelock_store(s->dir, &s->machine, &s->lock, err);
}

int store_open(const struct store_conf *conf, struct store **ret_store, struct err *err)
{
    struct store *s = mem_new(struct store);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open a store");
    if (store_init(s, conf, err) < 0 || open_subdir(conf->dir, "main", &s->main_fd, err) < 0 ||
        open_subdir(conf->dir, "runs", &s->runs_fd, err) < 0 || meta_open(s, conf, err) < 0 ||
        promote_finish(conf->dir, &conf->machine, err) < 0 || storelock_load(s->dir, &s->machine, &s->lock, err) < 0 ||
        store_recover(s, err) < 0 || lock_recount(s, err) < 0) {
        store_release(s);
        return err_wrap(err, "opening the store of a machine");
    }
    *ret_store = s;
    return 0;
}

void store_close(struct store *s)
{
    struct err err = ERR_INIT;
    if (s == NULL)
        return;
    store_drop_open(s);
    if (!s->broken && store_flush(s, &err) < 0)
        log_event(LOG_WARN, "flush_failed", LOG_S("dir", s->dir), LOG_E(&err));
    store_release(s);
}

int store_set_generation(struct store *s, uint64_t generation, struct err *err)
{
    if (generation <= s->meta.generation)
        return 0;
    struct store_meta meta = s->meta;
    meta.generation = generation;
    if (storemeta_store(s->dir, &meta, err) < 0)
        return -1;
    s->meta = meta;
    s->stream_epoch = 0; /* whoever streams now does so for the old generation */
    store_drop_open(s);
    return 0;
}

int store_set_lock(struct store *s, uint64_t lock_usec, struct err *err)
{
    struct storelock next = s->lock;
    if (!storelock_apply(&next, lock_usec, s->committed.sequence + 1))
        return 0;
    if (storelock_store(s->dir, &s->machine, &next, err) < 0)
        return -1;
    s->lock = next;
    return 0;
}

uint64_t store_lock_now(const struct store *s)
{
    return s->clock == NULL ? clock_utc_usec() : retentionclock_now(s->clock);
}

bool store_point_is_locked(const struct store *s, const struct point *p, uint64_t now_utc_usec)
{
    return now_utc_usec < storelock_until(&s->lock, p);
}

uint64_t store_locked_until(const struct store *s)
{
    uint64_t latest = 0;
    for (size_t i = 0; i < s->points.count; i++) {
        uint64_t until = storelock_until(&s->lock, &s->points.items[i]);
        latest = until > latest ? until : latest;
    }
    return latest;
}

static int check_generation(const struct store *s, uint64_t generation, struct err *err)
{
    if (generation == s->meta.generation)
        return 0;
    if (generation > s->meta.generation) {
        (void)err_set(err, ERR_UNAVAILABLE, "generation %llu is not known here yet, the machine has generation %llu",
            (unsigned long long)generation, (unsigned long long)s->meta.generation);
        return err_hint(err, "it comes from the hub; try again");
    }
    (void)err_set(err, ERR_REFUSED, "generation %llu is over: the machine has generation %llu",
        (unsigned long long)generation, (unsigned long long)s->meta.generation);
    return err_hint(err, "the machine was failed over; it must not replicate as a source any more");
}

/* Epochs go up by one or, after a rebuild, by 2^32. Whoever leaps farther would leave none for those who come after. */
static int check_epoch(const struct store *s, uint64_t epoch, struct err *err)
{
    if (epoch > EPOCH_MAX || (epoch > s->meta.epoch && epoch - s->meta.epoch > EPOCH_LEAP_MAX)) {
        (void)err_set(err, ERR_REFUSED, "epoch %llu is too far from %llu, the highest that the vault has seen",
            (unsigned long long)epoch, (unsigned long long)s->meta.epoch);
        return err_hint(err, "the sender counts wrongly: start its agent anew");
    }
    if (epoch == 0 || epoch >= s->meta.epoch)
        return 0;
    return err_set(err, ERR_REFUSED, "epoch %llu is over: the vault has seen epoch %llu", (unsigned long long)epoch,
        (unsigned long long)s->meta.epoch);
}

/* Changes meta on disk, then in memory. */
static int meta_advance(struct store *s, uint64_t epoch, uint32_t *ret_stream, struct err *err)
{
    struct store_meta meta = s->meta;
    if (meta.next_nonce_stream == 0)
        return err_set(err, ERR_REFUSED, "all nonce streams of the machine's data key are used up");
    *ret_stream = meta.next_nonce_stream++;
    meta.epoch = epoch > meta.epoch ? epoch : meta.epoch;
    if (storemeta_store(s->dir, &meta, err) < 0)
        return -1;
    s->meta = meta;
    return 0;
}

int store_begin(struct store *s, uint64_t generation, uint64_t epoch, struct store_opened *ret_opened, struct err *err)
{
    struct store_opened opened = {0};
    if (s->broken)
        return err_set(err, ERR_IO, "the store failed before and must be opened again");
    if (check_generation(s, generation, err) < 0 || check_epoch(s, epoch, err) < 0)
        return -1;
    if (epoch != 0)
        store_drop_open(s);
    if (meta_advance(s, epoch, &opened.nonce_stream, err) < 0)
        return -1;
    if (epoch != 0)
        s->stream_epoch = epoch;
    opened.committed_sequence = s->committed.sequence;
    opened.expected_sequence = s->committed.sequence + 1;
    opened.epoch = s->meta.epoch;
    opened.generation = s->meta.generation;
    opened.has_point = s->points.count > 0 || seed_is_mark(&s->last_mark);
    opened.data_key = *keyring_key(&s->keys, opened.nonce_stream);
    opened.keys = s->keys;
    *ret_opened = opened;
    return 0;
}

int store_take_nonce_stream(struct store *s, uint32_t *ret_stream, struct err *err)
{
    return meta_advance(s, 0, ret_stream, err);
}

void store_get_meta(const struct store *s, struct store_meta *ret_meta)
{
    *ret_meta = s->meta;
}

int store_mend_meta(struct store *s, struct err *err)
{
    uint8_t right[STOREMETA_SIZE], there[STOREMETA_SIZE];
    struct store_meta found;
    struct err why = ERR_INIT;
    if (storemeta_load(s->dir, &found, &why) == 0) {
        storemeta_encode(&s->meta, right);
        storemeta_encode(&found, there);
        if (memcmp(right, there, sizeof(right)) == 0)
            return 0;
        (void)err_set(&why, ERR_CORRUPT, "the file meta in %s is an older one", s->dir);
    }
    log_event(LOG_ERROR, "meta_damaged", LOG_S("dir", s->dir), LOG_E(&why));
    return storemeta_store(s->dir, &s->meta, err) < 0 ? -1 : 1;
}

int store_rewrap(struct store *s, const struct vault_key *key, struct err *err)
{
    struct store_meta meta = s->meta;
    if (vaultkeys_wrap(key, &s->machine, keyring_newest(&s->keys), meta.wrapped_key, err) < 0 ||
        storemeta_store(s->dir, &meta, err) < 0)
        return -1;
    s->meta = meta;
    return 0;
}

static int use_new_key(struct store *s, const struct vault_key *vault_key, struct keyring *ring, struct err *err)
{
    struct store_meta meta = s->meta;
    meta.has_older_keys = true;
    if (vaultkeys_wrap(vault_key, &s->machine, keyring_newest(ring), meta.wrapped_key, err) < 0 ||
        keyring_store(s->dir, &s->machine, ring, err) < 0)
        return -1;
    crashpoint_pass("newkey_older_kept");
    if (storemeta_store(s->dir, &meta, err) < 0)
        return -1;
    crashpoint_pass("newkey_used");
    s->meta = meta;
    s->keys = *ring;
    return 0;
}

int store_new_data_key(struct store *s, const struct vault_key *vault_key, struct err *err)
{
    struct keyring ring = s->keys;
    struct seal_key key;
    if (s->meta.next_nonce_stream == 0)
        return err_set(err, ERR_REFUSED, "all nonce streams of the machine are used up");
    int result = vaultkeys_random(&key, err);
    if (result == 0)
        result = keyring_add(&ring, s->meta.next_nonce_stream, &key, err);
    if (result == 0)
        result = use_new_key(s, vault_key, &ring, err);
    OPENSSL_cleanse(&key, sizeof(key));
    keyring_cleanse(&ring);
    return result;
}

void store_keys(const struct store *s, struct keyring *ret_ring)
{
    *ret_ring = s->keys;
}

bool store_is_broken(const struct store *s)
{
    return s->broken;
}

bool store_lost_commits(const struct store *s)
{
    return s->lost_commits;
}

void store_position(const struct store *s, struct log_position *ret_position)
{
    *ret_position = s->committed;
}

uint64_t store_committed(const struct store *s)
{
    return s->committed.sequence;
}

uint64_t store_generation(const struct store *s)
{
    return s->meta.generation;
}

uint64_t store_epoch(const struct store *s)
{
    return s->meta.epoch;
}

const char *store_dir(const struct store *s)
{
    return s->dir;
}

const struct pointlist *store_points(const struct store *s)
{
    return &s->points;
}

void store_machine(const struct store *s, struct ident *ret_machine)
{
    *ret_machine = s->machine;
}

const struct mark *store_last_mark(const struct store *s)
{
    return s->last_mark.sequence == 0 ? NULL : &s->last_mark;
}

int store_point_mark(const struct store *s, const struct point *p, struct mark *ret_mark, struct err *err)
{
    return view_read_mark(s->dir, p, ret_mark, err);
}

int store_learn_group(struct store *s, size_t at, struct err *err)
{
    struct point *p = &s->points.items[at];
    struct err why = ERR_INIT;
    struct mark *mark AUTO_FREE = mem_new(struct mark);
    if (mark == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    int got = store_point_mark(s, p, mark, &why);
    if (got < 0 && why.code == ERR_NOMEM) {
        err_copy(err, &why);
        return -1;
    }
    if (got < 0)
        log_event(LOG_ERROR, "mark_damaged", LOG_S("dir", s->dir), LOG_U("sequence", p->sequence), LOG_E(&why));
    point_learn_group(p, got < 0 ? NULL : mark);
    return 0;
}
