/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread runs the executables and opens the disks; the mutex guards what it is to do and what it has done.
 * Failure modes: what cannot be stopped, or is still in use afterwards, is started again and the command fails; an agent that dies while it
 * holds the disks takes them again when it is back, and says so where it cannot.
 */
#include "mobility/sync/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mobility/hooks.h"
#include "mobility/inventory.h"
#include "mobility/sync/readonly.h"
#include "mobility/sync/receive_disk.h"
#include "mobility/track/wholedisk.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"

#define SCRIPT_USEC (300 * USEC_PER_SEC) /* a database may have much to write before it ends */
#define NOTE_MAX 65536u
#define ID_MARK "hold-id " /* no disk's key begins so, nor as the next one */
#define MOUNT_MARK "read-only "
#define PATIENCE_USEC (15 * USEC_PER_SEC) /* for what still writes when the scripts have ended */
#define AGAIN_SEC 10                      /* until a file system that stayed read-only is tried again */
#define OUTPUTS_MAX 16u

enum wish { WISH_NOTHING, WISH_HOLD, WISH_RELEASE, WISH_LET_GO };

struct order {
    char command_id[IDENT_TEXT_SIZE], hold_id[IDENT_TEXT_SIZE];
    char keys[MARK_DISKS_MAX][256];
    unsigned count;
};

struct watched {
    char key[256];
    dev_t device;
    uint64_t writes; /* that were completed when the scripts had stopped everything */
};

struct hold {
    struct hold_conf conf;
    char *note_path, *run_note_path; /* the second one where the running system's disk is held */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    enum wish wish;
    bool busy; /* it is being stopped */
    bool stopping;
    struct order order;
    bool noted;                    /* the source was stopped, and not started since */
    char held_id[IDENT_TEXT_SIZE]; /* by that order; "": by an older agent, which did not note it */
    bool held_unheard;             /* the hub had not said yet which generation it is */
    uint64_t held_in;              /* the generation in which it was; 0: not known to this process */
    uint64_t generation;           /* the hub's last */
    struct watched watched[MARK_DISKS_MAX];
    unsigned watched_count;
    char standing[IDENT_TEXT_SIZE]; /* for this command the disks stand still, and its last point has not begun */
    struct hold_output outputs[OUTPUTS_MAX];
    unsigned output_count;
    /* The thread's. */
    struct receive_disk *disks[MARK_DISKS_MAX];
    unsigned disk_count;
    struct freeze_mounts read_only; /* what was writable on the running system's disk */
    bool stopped;                   /* the scripts have run to their end, and the disks are held by this process */
    bool still_read_only;           /* not everything could be made writable again */
};

/* With the lock held. */
static void push_output(struct hold *h, const char *command_id, bool held, const struct err *error)
{
    struct hold_output o = {.held = held};

    snprintf(o.command_id, sizeof(o.command_id), "%s", command_id);
    if (error)
        o.error = *error;
    if (h->output_count < OUTPUTS_MAX)
        h->outputs[h->output_count++] = o;
}

static void put(struct hold *h, const char *command_id, bool held, const struct err *error)
{
    pthread_mutex_lock(&h->lock);
    push_output(h, command_id, held, error);
    h->busy = false; /* the answer is the last of a command, and whoever hears it may give the next one at once */
    pthread_mutex_unlock(&h->lock);
    h->conf.to_loop(h->conf.arg);
}

/* With the lock held. The one before, whose point has not begun, is over. */
static void set_standing(struct hold *h, const char *command_id, const char *why)
{
    struct err cancelled = ERR_INIT;

    if (h->standing[0] && strcmp(h->standing, command_id) != 0) {
        (void)err_set(&cancelled, ERR_CANCELLED, "%s", why);
        push_output(h, h->standing, false, &cancelled);
    }
    snprintf(h->standing, sizeof(h->standing), "%s", command_id);
}

static void put_held(struct hold *h, const char *command_id)
{
    pthread_mutex_lock(&h->lock);
    set_standing(h, command_id, "another order came before the last point was made");
    pthread_mutex_unlock(&h->lock);
    put(h, command_id, true, NULL);
}

bool hold_begin_point(struct hold *h, const char *command_id)
{
    bool stands;

    pthread_mutex_lock(&h->lock);
    stands = h->standing[0] && strcmp(h->standing, command_id) == 0;
    if (stands)
        h->standing[0] = '\0';
    pthread_mutex_unlock(&h->lock);
    return stands;
}

bool hold_take(struct hold *h, struct hold_output *ret_output)
{
    bool got;

    pthread_mutex_lock(&h->lock);
    got = h->output_count > 0;
    if (got) {
        *ret_output = h->outputs[0];
        memmove(h->outputs, h->outputs + 1, --h->output_count * sizeof(h->outputs[0]));
    }
    pthread_mutex_unlock(&h->lock);
    return got;
}

/* ---- the note: the generation, ID_MARK and the order, then the keys, a line each, then mount points, each begun by MOUNT_MARK ---- */

static int note_write(struct hold *h, const struct order *o, uint64_t generation, bool in_memory, struct err *err)
{
    struct buf text AUTO_BUF = BUF_INIT(NOTE_MAX);

    if (buf_printf(&text, err, "%" PRIu64 "\n", generation) < 0 ||
        (o->hold_id[0] && buf_printf(&text, err, ID_MARK "%s\n", o->hold_id) < 0))
        return -1;
    for (unsigned i = 0; i < o->count; i++)
        if (buf_printf(&text, err, "%s\n", o->keys[i]) < 0)
            return -1;
    for (size_t i = 0; i < h->read_only.count; i++)
        if (buf_printf(&text, err, MOUNT_MARK "%s\n", h->read_only.paths[i]) < 0)
            return -1;
    return file_replace(in_memory ? h->run_note_path : h->note_path, text.data, text.len, 0600, err);
}

/* Once, and kept: -1 when there is no memory, or too many. */
static int add_mount(struct hold *h, const char *path, struct err *err)
{
    struct freeze_mounts *m = &h->read_only;

    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->paths[i], path) == 0)
            return 0;
    if (!m->paths)
        m->paths = mem_alloc(FREEZE_MOUNTS_MAX, sizeof(char *));
    if (!m->paths || m->count == FREEZE_MOUNTS_MAX || !(m->paths[m->count] = mem_strdup(path)))
        return err_set(err, ERR_NOMEM, "no memory for mount points");
    m->count++;
    return 0;
}

/* False: there is none. */
static bool note_read(struct hold *h, const char *path, struct order *ret_order, uint64_t *ret_generation)
{
    struct buf text AUTO_BUF = BUF_INIT(NOTE_MAX);
    char *line, *rest = NULL;

    if (file_read(path, &text, NULL) < 0 || buf_append(&text, "", 1, NULL) < 0)
        return false;
    line = strtok_r((char *)text.data, "\n", &rest);
    *ret_generation = line ? strtoull(line, NULL, 10) : 0;
    ret_order->count = 0;
    while ((line = strtok_r(NULL, "\n", &rest)) != NULL)
        if (strncmp(line, ID_MARK, strlen(ID_MARK)) == 0)
            snprintf(ret_order->hold_id, sizeof(ret_order->hold_id), "%s", line + strlen(ID_MARK));
        else if (strncmp(line, MOUNT_MARK, strlen(MOUNT_MARK)) == 0)
            (void)add_mount(h, line + strlen(MOUNT_MARK), NULL);
        else if (ret_order->count < MARK_DISKS_MAX)
            snprintf(ret_order->keys[ret_order->count++], sizeof(ret_order->keys[0]), "%s", line);
    return true;
}

static void note_remove(const char *path)
{
    if (unlink(path) < 0 && errno != ENOENT)
        log_event(LOG_ERROR, "held_note_stays", LOG_S("path", path));
}

/* ---- stopping and starting ---- */

static int run_scripts(struct hold *h, bool stop, struct err *err)
{
    const struct hooks_conf conf = {.dir = h->conf.dir, .run_dir = h->conf.run_dir, .limit_usec = SCRIPT_USEC};
    struct hooks *scripts;
    int r;

    if (hooks_load(&conf, &scripts, err) < 0)
        return -1;
    r = stop ? hooks_stop(scripts, err) : hooks_start(scripts, err);
    hooks_free(scripts);
    return r;
}

static void let_go(struct hold *h)
{
    bool stood;

    pthread_mutex_lock(&h->lock);
    stood = h->standing[0] != '\0';
    set_standing(h, "", "the source was given back before its last point was made");
    pthread_mutex_unlock(&h->lock);
    if (stood)
        h->conf.to_loop(h->conf.arg);
    for (unsigned i = 0; i < h->disk_count; i++)
        receive_disk_close(TAKE_PTR(h->disks[i]));
    h->disk_count = 0;
    h->stopped = false;
    pthread_mutex_lock(&h->lock);
    h->watched_count = 0;
    pthread_mutex_unlock(&h->lock);
}

/* From here on they are to stand still: what was written before is on them. */
static int watch(struct hold *h, struct err *err)
{
    struct watched watched[MARK_DISKS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < h->disk_count; i++) {
        struct watched *w = &watched[count];

        if (receive_disk_sync(h->disks[i], err) < 0)
            return -1;
        *w = (struct watched){.device = receive_disk_device(h->disks[i])};
        snprintf(w->key, sizeof(w->key), "%s", receive_disk_key(h->disks[i]));
        count += wholedisk_writes_completed(w->device, &w->writes) == 0;
    }
    pthread_mutex_lock(&h->lock);
    memcpy(h->watched, watched, count * sizeof(watched[0]));
    h->watched_count = count;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

int hold_stood_still(struct hold *h, struct err *err)
{
    int r = 0;

    pthread_mutex_lock(&h->lock);
    for (unsigned i = 0; r == 0 && i < h->watched_count; i++) {
        const struct watched *w = &h->watched[i];
        uint64_t now;

        if (wholedisk_writes_completed(w->device, &now) < 0 || now == w->writes)
            continue;
        err_set(err, ERR_REFUSED, "the disk %.200s was written to (%" PRIu64 " times) while it was to stand still",
            w->key, now - w->writes);
        r = err_hint(err, "Stop what writes to the device itself (a database on a raw partition, a virtual machine) in "
                          "a script of /etc/leeward/failover.d.");
    }
    pthread_mutex_unlock(&h->lock);
    return r;
}

/* Those of the order that the running system lies on. */
static int find_system(
    const struct order *o, dev_t disks[MARK_DISKS_MAX], bool is_system[MARK_DISKS_MAX], struct err *err)
{
    struct inventory *inventory AUTO_OF(inventory) = NULL;
    int count = 0;

    if (inventory_scan(NULL, &inventory, err) < 0)
        return -1;
    for (unsigned i = 0; i < o->count; i++) {
        const struct inventory_disk *disk = inventory_find(inventory, o->keys[i]);

        is_system[i] = disk && disk->is_root;
        if (is_system[i])
            disks[count++] = disk->devno;
    }
    return count;
}

/* Noted before it is done. */
static int make_read_only(
    struct hold *h, const struct order *o, const dev_t *disks, int count, uint64_t generation, struct err *err)
{
    struct freeze_mounts found = {0};
    int r = 0;

    if (freeze_find_mounts(disks, (size_t)count, &found, err) < 0)
        return -1;
    if (found.hidden) {
        err_set(err, ERR_REFUSED,
            "the file system on %s cannot be made read-only: another one is mounted over it, or above it and does not "
            "answer",
            found.hidden);
        r = err_hint(err, "unmount the other one, or mount this one a second time somewhere else, then try again");
    }
    for (size_t i = 0; r == 0 && i < found.count; i++)
        r = add_mount(h, found.paths[i], err);
    freeze_mounts_free(&found);
    if (r < 0 || note_write(h, o, generation, true, err) < 0)
        return -1;
    return readonly_set(&h->read_only, PATIENCE_USEC, h->conf.run_dir, err);
}

static int take_disks(struct hold *h, const struct order *o, uint64_t generation, struct err *err)
{
    bool is_system[MARK_DISKS_MAX];
    dev_t disks[MARK_DISKS_MAX];
    int systems = find_system(o, disks, is_system, err);

    if (systems < 0)
        return -1;
    for (unsigned i = 0; i < o->count; i++) {
        if (is_system[i])
            continue;
        if (receive_disk_open(o->keys[i], i, &h->disks[h->disk_count], err) < 0)
            return -1;
        h->disk_count++;
    }
    return systems > 0 ? make_read_only(h, o, disks, systems, generation, err) : 0;
}

/* Everything as it was before; what cannot be started is said and left to a person. -1: a file system is read-only still, so nothing was started; it is
 * tried again. */
static int start_again(struct hold *h, struct err *ret_err)
{
    struct err err = ERR_INIT;

    let_go(h);
    h->still_read_only = readonly_clear(&h->read_only, h->conf.run_dir, ret_err) < 0;
    if (h->still_read_only)
        return -1;
    freeze_mounts_free(&h->read_only);
    if (run_scripts(h, false, &err) < 0)
        log_event(LOG_ERROR, "source_not_started", LOG_E(&err));
    else
        log_event(LOG_INFO, "source_started", LOG_S("dir", h->conf.dir));
    note_remove(h->note_path);
    note_remove(h->run_note_path);
    pthread_mutex_lock(&h->lock);
    h->noted = false;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static int stop(struct hold *h, const struct order *o, uint64_t generation, struct err *err)
{
    bool is_system[MARK_DISKS_MAX];
    dev_t disks[MARK_DISKS_MAX];
    bool is_own;
    int systems;

    is_own = !h->held_id[0] || strcmp(h->held_id, o->hold_id) == 0;
    if (h->stopped && is_own)
        return 0;                                       /* asked again */
    if (h->noted && !is_own && start_again(h, err) < 0) /* that was for another failover, perhaps with other disks */
        return -1;
    systems = find_system(o, disks, is_system, err);
    if (systems < 0 || note_write(h, o, generation, systems > 0, err) < 0)
        return -1;
    pthread_mutex_lock(&h->lock);
    h->noted = true;
    memcpy(h->held_id, o->hold_id, sizeof(h->held_id));
    h->held_in = generation;
    h->held_unheard = generation == 0;
    pthread_mutex_unlock(&h->lock);
    if (run_scripts(h, true, err) < 0)
        return err_wrap(err, "stopping what uses the protected disks");
    if ((h->disk_count == 0 && take_disks(h, o, generation, err) < 0) || watch(h, err) < 0)
        return -1;
    h->stopped = true;
    h->still_read_only = false; /* of an earlier try: nobody wants it writable any more */
    return 0;
}

/* ---- the thread ---- */

static void hold_source(struct hold *h, const struct order *o, uint64_t generation)
{
    struct err err = ERR_INIT;

    if (stop(h, o, generation, &err) < 0) {
        log_event(LOG_WARN, "source_not_held", LOG_E(&err));
        (void)start_again(h, NULL);
        put(h, o->command_id, false, &err);
        return;
    }
    log_event(LOG_INFO, "source_held", LOG_U("disks", h->disk_count));
    put_held(h, o->command_id);
}

/* A release gives back what its own hold took, and nothing of a later one; that of the hub's wish for the machine (no command) gives back all. */
static void release(struct hold *h, const struct order *o)
{
    bool own = !o->command_id[0] || !h->held_id[0] || strcmp(h->held_id, o->hold_id) == 0;
    struct err err = ERR_INIT;
    int r = h->noted && own ? start_again(h, &err) : 0;

    if (o->command_id[0])
        put(h, o->command_id, false, r < 0 ? &err : NULL);
}

static void obey(struct hold *h, enum wish wish, const struct order *o, uint64_t generation)
{
    if (wish == WISH_HOLD)
        hold_source(h, o, generation);
    else if (wish == WISH_LET_GO)
        let_go(h);
    else if (wish == WISH_RELEASE)
        release(h, o);
}

/* A process before this one has stopped the source: nobody may use it meanwhile. */
static void hold_again(struct hold *h, const struct order *o, uint64_t generation)
{
    struct err err = ERR_INIT;

    if (take_disks(h, o, generation, &err) < 0) {
        log_event(LOG_WARN, "source_not_held", LOG_E(&err));
        let_go(h);
    }
}

/* With the lock held: until there is something to do. */
static void wait_for_wish(struct hold *h)
{
    struct timespec until;

    if (!h->still_read_only) {
        pthread_cond_wait(&h->cond, &h->lock);
        return;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* as the condition's */
    until.tv_sec += AGAIN_SEC;
    if (pthread_cond_timedwait(&h->cond, &h->lock, &until) == ETIMEDOUT && h->wish == WISH_NOTHING) {
        h->order = (struct order){.command_id = ""};
        h->wish = WISH_RELEASE;
    }
}

static void *hold_main(void *arg)
{
    struct hold *h = arg;
    AUTO_FREE struct order *o = mem_new(struct order);

    pthread_mutex_lock(&h->lock);
    if (o && h->noted) {
        uint64_t held_in = h->held_in;

        *o = h->order;
        pthread_mutex_unlock(&h->lock);
        hold_again(h, o, held_in);
        pthread_mutex_lock(&h->lock);
    }
    while (o && !h->stopping) {
        enum wish wish = h->wish;
        uint64_t generation = h->generation;

        if (wish == WISH_NOTHING) {
            wait_for_wish(h);
            continue;
        }
        *o = h->order;
        h->wish = WISH_NOTHING;
        h->busy = wish == WISH_HOLD; /* what gives it back is in nobody's way: the next order comes after it */
        pthread_mutex_unlock(&h->lock);
        obey(h, wish, o, generation);
        pthread_mutex_lock(&h->lock);
        h->busy = false;
    }
    pthread_mutex_unlock(&h->lock);
    let_go(h);
    return NULL;
}

int hold_new(const struct hold_conf *conf, struct hold **ret_hold, struct err *err)
{
    struct hold *h = mem_new(struct hold);
    pthread_condattr_t attr;
    int rc;

    if (!h)
        return err_set(err, ERR_NOMEM, "no memory to hold the source");
    h->conf = *conf;
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* a clock that is set must not keep a file system read-only */
    pthread_cond_init(&h->cond, &attr);
    pthread_condattr_destroy(&attr);
    h->note_path = mem_printf("%s/held", conf->data_dir);
    h->run_note_path = mem_printf("%s/held", conf->run_dir);
    h->noted =
        h->note_path && h->run_note_path &&
        (note_read(h, h->run_note_path, &h->order, &h->held_in) || note_read(h, h->note_path, &h->order, &h->held_in));
    memcpy(h->held_id, h->order.hold_id, sizeof(h->held_id));
    rc = h->note_path && h->run_note_path ? pthread_create(&h->thread, NULL, hold_main, h) : ENOMEM;
    if (rc != 0) {
        hold_free(h);
        return err_sys(err, rc, "starting a thread");
    }
    h->has_thread = true;
    (void)pthread_setname_np(h->thread, "hold");
    *ret_hold = h;
    return 0;
}

void hold_free(struct hold *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
    if (h->has_thread)
        pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->cond);
    pthread_mutex_destroy(&h->lock);
    freeze_mounts_free(&h->read_only);
    free(h->note_path);
    free(h->run_note_path);
    free(h);
}

/* ---- the loop's side ---- */

static int read_order(
    const char *command_id, const Leeward__Control__V1__HoldSource *c, struct order *o, struct err *err)
{
    struct ident id;

    if (ident_from_text(c->hold_id, &id) < 0 || strlen(command_id) >= sizeof(o->command_id))
        return err_set(err, ERR_INVALID, "a planned failover is named by a UUID");
    if (!c->release && (c->n_disks == 0 || c->n_disks > MARK_DISKS_MAX))
        return err_set(err, ERR_INVALID, "1 to %u disks can be held", MARK_DISKS_MAX);
    ident_to_text(&id, o->hold_id);
    snprintf(o->command_id, sizeof(o->command_id), "%s", command_id);
    for (size_t i = 0; i < c->n_disks && !c->release; i++) {
        if (strlen(c->disks[i]->key) >= sizeof(o->keys[0]) || strchr(c->disks[i]->key, '\n'))
            return err_set(err, ERR_INVALID, "a disk's key is not one");
        snprintf(o->keys[o->count++], sizeof(o->keys[0]), "%s", c->disks[i]->key);
    }
    return 0;
}

/* With the lock held. A command that nobody has begun with when the next one comes: a hold is over before it was one, and a release has nothing more to
 * give back, for the hold that comes begins from the start. True: there was one. */
static bool answer_overtaken(struct hold *h, const char *command_id)
{
    struct err why = ERR_INIT;
    bool overtaken = (h->wish == WISH_HOLD || h->wish == WISH_RELEASE) && h->order.command_id[0] &&
                     strcmp(h->order.command_id, command_id) != 0;

    (void)err_set(&why, ERR_CANCELLED, "another order came before the source was held");
    if (overtaken)
        push_output(h, h->order.command_id, false, h->wish == WISH_HOLD ? &why : NULL);
    return overtaken;
}

int hold_command(struct hold *h, const char *command_id, const Leeward__Control__V1__HoldSource *c, struct err *err)
{
    AUTO_FREE struct order *o = mem_new(struct order);
    bool answered = false;
    int r = 0;

    if (!o)
        return err_set(err, ERR_NOMEM, "no memory for a command");
    if (read_order(command_id, c, o, err) < 0)
        return -1;
    pthread_mutex_lock(&h->lock);
    /* One that is under way ends with its own answer; what takes it back comes after it. */
    if (h->busy && !c->release) {
        if (strcmp(h->order.command_id, command_id) != 0)
            r = err_set(err, ERR_CONFLICT, "the source is being held already");
    } else {
        answered = answer_overtaken(h, command_id);
        h->order = *o;
        h->wish = c->release ? WISH_RELEASE : WISH_HOLD;
        pthread_cond_signal(&h->cond);
    }
    pthread_mutex_unlock(&h->lock);
    if (answered)
        h->conf.to_loop(h->conf.arg);
    return r;
}

void hold_desired(struct hold *h, bool protect, uint64_t generation)
{
    pthread_mutex_lock(&h->lock);
    h->generation = generation;
    if (h->held_unheard)
        h->held_in = generation;
    h->held_unheard = false;
    if (h->noted && h->wish == WISH_NOTHING && (!protect || generation != h->held_in)) {
        h->order = (struct order){.command_id = ""};
        h->wish = protect ? WISH_RELEASE : WISH_LET_GO;
        pthread_cond_signal(&h->cond);
    }
    pthread_mutex_unlock(&h->lock);
}
