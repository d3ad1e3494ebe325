/* SPDX-License-Identifier: Apache-2.0
 *
 * A ring of lots. The owner fills the one at `filling`, and takes the one at `oldest`; between them lie closed lots in the order
 * of their pieces. Whoever is free, thread or waiting owner, seals the first one that nobody has begun. A lot belongs to one
 * thread at a time: its state, under the lock, says to whom; its memory needs no lock.
 *
 *   FREE -> (filled by the owner) -> CLOSED -> SEALING -> SEALED -> (taken by the owner) -> FREE
 */
#include "mobility/sync/sealpool.h"

#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "transport/log/seal.h"

enum lot_state { LOT_FREE, LOT_CLOSED, LOT_SEALING, LOT_SEALED };

struct piece {
    uint32_t disk;
    uint32_t length;
    uint64_t start;
    int level;
};

struct lot {
    enum lot_state state;
    uint8_t *plain; /* SEALPOOL_LOT_BYTES: the pieces, one behind the other */
    uint32_t used;
    unsigned count;
    struct piece pieces[SEALPOOL_RECORDS_MAX];
    struct record records[SEALPOOL_RECORDS_MAX];
    struct buf sealed;
    struct err err; /* why it could not be sealed */
};

struct sealpool {
    pthread_mutex_t lock;  /* guards the states of lots, next and stopping */
    pthread_cond_t closed; /* a lot was, or the pool is stopping */
    pthread_cond_t sealed; /* a lot was */
    bool stopping;
    uint64_t next;            /* to be sealed: nobody has begun it */
    uint64_t filling, oldest; /* lots are counted for ever; the owner's */
    unsigned lot_count;
    struct lot *lots;
    uint8_t *memory;
    struct seal_work *work; /* the owner's */
    int nice;
    pthread_t threads[SEALPOOL_THREADS_MAX];
    unsigned thread_count;
};

static struct lot *lot_at(const struct sealpool *p, uint64_t number)
{
    return &p->lots[number % p->lot_count];
}

/* ---- sealing ---- */

static int seal_lot(struct seal_work *work, struct lot *l)
{
    const uint8_t *data = l->plain;

    buf_clear(&l->sealed);
    for (unsigned i = 0; i < l->count; i++) {
        const struct piece *p = &l->pieces[i];
        if (seal_append_data(work, p->disk, p->start, data, p->length, p->level, &l->sealed, &l->records[i], &l->err) <
            0)
            return -1;
        data += p->length;
    }
    return 0;
}

/* With the lock held, which is given up while it seals. False: there is nothing that nobody has begun. */
static bool seal_next(struct sealpool *p, struct seal_work *work)
{
    struct lot *l = lot_at(p, p->next);

    if (l->state != LOT_CLOSED)
        return false;
    l->state = LOT_SEALING;
    p->next++;
    pthread_mutex_unlock(&p->lock);
    err_clear(&l->err);
    (void)seal_lot(work, l);
    pthread_mutex_lock(&p->lock);
    l->state = LOT_SEALED;
    pthread_cond_signal(&p->sealed);
    return true;
}

static void *thread_main(void *arg)
{
    struct sealpool *p = arg;
    struct seal_work *work = seal_work_new();

    (void)pthread_setname_np(pthread_self(), "seal");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), p->nice);
    pthread_mutex_lock(&p->lock);
    while (work && !p->stopping)
        if (!seal_next(p, work))
            pthread_cond_wait(&p->closed, &p->lock);
    pthread_mutex_unlock(&p->lock);
    seal_work_free(work);
    return NULL;
}

/* ---- life ---- */

static int allocate(struct sealpool *p, struct err *err)
{
    p->memory = mem_pages_new((size_t)p->lot_count * SEALPOOL_LOT_BYTES);
    p->lots = mem_alloc(p->lot_count, sizeof(*p->lots));
    p->work = seal_work_new();
    if (!p->memory || !p->lots || !p->work)
        return err_set(err, ERR_NOMEM, "no memory to compress on several processors");
    for (unsigned i = 0; i < p->lot_count; i++) {
        p->lots[i].plain = p->memory + (size_t)i * SEALPOOL_LOT_BYTES;
        buf_init(&p->lots[i].sealed, SEALPOOL_LOT_BYTES + SEALPOOL_RECORDS_MAX * RECORD_HEADER_SIZE);
    }
    return 0;
}

int sealpool_new(unsigned threads, int nice, struct sealpool **ret_pool, struct err *err)
{
    struct sealpool *p AUTO_OF(sealpool) = mem_new(struct sealpool);

    if (!p)
        return err_set(err, ERR_NOMEM, "no memory to compress on several processors");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->closed, NULL);
    pthread_cond_init(&p->sealed, NULL);
    p->nice = nice;
    if (threads > SEALPOOL_THREADS_MAX)
        threads = SEALPOOL_THREADS_MAX;
    p->lot_count = 2 * threads + 3;
    if (allocate(p, err) < 0)
        return -1;
    while (p->thread_count < threads && pthread_create(&p->threads[p->thread_count], NULL, thread_main, p) == 0)
        p->thread_count++;
    *ret_pool = TAKE_PTR(p);
    return 0;
}

void sealpool_free(struct sealpool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->closed);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->thread_count; i++)
        (void)pthread_join(p->threads[i], NULL);
    for (unsigned i = 0; p->lots && i < p->lot_count; i++)
        buf_done(&p->lots[i].sealed);
    mem_pages_free(p->memory, (size_t)p->lot_count * SEALPOOL_LOT_BYTES);
    seal_work_free(p->work);
    free(p->lots);
    pthread_cond_destroy(&p->sealed);
    pthread_cond_destroy(&p->closed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- the owner's ---- */

bool sealpool_is_full(const struct sealpool *p)
{
    return p->filling - p->oldest == p->lot_count;
}

bool sealpool_is_empty(const struct sealpool *p)
{
    return p->filling == p->oldest && lot_at(p, p->filling)->count == 0;
}

void sealpool_close_lot(struct sealpool *p)
{
    struct lot *l = lot_at(p, p->filling);

    if (sealpool_is_full(p) || l->count == 0)
        return;
    p->filling++;
    pthread_mutex_lock(&p->lock);
    l->state = LOT_CLOSED;
    pthread_cond_signal(&p->closed);
    pthread_mutex_unlock(&p->lock);
}

void sealpool_add(struct sealpool *p, uint32_t disk, uint64_t start, const void *data, uint32_t length, int level)
{
    struct lot *l = lot_at(p, p->filling);

    memcpy(l->plain + l->used, data, length);
    l->pieces[l->count++] = (struct piece){.disk = disk, .start = start, .length = length, .level = level};
    l->used += length;
    if (l->used > SEALPOOL_LOT_BYTES - RECORD_BLOCK_SIZE || l->count == SEALPOOL_RECORDS_MAX)
        sealpool_close_lot(p);
}

static bool wait_sealed(struct sealpool *p, const struct lot *l, bool wait)
{
    bool is_sealed;

    pthread_mutex_lock(&p->lock);
    while (wait && l->state != LOT_SEALED)
        if (!seal_next(p, p->work))
            pthread_cond_wait(&p->sealed, &p->lock);
    is_sealed = l->state == LOT_SEALED;
    pthread_mutex_unlock(&p->lock);
    return is_sealed;
}

int sealpool_oldest(struct sealpool *p, bool wait, struct sealpool_lot *ret_lot, struct err *err)
{
    struct lot *l = lot_at(p, p->oldest);

    if (p->oldest == p->filling || !wait_sealed(p, l, wait))
        return 0;
    if (l->err.code != ERR_NONE) { /* nobody else touches a lot that is sealed */
        err_clear(&l->err);
        (void)seal_lot(p->work, l);
    }
    if (l->err.code != ERR_NONE) {
        err_copy(err, &l->err);
        return -1;
    }
    *ret_lot = (struct sealpool_lot){.bytes = &l->sealed, .records = l->records, .count = l->count};
    return 1;
}

void sealpool_release(struct sealpool *p)
{
    struct lot *l = lot_at(p, p->oldest);

    l->used = l->count = 0;
    err_clear(&l->err);
    pthread_mutex_lock(&p->lock);
    l->state = LOT_FREE;
    pthread_mutex_unlock(&p->lock);
    p->oldest++;
}

void sealpool_drop(struct sealpool *p)
{
    struct lot *filling = lot_at(p, p->filling);

    while (p->oldest < p->filling) {
        (void)wait_sealed(p, lot_at(p, p->oldest), true);
        sealpool_release(p);
    }
    filling->used = filling->count = 0;
}
