/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes of a copy: after each, the newest point of the copy holds what the newest one of the other vault does, byte for byte, and all points before hold
 * what they held; also after a link that is cut at any call, a process that is killed at any step, logs that were cut or replaced on either side, disks
 * that shrink and grow, and damage. The other vault is a store beside it that answers the calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/base/mem.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/vault/copypass.h"
#include "transport/vault/extent.h"
#include "transport/vault/heal.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/vaultread_private.h"
#include "transport/vault/view.h"

#define BLOCK 65536u
#define WAIT_USEC (115 * USEC_PER_SEC) /* as vaultask does */
#define PIECE 4096u

static const struct ident source_vault = {{1, 2, 3}}, other_vault = {{9}};

/* ---- the other vault ---- */

static struct model *source;     /* whose store answers */
static int calls_left = INT_MAX; /* then the link is cut */
static unsigned calls, hash_calls;
static uint64_t all_traffic;             /* what calls were told to have taken */
static uint64_t sent_bytes, told_held;   /* told_held: the point that the copy says it stands on */
static bool spoil;                       /* a byte of what is sent is changed on the way */
static uint64_t unreadable = UINT64_MAX; /* the block that begins there is damaged in the other vault, too */
static enum err_code too_many_changes;   /* to be told in one answer, and how that ends; ERR_NONE: they are not */
static bool is_another_soon,
    is_another;            /* the log was cut and went on between two calls: its points have other contents */
static uint64_t line_rate; /* bytes per second, of a clock that goes on as they come; 0: in no time */
static uint64_t passed_usec;

uint64_t __real_clock_mono_usec(void);
uint64_t __wrap_clock_mono_usec(void);

uint64_t __wrap_clock_mono_usec(void)
{
    return __real_clock_mono_usec() + passed_usec;
}

static struct view *view_at(struct store *s, uint64_t sequence)
{
    struct err err = ERR_INIT;
    struct keyring keys;
    struct view *v = NULL;
    assert_int_equal(store_flush(s, &err), 0);
    store_keys(s, &keys);
    if (view_open(store_dir(s), sequence, &keys, 1, &v, &err) < 0)
        fail_msg("%s", err.text);
    return v;
}

/* What is damaged in the other vault, as its verification found it. */
static struct quarantine lost;
static struct damagehit lost_hit;
static struct mend_nonce lost_nonce;
static bool tells_damage;

typedef int (*take_fn)(void *arg, const ProtobufCMessage *m, struct err *err);

static int answer_point(const struct point *p, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__Point point = LEEWARD__VAULT__V1__POINT__INIT;
    Leeward__Vault__V1__Disk disks[MARK_DISKS_MAX], *list[MARK_DISKS_MAX];
    struct mark m;
    assert_int_equal(store_point_mark(source->store, p, &m, err), 0);
    for (uint32_t i = 0; i < m.disk_count; i++) {
        leeward__vault__v1__disk__init(&disks[i]);
        disks[i].number = m.disks[i].number;
        disks[i].size_bytes = m.disks[i].size_bytes;
        disks[i].sector_bytes = m.disks[i].sector_bytes;
        disks[i].name = m.disks[i].name;
        list[i] = &disks[i];
    }
    point.machine_id = (ProtobufCBinaryData){IDENT_SIZE, m.machine.bytes};
    point.sequence = m.sequence;
    point.time_utc_usec = m.time_utc_usec;
    point.kind = (char *)(uintptr_t)mark_kind_name(m.kind);
    point.tag = m.tag;
    if (!ident_is_zero(&m.group_point))
        point.group_point_id = (ProtobufCBinaryData){IDENT_SIZE, m.group_point.bytes};
    point.generation = m.generation;
    point.changed_bytes = m.changed_bytes + (is_another ? 512 : 0);
    for (size_t i = 0; tells_damage && i < lost.count; i++)
        point.damaged_records += heal_may_be_given(&lost.items[i]);
    point.n_disks = m.disk_count;
    point.disks = list;
    return take(arg, &point.base, err);
}

static int answer_points(const Leeward__Vault__V1__ListPointsRequest *q, take_fn take, void *arg, struct err *err)
{
    const struct pointlist *l = store_points(source->store);
    size_t at = pointlist_at(l, q->after_sequence + 1), given = 0;
    if (q->newest && at < l->count)
        at = l->count - 1;
    if (q->newest)
        told_held = q->held_sequence;
    tells_damage = q->newest;
    for (; at < l->count && (q->limit == 0 || given < q->limit); at++) {
        if (q->marked && l->items[at].kind <= MARK_CRASH && l->items[at].more == 0)
            continue;
        given++;
        if (answer_point(&l->items[at], take, arg, err) < 0)
            return -1;
    }
    return 0;
}

static int answer_changes(const Leeward__Vault__V1__ChangesRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__ChangeChunk chunk = LEEWARD__VAULT__V1__CHANGE_CHUNK__INIT;
    struct view *v AUTO_OF(view) = view_at(source->store, q->sequence);
    uint64_t size = view_disk(v, q->disk)->size_bytes, end = extent_key(q->disk, size);
    int result = 0;
    chunk.sequence = q->sequence;
    chunk.size_bytes = size;
    for (uint64_t key = extent_key(q->disk, 0); result == 0 && key < end;) {
        struct piece p;
        assert_int_equal(view_piece(v, key, end, &p, err), 0);
        uint64_t start = extent_key_bytes(key), length = p.sectors * RECORD_SECTOR;
        chunk.n_starts = chunk.n_lengths = 1;
        chunk.starts = &start;
        chunk.lengths = &length;
        if (p.kind != PIECE_HOLE && p.extent.sequence > q->after_sequence)
            result = take(arg, &chunk.base, err);
        key += p.sectors;
    }
    return result;
}

static int answer_hashes(const Leeward__Vault__V1__HashesRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__HashChunk chunk = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
    struct view *v AUTO_OF(view) = view_at(source->store, q->sequence);
    uint8_t data[BLOCK];
    hash_calls++;
    for (uint64_t at = q->start; at < q->start + q->length; at += BLOCK) {
        size_t n = q->start + q->length - at < BLOCK ? (size_t)(q->start + q->length - at) : BLOCK;
        struct hash128 hash;
        assert_int_equal(view_read(v, q->disk, at, n, data, err), 0);
        hash_128(data, n, &hash);
        chunk.start = at;
        chunk.block_bytes = BLOCK;
        chunk.hashes = (ProtobufCBinaryData){HASH_SIZE, hash.bytes};
        if (take(arg, &chunk.base, err) < 0)
            return -1;
    }
    return 0;
}

static int answer_piece(uint64_t start, uint8_t *data, size_t n, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__RangeChunk chunk = LEEWARD__VAULT__V1__RANGE_CHUNK__INIT;
    struct hash128 hash;
    chunk.start = start;
    hash_128(data, n, &hash);
    sent_bytes += n;
    if (bytes_are_zero(data, n)) {
        chunk.zero_length = n;
    } else {
        data[0] ^= spoil;
        chunk.data = (ProtobufCBinaryData){n, data};
        chunk.hash = (ProtobufCBinaryData){HASH_SIZE, hash.bytes};
    }
    return take(arg, &chunk.base, err);
}

static int answer_blocks(const Leeward__Vault__V1__BlocksRequest *q, take_fn take, void *arg, struct err *err)
{
    struct view *v AUTO_OF(view) = view_at(source->store, q->sequence);
    uint8_t data[BLOCK];
    for (size_t i = 0; i < q->n_have; i++) {
        const Leeward__Vault__V1__BlockHave *have = q->have[i];
        if (q->disk == 0 && have->start == unreadable)
            return err_set(err, ERR_CORRUPT, "it is damaged");
        assert_int_equal(view_read(v, q->disk, have->start, have->length, data, err), 0);
        for (size_t at = 0; at < have->length; at += PIECE) {
            size_t n = have->length - at < PIECE ? have->length - at : PIECE;
            struct hash128 hash;
            hash_128(data + at, n, &hash);
            if (memcmp(hash.bytes, have->hashes.data + at / PIECE * HASH_SIZE, HASH_SIZE) != 0 &&
                answer_piece(have->start + at, data + at, n, take, arg, err) < 0)
                return -1;
        }
    }
    return 0;
}

static int answer_damage(const Leeward__Vault__V1__DamageRequest *q, take_fn take, void *arg, struct err *err)
{
    const struct pointlist *points = store_points(source->store);
    unsigned told = 0;
    for (size_t i = 0; i < lost.count && told < q->limit; i++) {
        Leeward__Vault__V1__DamagedRecord r;
        struct quarantine_item *item = &lost.items[i];
        if (!heal_may_be_given(item) || item->segment < q->after_segment ||
            (item->segment == q->after_segment && item->offset <= q->after_offset))
            continue;
        vaultmend_describe(item, pointlist_find(points, item->first_point)->time_utc_usec,
            pointlist_find(points, item->last_point)->time_utc_usec, &r);
        told++;
        if (take(arg, &r.base, err) < 0)
            return -1;
    }
    return 0;
}

static int answer_mend(const Leeward__Vault__V1__MendRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__MendReply reply = LEEWARD__VAULT__V1__MEND_REPLY__INIT;
    for (size_t i = 0; i < q->n_records; i++) {
        const Leeward__Vault__V1__MendedRecord *r = q->records[i];
        struct quarantine_item *item = quarantine_find(&lost, r->segment, r->offset);
        assert_non_null(item);
        sent_bytes += r->data.len;
        r->data.data[0] ^= spoil;
        int healed = heal_with(&lost_hit, item, r->data.data, r->data.len, &lost_nonce, err);
        assert_true(healed >= 0);
        reply.mended += (uint32_t)healed;
    }
    return take(arg, &reply.base, err);
}

int __wrap_vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, take_fn take, void *arg, uint64_t *traffic, struct err *err);

int __wrap_vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, take_fn take, void *arg, uint64_t *traffic, struct err *err)
{
    const void *q = request;
    (void)v;
    (void)answer;
    *traffic += 1;
    all_traffic++;
    calls++;
    if (calls_left-- <= 0)
        return err_set(err, ERR_UNAVAILABLE, "the link is cut");
    const char *method = strrchr(path, '/') + 1;
    if (strcmp(method, "ListPoints") == 0)
        return answer_points(q, take, arg, err);
    if (strcmp(method, "Changes") == 0)
        return too_many_changes ? err_set(err, too_many_changes, "the vault's answer does not fit, or takes too long")
                                : answer_changes(q, take, arg, err);
    if (strcmp(method, "Hashes") == 0)
        return answer_hashes(q, take, arg, err);
    if (strcmp(method, "Damage") == 0)
        return answer_damage(q, take, arg, err);
    if (strcmp(method, "Mend") == 0) {
        *traffic += BLOCK * ((const Leeward__Vault__V1__MendRequest *)q)->n_records;
        return answer_mend(q, take, arg, err);
    }
    assert_string_equal(method, "Blocks");
    is_another = is_another_soon;
    uint64_t before = sent_bytes;
    int result = answer_blocks(q, take, arg, err);
    uint64_t took_usec = line_rate == 0 ? 0 : (sent_bytes - before) * USEC_PER_SEC / line_rate;
    *traffic += sent_bytes - before;
    all_traffic += sent_bytes - before;
    passed_usec += took_usec < WAIT_USEC ? took_usec : WAIT_USEC;
    return took_usec < WAIT_USEC ? result : err_set(err, ERR_TIMEOUT, "the vault did not answer");
}

/* ---- the copy ---- */

static struct copypace pace = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct copyflow flow;
static struct copy_counts unnoted; /* left by passes that failed, as the daemon keeps it */
static bool gives_way;             /* others wait for its place, all the time */
static unsigned parked, to_hurry;  /* to_hurry: so often others wait for a moment only */
static struct copy_damage damage[3];
static size_t damage_count;

struct kept {
    uint64_t sequence;
    uint64_t size[MODEL_DISKS];
    uint8_t *disks[MODEL_DISKS];
};

struct fixture {
    struct model m;
    char dir[200];
    struct store_conf conf;
    struct store *store;
    struct kept kept[64]; /* what the copy's points held when they were made */
    unsigned count;
};

static void copy_open(struct fixture *f)
{
    struct err err = ERR_INIT;
    if (store_open(&f->conf, &f->store, &err) < 0 || store_set_generation(f->store, 1, &err) < 0)
        fail_msg("%s", err.text);
}

static void copy_reopen(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    copy_open(f);
}

static struct fixture *fixture_new(uint64_t seed, uint64_t bytes_0)
{
    struct fixture *f = calloc(1, sizeof(*f));
    model_init_sized(&f->m, seed, bytes_0, 512u << 10);
    model_open(&f->m);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/copy", f->m.dir);
    f->conf = (struct store_conf){.dir = f->dir, .machine = f->m.conf.machine};
    memset(f->conf.vault_key.bytes, 5, sizeof(f->conf.vault_key.bytes));
    copy_open(f);
    source = &f->m;
    calls_left = INT_MAX;
    spoil = is_another_soon = is_another = false;
    too_many_changes = ERR_NONE;
    damage_count = 0;
    unreadable = UINT64_MAX;
    line_rate = 0;
    unnoted = (struct copy_counts){0};
    all_traffic = 0;
    gives_way = false;
    parked = to_hurry = 0;
    return f;
}

static void forget_kept(struct fixture *f)
{
    for (unsigned i = 0; i < f->count; i++)
        for (unsigned d = 0; d < MODEL_DISKS; d++)
            free(f->kept[i].disks[d]);
    f->count = 0;
}

static void fixture_free(struct fixture *f)
{
    forget_kept(f);
    store_close(f->store);
    model_done(&f->m);
    free(f);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new(42, (1u << 20) + 1536);
    model_fill(&f->m, 3, 25);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static int give_way(struct fixture *f, struct copypass *p, struct err *err)
{
    if (to_hurry > 0) {
        to_hurry--;
        copypass_hurry(p);
    }
    if (!gives_way)
        return 1;
    if (!copypass_park(p)) {
        copypass_hurry(p);
        return 1;
    }
    parked++;
    return copypass_return(p, f->store, err) < 0 ? -1 : 1;
}

/* 1: a point was made; 0: there was nothing new; -1. */
static int try_pass_from(struct fixture *f, const struct ident *vault, struct copy_held *ret_held, struct err *err)
{
    struct copypass_spec spec = {.damage = damage,
        .damage_count = damage_count,
        .machine = f->m.conf.machine,
        .source = *vault,
        .pace = &pace,
        .flow = &flow};
    struct copypass *p AUTO_OF(copypass) = NULL;
    copy_held_load(f->store, vault, &spec.held);
    if (ret_held != NULL)
        *ret_held = spec.held;
    assert_int_equal(copy_held_count(f->store, &spec.held, &unnoted, err), 0);
    spec.unnoted = unnoted;
    assert_int_equal(copypass_new(&spec, &p, err), 0);
    int more = copypass_look(p, err), result = more;
    if (more > 0 && copypass_begin(p, f->store, err) < 0)
        more = -1;
    while (more > 0) {
        int due = copypass_gather(p, err);
        if (due == 0)
            passed_usec += copypass_rests_until(p) - clock_mono_usec();
        more = due < 0 ? -1 : due == 0 ? 1 : copypass_append(p, f->store, err);
        if (more > 0)
            more = give_way(f, p, err);
    }
    unnoted = copypass_unnoted(p);
    return more < 0 ? -1 : result;
}

static uint8_t *read_disk(const struct view *v, uint32_t disk, uint64_t *ret_size)
{
    struct err err = ERR_INIT;
    const struct mark_disk *d = view_disk(v, disk);
    uint8_t *out = calloc(1, d == NULL ? 1 : d->size_bytes);
    *ret_size = d == NULL ? 0 : d->size_bytes;
    if (view_read(v, disk, 0, *ret_size, out, &err) < 0)
        fail_msg("%s", err.text);
    return out;
}

/* The newest point is the source's; it is kept to be looked at later. */
static void check_newest(struct fixture *f)
{
    struct view *theirs AUTO_OF(view) = view_at(f->m.store, 0);
    struct view *ours AUTO_OF(view) = view_at(f->store, 0);
    struct kept *k = &f->kept[f->count++];
    const struct mark *a = view_mark(theirs), *b = view_mark(ours);
    assert_true(a->kind == b->kind && a->time_utc_usec == b->time_utc_usec && a->disk_count == b->disk_count);
    assert_string_equal(a->tag, b->tag);
    k->sequence = b->sequence;
    for (uint32_t d = 0; d < MODEL_DISKS; d++) {
        uint64_t size;
        uint8_t *disk = read_disk(theirs, d, &size);
        k->disks[d] = read_disk(ours, d, &k->size[d]);
        assert_int_equal(size, k->size[d]);
        assert_memory_equal(disk, k->disks[d], size);
        free(disk);
    }
}

static void check_kept(struct fixture *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        struct view *v AUTO_OF(view) = view_at(f->store, f->kept[i].sequence);
        for (uint32_t d = 0; d < MODEL_DISKS; d++) {
            uint64_t size;
            uint8_t *disk = read_disk(v, d, &size);
            assert_int_equal(size, f->kept[i].size[d]);
            assert_memory_equal(disk, f->kept[i].disks[d], size);
            free(disk);
        }
    }
}

/* The point of the source that the copy's newest one is. */
static uint64_t copied_of(struct fixture *f)
{
    struct copy_held h;
    copy_held_load(f->store, &source_vault, &h);
    assert_true(h.known);
    return h.source_sequence;
}

static struct copy_held pass(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct copy_held held;
    calls_left = INT_MAX;
    calls = hash_calls = 0;
    sent_bytes = 0;
    if (try_pass_from(f, &source_vault, &held, &err) != 1)
        fail_msg("%s", err.text);
    check_newest(f);
    return held;
}

/* Content of several change sets, so that some steps are in the middle of a pass. */
static void fill_whole(struct model *m)
{
    uint8_t *block = malloc(BLOCK);
    for (uint64_t at = 0; at + BLOCK <= m->disk_bytes[0]; at += BLOCK) {
        memset(block, 0, BLOCK);
        for (unsigned i = 0; i < BLOCK; i += 512)
            memcpy(block + i, &(uint64_t){model_random(m, UINT64_MAX)}, 8);
        model_put(m, 0, at, BLOCK, block);
    }
    model_commit(m, MARK_CRASH);
    free(block);
}

/* ---- the tests ---- */

static void each_pass_takes_what_has_changed_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_false(pass(f).known);
    assert_true(hash_calls > 0);
    assert_int_equal(store_points(f->store)->count, 1);
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 0); /* nothing new */
    for (int i = 0; i < 6; i++) {
        uint64_t before = f->m.point_count;
        model_fill(&f->m, 1 + (unsigned)i % 3, 4);
        assert_true(pass(f).known);
        assert_int_equal(hash_calls, 0);
        assert_true(f->m.point_count > before);
        assert_int_equal(store_points(f->store)->count, 2 + i); /* points between are left out */
    }
    uint8_t block[PIECE];
    memset(block, 0x5a, sizeof(block));
    model_put(&f->m, 0, 8 * PIECE, PIECE, block);
    model_commit(&f->m, MARK_APPLICATION);
    pass(f);
    assert_int_equal(sent_bytes, PIECE);
    copy_reopen(f);
    check_kept(f);
    store_discard_index(f->store);
    copy_reopen(f);
    check_kept(f);
    model_put(&f->m, 0, 9 * PIECE, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    assert_true(pass(f).known);
    assert_int_equal(sent_bytes, PIECE);
}

static void a_link_that_is_cut_at_any_call_costs_the_pass_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    pass(f);
    for (int cut = 0;; cut++) {
        struct err err = ERR_INIT;
        size_t points = store_points(f->store)->count;
        model_fill(&f->m, 1, 12);
        if (cut % 2 != 0) { /* and of one that begins with nothing */
            char path[260];
            (void)snprintf(path, sizeof(path), "%s/copied", f->dir);
            assert_int_equal(unlink(path), 0);
        }
        calls_left = cut;
        if (try_pass_from(f, &source_vault, NULL, &err) == 1) {
            check_newest(f);
            break;
        }
        assert_int_equal(err.code, ERR_UNAVAILABLE);
        assert_int_equal(store_points(f->store)->count, points);
        pass(f);
    }
    check_kept(f);
}

static void what_comes_damaged_is_not_taken(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    pass(f);
    model_fill(&f->m, 1, 12);
    spoil = true;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(store_points(f->store)->count, 1);
    spoil = false;
    pass(f);
    check_kept(f);
}

static void where_the_log_became_another_one_on_the_way_no_point_is_made(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    pass(f);
    model_fill(&f->m, 1, 12);
    is_another_soon = true;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_points(f->store)->count, 1);
    is_another_soon = is_another = false;
    pass(f);
    check_kept(f);
}

static void without_its_note_or_from_another_vault_all_is_compared(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[260];
    pass(f);
    model_fill(&f->m, 1, 2);
    (void)snprintf(path, sizeof(path), "%s/copied", f->dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, 30, SEEK_SET), 0);
    (void)fputc(0xee, file);
    assert_int_equal(fclose(file), 0);
    assert_false(pass(f).known);
    assert_true(hash_calls > 0 && sent_bytes < 400 << 10);
    struct copy_held held;
    hash_calls = 0;
    assert_int_equal(try_pass_from(f, &other_vault, &held, &err), 1);
    assert_true(!held.known && hash_calls > 0);
    check_newest(f);
    check_kept(f);
}

/* The other vault's log was cut, and what came then has the same numbers. */
static void another_history_with_the_same_numbers_is_seen(void **state)
{
    struct fixture *f = *state;
    pass(f);
    struct fixture *g = fixture_new(4711, (1u << 20) + 1536);
    model_fill(&g->m, 3, 25);
    assert_int_equal(store_committed(g->m.store), store_committed(f->m.store));
    struct model mine = f->m;
    f->m = g->m;
    source = &f->m;
    pass(f);
    assert_true(hash_calls > 0);
    model_fill(&f->m, 1, 5);
    pass(f);
    assert_int_equal(hash_calls, 0);
    check_kept(f);
    g->m = f->m;
    f->m = mine;
    fixture_free(g);
    source = &f->m;
}

static void append(struct fixture *f, uint64_t epoch, enum mark_kind kind)
{
    struct model *m = &f->m; /* as a stream of the machine's own would */
    struct store_opened opened;
    struct err err = ERR_INIT;
    uint64_t committed;
    assert_int_equal(store_begin(f->store, 1, epoch, &opened, &err), 0);
    struct mark *mark = calloc(1, sizeof(*mark));
    *mark = *store_last_mark(f->store);
    mark->kind = kind;
    mark->flags = 0;
    mark->tag[0] = '\0';
    mark->sequence = store_committed(f->store) + 1;
    mark->epoch = epoch;
    model_batch_reset(m);
    struct record r;
    assert_int_equal(seal_append_zero(0, 0, 128u << 10, &m->batch, &r, &err), 0);
    record_digest_add(m->digest, &r);
    mark->record_count = 1;
    mark->changed_bytes = r.length;
    record_digest_get(m->digest, &mark->digest);
    assert_int_equal(mark_append(mark, &m->batch, &err), 0);
    assert_int_equal(store_append(f->store, m->batch.data, m->batch.len, &committed, &err), 0);
    model_batch_reset(m);
    free(mark);
}

/* Whatever was written to the copy's log by somebody else is found out. */
static void a_log_that_ends_with_something_else_is_seen(void **state)
{
    struct fixture *f = *state;
    static const enum mark_kind kinds[] = {MARK_PROGRESS, MARK_CRASH};
    for (unsigned i = 0; i < 2; i++) {
        pass(f);
        append(f, store_epoch(f->store) + 1, kinds[i]);
        model_fill(&f->m, 1, 1);
        assert_false(pass(f).known);
        model_fill(&f->m, 1, 1);
    }
    assert_true(pass(f).known);
    check_kept(f);
}

static void disks_shrink_and_grow(void **state)
{
    struct fixture *f = *state;
    uint64_t whole = f->m.disk_bytes[1];
    uint8_t block[PIECE];
    memset(block, 0x31, sizeof(block));
    model_put(&f->m, 1, whole - PIECE, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    pass(f);
    f->m.disk_bytes[1] = whole / 2 + 512; /* what lies behind changes there, unseen by points */
    memset(block, 0x32, sizeof(block));
    model_put(&f->m, 0, 0, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    pass(f);
    f->m.disk_bytes[1] = whole; /* and what is there again is compared */
    model_put(&f->m, 1, whole - 2 * PIECE, PIECE, block);
    model_zero(&f->m, 1, whole - 4 * PIECE, PIECE);
    model_commit(&f->m, MARK_CRASH);
    pass(f);
    assert_true(hash_calls > 0);
    check_kept(f);
}

/* A pass over a disk that has grown is cut off after it made something durable; the next one still knows how large the disk was at the point before. */
static void a_disk_that_grows_is_compared_again_after_a_pass_was_cut(void **state)
{
    struct err err = ERR_INIT;
    uint64_t whole = 40u << 20;
    (void)state;
    struct fixture *f = fixture_new(6, whole);
    fill_whole(&f->m); /* stays in the log behind the end */
    f->m.disk_bytes[0] = BLOCK;
    uint8_t block[PIECE] = {1};
    model_put(&f->m, 0, 0, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    pass(f);
    f->m.disk_bytes[0] = whole;
    model_put(&f->m, 1, 0, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    uint64_t before = store_committed(f->store);
    for (int n = 5; store_committed(f->store) == before; n++) {
        calls_left = n;
        assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    }
    assert_int_equal(store_points(f->store)->count, 1);
    pass(f);
    check_kept(f);
    fixture_free(f);
}

/* Until something of the pass is durable that is no point. */
static void pass_in_part(struct fixture *f)
{
    uint64_t before = store_committed(f->store);
    size_t points = store_points(f->store)->count;
    for (int n = 4; store_committed(f->store) == before; n++) {
        struct err err = ERR_INIT;
        calls_left = n;
        assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    }
    assert_int_equal(store_points(f->store)->count, points);
    calls_left = INT_MAX;
}

static struct copy_counts noted(struct fixture *f)
{
    struct copy_held h;
    copy_held_load(f->store, &source_vault, &h);
    return h.counts;
}

/* A line that breaks off again and again: whatever it took is counted, whether it was of use or not. */
static void what_passes_that_failed_have_taken_is_counted(void **state)
{
    struct err err = ERR_INIT;
    uint64_t content, sent = 0;
    (void)state;
    struct fixture *f = fixture_new(14, 40u << 20);
    fill_whole(&f->m);
    for (int cut = 5; cut < 8; cut++) {
        sent_bytes = 0;
        calls_left = cut;
        assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
        sent += sent_bytes;
    }
    content = sent;
    assert_true(content > 8u << 20);
    calls_left = 0; /* there is nothing of it that is worth a write */
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    assert_int_equal(noted(f).taken_bytes, content);
    assert_int_equal(noted(f).traffic_bytes + unnoted.traffic_bytes, all_traffic);
    assert_true(unnoted.traffic_bytes > 0 && unnoted.traffic_bytes < 65536);
    pass(f);
    content += sent_bytes;
    assert_int_equal(noted(f).taken_bytes, content);
    assert_int_equal(noted(f).traffic_bytes, all_traffic);
    copy_reopen(f);
    model_fill(&f->m, 1, 5);
    assert_true(pass(f).known); /* the note still is of the point */
    assert_int_equal(noted(f).traffic_bytes, all_traffic);
    fixture_free(f);
}

/* On a slow line the counts are in the file while the pass goes on; what is killed loses the last seconds of them alone. */
static void what_came_is_counted_while_a_pass_goes_on(void **state)
{
    struct err err = ERR_INIT;
    (void)state;
    struct fixture *f = fixture_new(15, 40u << 20);
    fill_whole(&f->m);
    line_rate = 1u << 20;
    calls_left = 7;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), -1);
    assert_true(store_committed(f->store) > 0);
    unnoted = (struct copy_counts){0}; /* it was killed */
    assert_true(noted(f).taken_bytes > 1u << 20);
    assert_true(noted(f).traffic_bytes >= noted(f).taken_bytes);
    fixture_free(f);
}

/* The other vault loses its newest points, of which one had come in part; what it has behind the last that is whole here is another history. */
static void what_came_of_a_point_that_is_lost_there_is_taken_back(void **state)
{
    char before[200];
    uint8_t block[PIECE] = {7};
    (void)state;
    struct fixture *f = fixture_new(8, 40u << 20);
    model_fill(&f->m, 1, 20);
    pass(f);
    (void)snprintf(before, sizeof(before), "%s/before", f->m.dir);
    model_close(&f->m);
    model_copy_tree(f->m.machine_dir, before);
    model_open(&f->m);
    fill_whole(&f->m);
    pass_in_part(f);
    model_close(&f->m);
    char *command = mem_printf("rm -r %s && mv %s %s", f->m.machine_dir, before, f->m.machine_dir);
    assert_int_equal(system(command), 0);
    free(command);
    model_open(&f->m);
    model_put(&f->m, 0, 0, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    assert_true(pass(f).known);
    assert_int_equal(hash_calls, 0);
    check_kept(f);
    fixture_free(f);
}

/* The next pass comes to the source's point of that sequence. */
static void pass_to(struct fixture *f, uint64_t sequence)
{
    struct err err = ERR_INIT;
    uint64_t stands_on = f->count == 0 ? 0 : copied_of(f);
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 1);
    assert_int_equal(told_held, stands_on);
    struct view *theirs AUTO_OF(view) = view_at(f->m.store, sequence);
    struct view *ours AUTO_OF(view) = view_at(f->store, 0);
    const struct mark *a = view_mark(theirs), *b = view_mark(ours);
    assert_int_equal(copied_of(f), sequence);
    assert_true(
        a->kind == b->kind && a->time_utc_usec == b->time_utc_usec && ident_equal(&a->group_point, &b->group_point));
    assert_string_equal(a->tag, b->tag);
    for (uint32_t d = 0; d < MODEL_DISKS; d++) {
        uint64_t size;
        uint8_t *left = read_disk(theirs, d, &size), *right = read_disk(ours, d, &size);
        assert_memory_equal(left, right, size);
        free(left);
        free(right);
    }
}

static uint64_t made(struct fixture *f, enum mark_kind kind)
{
    model_random_write(&f->m);
    model_commit(&f->m, kind);
    return store_committed(f->m.store);
}

/* Those with a tag in any case; of the others that a schedule makes the last of each minute and class; of those that the clock makes the newest. */
static void what_somebody_asked_for_is_not_left_out(void **state)
{
    struct fixture *f = *state;
    const uint64_t minute = 60 * USEC_PER_SEC;
    pass(f);
    f->m.began_utc_usec = 30000000 * minute - store_committed(f->m.store) * USEC_PER_SEC; /* all of the same minute */
    (void)made(f, MARK_CRASH);
    (void)made(f, MARK_APPLICATION);
    f->m.tag = "before the upgrade";
    uint64_t tagged = made(f, MARK_CRASH), twice = made(f, MARK_CRASH);
    f->m.tag = NULL;
    uint64_t files = made(f, MARK_FILESYSTEM), application = made(f, MARK_APPLICATION);
    f->m.group = (struct ident){{1}};
    (void)made(f, MARK_CRASH);
    f->m.group = (struct ident){{2}};
    uint64_t group = made(f, MARK_CRASH);
    f->m.group = (struct ident){{0}};
    uint64_t newest = made(f, MARK_CRASH);
    const uint64_t expected[] = {tagged, twice, files, application, group, newest};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        pass_to(f, expected[i]);
    struct err err = ERR_INIT;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 0);
    application = made(f, MARK_APPLICATION);
    f->m.began_utc_usec += minute;
    newest = made(f, MARK_APPLICATION);
    pass_to(f, application);
    pass_to(f, newest);
    check_kept(f);
}

/* Killed between a point and its note: the next pass knows of the point before, and nothing of what the log has since. */
static void what_somebody_asked_for_is_not_left_out_where_all_is_compared(void **state)
{
    struct fixture *f = *state;
    char path[260], note[4096];
    struct err err = ERR_INIT;
    pass(f);
    (void)snprintf(path, sizeof(path), "%s/copied", f->dir);
    FILE *file = fopen(path, "r");
    size_t n = fread(note, 1, sizeof(note), file);
    (void)fclose(file);
    f->m.tag = "before the upgrade";
    uint64_t first = made(f, MARK_CRASH);
    pass_to(f, first);
    file = fopen(path, "w");
    assert_int_equal(fwrite(note, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    f->m.tag = "after it";
    uint64_t second = made(f, MARK_CRASH);
    f->m.tag = NULL;
    uint64_t newest = made(f, MARK_CRASH);
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 1);
    assert_true(hash_calls > 0);
    assert_int_equal(copied_of(f), first); /* rather twice than never */
    pass_to(f, second);
    pass_to(f, newest);
}

static void where_too_much_has_changed_to_be_told_all_is_compared(void **state)
{
    struct fixture *f = *state;
    static const enum err_code ends[] = {ERR_TOO_LARGE, ERR_TIMEOUT};
    pass(f);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        model_fill(&f->m, 1, 4);
        too_many_changes = ends[i];
        hash_calls = 0;
        assert_true(pass(f).known);
        assert_true(hash_calls > 0);
    }
    check_kept(f);
}

/* A call that is as large as a wide line wants it would be given up on this one, again and again. */
static void a_line_of_twenty_kilobytes_per_second_brings_a_point(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(9, 8u << 20);
    fill_whole(&f->m);
    line_rate = 20000;
    uint64_t began = clock_mono_usec();
    pass(f);
    assert_true(clock_mono_usec() - began >= (uint64_t)(8u << 20) * USEC_PER_SEC / line_rate);
    fixture_free(f);
}

static void a_bound_is_kept_over_passes(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        struct fixture *f = fixture_new(10, 24u << 20);
        copypace_set(&pace, own ? 0 : 1u << 20, own ? 1u << 20 : 0);
        for (int i = 0; i < 2; i++) {
            fill_whole(&f->m);
            uint64_t began = clock_mono_usec();
            pass(f);
            uint64_t took = clock_mono_usec() - began;
            assert_true(took > 23 * USEC_PER_SEC && took < 40 * USEC_PER_SEC);
        }
        copypace_set(&pace, 0, 0);
        fixture_free(f);
    }
}

/* It lets go of what it holds between two calls, and yet asks for nothing twice. */
static void a_pass_that_gives_way_goes_on_from_where_it_was(void **state)
{
    uint8_t block[PIECE] = {3};
    (void)state;
    struct fixture *f = fixture_new(11, 24u << 20);
    fill_whole(&f->m);
    gives_way = true;
    copypace_set(&pace, 1u << 20, 0);
    pass(f);
    assert_true(parked > 20);
    assert_int_equal(sent_bytes, 24u << 20);
    assert_int_equal(hash_calls, 2); /* one for each disk */
    parked = 0;
    model_put(&f->m, 0, 0, PIECE, block); /* the first of each two MiB, so that there are several calls */
    for (uint64_t at = 0; at < 24u << 20; at += 2u << 20)
        model_put(&f->m, 0, at, PIECE, block);
    model_put(&f->m, 1, 0, PIECE, block);
    model_commit(&f->m, MARK_CRASH);
    copypace_set(&pace, 16u << 10, 0); /* a quarter of a second for each piece: a busy machine must not need that itself */
    pass(f);
    assert_true(parked > 0);
    assert_int_equal(sent_bytes, 13 * PIECE);
    assert_int_equal(hash_calls, 0);
    copypace_set(&pace, 0, 0);
    check_kept(f);
    fixture_free(f);
}

/* Nobody waits for its place any more when it could give it up: its change sets are large again. */
static void a_pass_hurries_no_longer_than_it_must(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(18, 24u << 20);
    fill_whole(&f->m);
    to_hurry = 1;
    copypace_set(&pace, 1u << 20, 0);
    uint64_t before = store_committed(f->store);
    pass(f);
    copypace_set(&pace, 0, 0);
    assert_true(store_committed(f->store) - before < 12); /* one for each five seconds, about */
    fixture_free(f);
}

/* The payload of a record of the copy; what is damaged comes anew with the next comparison of all. */
static void damage_here_is_healed_by_a_comparison_of_all(void **state)
{
    struct fixture *f = *state;
    char path[300];
    uint8_t *block = malloc(BLOCK);
    for (unsigned i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)model_random(&f->m, 256);
    model_put(&f->m, 0, 0, BLOCK, block);
    model_commit(&f->m, MARK_CRASH);
    free(block);
    pass(f);
    store_close(f->store);
    f->store = NULL;
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", f->dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, 5000, SEEK_SET), 0);
    int was = fgetc(file);
    assert_int_equal(fseek(file, 5000, SEEK_SET), 0);
    (void)fputc(was ^ 1, file);
    assert_int_equal(fclose(file), 0);
    copy_open(f);
    forget_kept(f); /* the point of before is damaged, too */
    (void)snprintf(path, sizeof(path), "%s/copied", f->dir);
    assert_int_equal(unlink(path), 0);
    model_fill(&f->m, 1, 1);
    pass(f);
}

/* A bit of the content that the copy holds of that place. */
static void flip(struct fixture *f, uint64_t start)
{
    char path[300];
    struct err err = ERR_INIT;
    struct view *v = view_at(f->store, 0);
    struct piece piece;
    assert_int_equal(view_piece(v, extent_key(0, start), extent_key(0, start + PIECE), &piece, &err), 0);
    assert_int_equal(piece.extent.segment, 1);
    long at = (long)piece.extent.offset + RECORD_HEADER_SIZE + 10;
    view_close(v);
    store_close(f->store);
    f->store = NULL;
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", f->dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int was = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    (void)fputc(was ^ 1, file);
    assert_int_equal(fclose(file), 0);
    copy_open(f);
}

/* Also where there is no newer point; and what the other vault cannot read either costs nothing but itself. */
static void damage_that_is_known_comes_from_the_other_vault(void **state)
{
    struct err err = ERR_INIT;
    uint8_t *right = NULL, block[BLOCK];
    uint64_t size;
    (void)state;
    struct fixture *f = fixture_new(12, 8u << 20);
    fill_whole(&f->m);
    pass(f);
    flip(f, PIECE);
    flip(f, 3 * BLOCK);
    struct view *theirs AUTO_OF(view) = view_at(f->m.store, 0);
    right = read_disk(theirs, 0, &size);
    damage[0] = (struct copy_damage){.disk = 0, .start = 0, .length = BLOCK};
    damage[1] = (struct copy_damage){.disk = 0, .start = 3 * BLOCK, .length = BLOCK};
    damage[2] = (struct copy_damage){.disk = 0, .start = 5 * BLOCK, .length = BLOCK}; /* is right after all */
    damage_count = 3;
    unreadable = 3 * BLOCK;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 1);
    assert_int_equal(store_points(f->store)->count, 1);
    assert_int_equal(sent_bytes, (8u << 20) + BLOCK);
    struct keyring keys;
    struct view *ours AUTO_OF(view) = NULL;
    store_keys(f->store, &keys);
    assert_int_equal(store_flush(f->store, &err), 0);
    assert_int_equal(view_open_mark(f->dir, store_last_mark(f->store), &keys, 1, &ours, &err), 0);
    assert_int_equal(view_read(ours, 0, 0, BLOCK, block, &err), 0);
    assert_memory_equal(block, right, BLOCK);
    assert_int_equal(view_read(ours, 0, 3 * BLOCK, BLOCK, block, NULL), -1);
    free(right);
    damage_count = 0;
    unreadable = UINT64_MAX;
    assert_int_equal(try_pass_from(f, &source_vault, NULL, &err), 0); /* it stands where it stood */
    forget_kept(f);
    memset(block, 0x77, sizeof(block));
    model_put(&f->m, 0, 3 * BLOCK, BLOCK, block);
    model_commit(&f->m, MARK_CRASH);
    assert_true(pass(f).known);
    assert_int_equal(hash_calls, 0);
    fixture_free(f);
}

/* ---- the other way round ---- */

/* A bit of the content that a point of the other vault holds of that place. */
static void flip_there(struct fixture *f, uint64_t sequence, uint64_t start)
{
    struct err err = ERR_INIT;
    struct piece piece;
    struct view *v AUTO_OF(view) = view_at(f->m.store, sequence);
    assert_int_equal(view_piece(v, extent_key(0, start), extent_key(0, start + PIECE), &piece, &err), 0);
    char *path = mem_printf("%s/main/%016x.seg", f->m.machine_dir, piece.extent.segment);
    long at = (long)piece.extent.offset + RECORD_HEADER_SIZE + 10;
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int was = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    (void)fputc(was ^ 1, file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

static void verify_there(struct fixture *f)
{
    struct verify_spec spec = {
        .machine_dir = f->m.machine_dir, .machine = f->m.conf.machine, .until_sequence = store_committed(f->m.store)};
    struct verify_result found;
    struct err err = ERR_INIT;
    size_t added;
    store_keys(f->m.store, &spec.keys);
    assert_int_equal(verify_run(&spec, &found, &err), 0);
    lost_hit = (struct damagehit){.machine_dir = f->m.machine_dir,
        .machine = f->m.conf.machine,
        .keys = spec.keys,
        .points = *store_points(f->m.store),
        .newest = store_committed(f->m.store)};
    assert_int_equal(store_take_nonce_stream(f->m.store, &lost_nonce.stream, &err), 0);
    for (size_t i = 0; i < found.listed; i++)
        assert_int_equal(damagehit_items(&lost_hit, &found.damages[i], 1, &lost, &added, &err), 0);
    for (size_t i = 0; i < lost.count; i++)
        assert_int_equal(damagehit_points(&lost_hit, &lost.items[i], &err), 0);
    verify_result_done(&found);
}

/* Sends what the copy has of it; how many records were taken. */
static uint64_t offer(struct fixture *f)
{
    struct copypass_spec spec = {.machine = f->m.conf.machine, .source = source_vault, .pace = &pace, .flow = &flow};
    struct copypass *p AUTO_OF(copypass) = NULL;
    struct err err = ERR_INIT;
    int more = 1;
    copy_held_load(f->store, &source_vault, &spec.held);
    assert_int_equal(copypass_new(&spec, &p, &err), 0);
    assert_true(copypass_look(p, &err) >= 0);
    if (copypass_lacks_there(p) == 0)
        return 0;
    assert_int_equal(copypass_offer_begin(p, f->store, &err), 0);
    while (more > 0) {
        more = copypass_offer(p, &err);
        if (more > 0 && copypass_rests_until(p) > clock_mono_usec())
            passed_usec += copypass_rests_until(p) - clock_mono_usec();
    }
    assert_int_equal(more, 0);
    return copypass_mended(p);
}

static bool reads_as(struct fixture *f, uint64_t sequence, uint64_t start, const uint8_t *expected)
{
    struct view *v AUTO_OF(view) = view_at(f->m.store, sequence);
    uint8_t block[BLOCK];
    return view_read(v, 0, start, BLOCK, block, NULL) == 0 && memcmp(block, expected, BLOCK) == 0;
}

/* Also of content that has been overwritten since, and not what the copy has not; and what comes changed on the way is not taken. */
static void what_the_other_vault_has_lost_it_gets_back(void **state)
{
    uint8_t *before = malloc(4u << 20), block[BLOCK];
    (void)state;
    struct fixture *f = fixture_new(16, 4u << 20);
    fill_whole(&f->m);
    uint64_t first = store_committed(f->m.store);
    memcpy(before, f->m.disks[0], 4u << 20);
    pass(f);
    for (uint64_t i = 0; i < 40; i++)
        model_write(&f->m, 0, i * BLOCK, BLOCK, false);
    model_commit(&f->m, MARK_CRASH); /* a point that the copy does not take over */
    uint64_t between = store_committed(f->m.store);
    memcpy(block, f->m.disks[0], BLOCK);
    model_write(&f->m, 0, 0, BLOCK, false);
    model_commit(&f->m, MARK_CRASH);
    pass(f);
    assert_int_equal(offer(f), 0); /* nothing is lost */
    for (uint64_t i = 0; i < 40; i++)
        flip_there(f, first, i * BLOCK);
    flip_there(f, between, 0); /* nobody has it any more */
    flip_there(f, 0, 50 * BLOCK);
    verify_there(f);
    assert_int_equal(lost.count, 42);
    assert_false(reads_as(f, first, 7 * BLOCK, before + 7 * BLOCK));
    spoil = true;
    assert_int_equal(offer(f), 0);
    assert_false(reads_as(f, first, 7 * BLOCK, before + 7 * BLOCK));
    spoil = false;
    sent_bytes = 0;
    copypace_set(&pace, 1u << 20, 0);
    uint64_t began = clock_mono_usec();
    assert_int_equal(offer(f), 41);
    assert_true(clock_mono_usec() - began > USEC_PER_SEC); /* more than a MiB under a limit of one per second */
    copypace_set(&pace, 0, 0);
    assert_int_equal(sent_bytes, 41 * BLOCK);
    for (uint64_t i = 0; i < 64; i++)
        assert_true(reads_as(f, first, i * BLOCK, before + i * BLOCK));
    assert_false(reads_as(f, between, 0, block));
    assert_int_equal(offer(f), 0); /* what is left the copy has not */
    quarantine_done(&lost);
    lost = (struct quarantine){0};
    free(before);
    fixture_free(f);
}

static uint64_t write_and_commit(struct fixture *f, uint64_t block)
{
    model_write(&f->m, 0, block * BLOCK, BLOCK, false);
    model_commit(&f->m, MARK_CRASH);
    return store_committed(f->m.store);
}

static void drop_there(struct fixture *f, uint64_t sequence)
{
    struct err err = ERR_INIT;
    size_t gone;
    assert_int_equal(store_drop_points(f->m.store, &sequence, 1, &gone, &err), 0);
    assert_int_equal(gone, 1);
}

/* The point that shows it there is none of the copy's, and the ones next to it, which the copy has, were dropped there. */
static void what_is_lost_is_found_at_points_that_are_dropped_there(void **state)
{
    uint8_t blocks[2][BLOCK];
    (void)state;
    struct fixture *f = fixture_new(17, 4u << 20);
    uint64_t before = write_and_commit(f, 0);
    memcpy(blocks[0], f->m.disks[0], BLOCK);
    pass(f);
    uint64_t shows_first = write_and_commit(f, 9);
    (void)write_and_commit(f, 0);
    uint64_t shows_second = write_and_commit(f, 1);
    memcpy(blocks[1], f->m.disks[0] + BLOCK, BLOCK);
    uint64_t behind = write_and_commit(f, 9);
    pass(f);
    (void)write_and_commit(f, 1);
    drop_there(f, before);
    drop_there(f, behind);
    flip_there(f, shows_first, 0);
    flip_there(f, shows_second, BLOCK);
    verify_there(f);
    assert_int_equal(lost.count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(lost.items[i].first_point, i == 0 ? shows_first : shows_second);
    assert_int_equal(offer(f), 2);
    assert_true(reads_as(f, shows_first, 0, blocks[0]));
    assert_true(reads_as(f, shows_second, BLOCK, blocks[1]));
    quarantine_done(&lost);
    lost = (struct quarantine){0};
    fixture_free(f);
}

/* ---- killed at each step ---- */

static int countdown;

static void kill_at(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    if (countdown-- == 0)
        _exit(77);
}

static bool die_at(struct fixture *f, int n)
{
    struct err err = ERR_INIT;
    int status;
    store_close(f->store);
    f->store = NULL;
    assert_int_equal(store_flush(f->m.store, &err), 0); /* not by the child */
    pid_t child = fork();
    if (child == 0) {
        copy_open(f);
        countdown = n;
        crashpoint_watch(kill_at, NULL);
        _exit(try_pass_from(f, &source_vault, NULL, &err) == 1 ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 0);
    copy_open(f);
    return WEXITSTATUS(status) == 77;
}

static void killed_anywhere_the_next_pass_makes_the_same_of_it(void **state)
{
    bool more = true;
    int deaths = 0;
    (void)state;
    for (int n = 0; more; n++) {
        struct fixture *f = fixture_new(4, 40u << 20);
        if (n % 2 != 0) { /* a first pass, or one over a point that is here */
            model_fill(&f->m, 1, 5);
            pass(f);
        }
        fill_whole(&f->m);
        size_t before = store_points(f->store)->count;
        more = die_at(f, n / 2);
        deaths += more;
        assert_true(store_points(f->store)->count <= before + 1);
        if (store_points(f->store)->count > before) /* the dead one came to its point */
            check_newest(f);
        model_fill(&f->m, 1, 5);
        pass(f);
        assert_true(sent_bytes < 41u << 20);
        check_kept(f);
        more = more || n % 2 == 0;
        fixture_free(f);
    }
    assert_true(deaths >= 10);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_pass_takes_what_has_changed_and_nothing_else),
        TEST(a_link_that_is_cut_at_any_call_costs_the_pass_and_nothing_else),
        TEST(what_comes_damaged_is_not_taken),
        TEST(where_the_log_became_another_one_on_the_way_no_point_is_made),
        TEST(without_its_note_or_from_another_vault_all_is_compared),
        TEST(another_history_with_the_same_numbers_is_seen),
        TEST(a_log_that_ends_with_something_else_is_seen),
        TEST(disks_shrink_and_grow),
        cmocka_unit_test(a_disk_that_grows_is_compared_again_after_a_pass_was_cut),
        TEST(damage_here_is_healed_by_a_comparison_of_all),
        cmocka_unit_test(damage_that_is_known_comes_from_the_other_vault),
        cmocka_unit_test(what_came_of_a_point_that_is_lost_there_is_taken_back),
        cmocka_unit_test(what_passes_that_failed_have_taken_is_counted),
        cmocka_unit_test(what_came_is_counted_while_a_pass_goes_on),
        TEST(what_somebody_asked_for_is_not_left_out),
        TEST(what_somebody_asked_for_is_not_left_out_where_all_is_compared),
        TEST(where_too_much_has_changed_to_be_told_all_is_compared),
        cmocka_unit_test(a_line_of_twenty_kilobytes_per_second_brings_a_point),
        cmocka_unit_test(a_bound_is_kept_over_passes),
        cmocka_unit_test(a_pass_that_gives_way_goes_on_from_where_it_was),
        cmocka_unit_test(a_pass_hurries_no_longer_than_it_must),
        cmocka_unit_test(what_the_other_vault_has_lost_it_gets_back),
        cmocka_unit_test(what_is_lost_is_found_at_points_that_are_dropped_there),
        cmocka_unit_test(killed_anywhere_the_next_pass_makes_the_same_of_it),
    };
    return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
