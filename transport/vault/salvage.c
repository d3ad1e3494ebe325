/* SPDX-License-Identifier: Apache-2.0
 *
 * See salvage.h. Each step is durable before the next, and the store that opens at the end is the proof; ended in the middle, it is done
 * again: the higher epoch hurts nobody, segments are moved from behind, so that what is left has no hole that was not there.
 */
#include "transport/vault/salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/log/segment.h"
#include "transport/vault/mend.h"
#include "transport/vault/quarantine.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/secondcopy.h"
#include "transport/vault/store.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/verify.h"

enum { LOST_FOLDERS_MAX = 1000 };

struct salvage {
    const struct ident *machine;
    struct vault_key key;
    char *dir; /* of the machine */
    int main_fd;
    uint64_t first, last; /* segments that are there; 0: none */
    uint64_t hole;        /* 0: none */
    bool missing;         /* the segment of the hole */
    struct salvage_result *result;
};

/* ---- the hole ---- */

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    uint64_t *next = arg;
    struct mark *m AUTO_FREE = mem_new(struct mark);

    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0)
        *next = m->sequence + 1;
}

/* The sequence that must follow the segment, as far as it can be read. -1: it says nothing of itself. */
static int look_into(const struct salvage *s, uint64_t number, uint64_t *ret_first, uint64_t *ret_next)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t end;
    bool sealed = false;

    if (segment_open(s->main_fd, number, &reader, NULL) < 0)
        return -1;
    *ret_first = *ret_next = segment_reader_info(reader)->first_sequence;
    bool whole = segment_recover(s->main_fd, number, on_mark, ret_next, &end, &sealed, NULL) == 0;
    if (whole && segment_reader_info(reader)->revision > 0) /* its last mark may be gone */
        *ret_next = segment_reader_info(reader)->last_sequence + 1;
    return 0;
}

static int list_segments(struct salvage *s, struct err *err)
{
    uint64_t *numbers AUTO_FREE = NULL;
    size_t count = 0;

    if (verify_segments(s->dir, &numbers, &count, err) < 0)
        return -1;
    s->first = count == 0 ? 0 : numbers[0];
    s->last = count == 0 ? 0 : numbers[count - 1];
    return 0;
}

static bool is_there(const struct salvage *s, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(number, name);
    return faccessat(s->main_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The first segment that is missing, or whose end the next one does not follow. One that begins within what the one before it has was begun because that could not
 * be read, and does follow. */
static int find_hole(struct salvage *s, struct err *err)
{
    uint64_t next = 1, first = 1;

    s->hole = 0;
    if (list_segments(s, err) < 0)
        return -1;
    for (uint64_t number = 1; number <= s->last && s->hole == 0; number++) {
        s->missing = !is_there(s, number);
        uint64_t expected = next, from = first;
        if (s->missing || look_into(s, number, &first, &next) < 0)
            s->hole = number;
        else if (first > expected || first < from)
            s->hole = number > 1 ? number - 1 : 1;
    }
    return 0;
}

static int is_holed(const struct salvage *s, struct err *err)
{
    (void)err_set(err, ERR_CORRUPT, "the log has a hole: segment %llu is %s, and %llu are there behind it",
        (unsigned long long)s->hole, s->missing ? "missing" : "damaged", (unsigned long long)(s->last - s->hole));
    return err_hint(err, "give the bucket with --from, or put the file back from a copy; with --cut the machine goes "
                         "on with what stands before the hole, and all points behind it are given up");
}

/* ---- from the bucket ---- */

/* Each segment that the bucket gives back may show the next hole. */
static int put_back(struct salvage *s, struct secondcopy *copy, struct err *err)
{
    for (uint64_t before = 0; s->hole != 0 && s->hole != before;) {
        before = s->hole;
        int restored = secondcopy_restore(copy, s->hole, true, err);
        if (restored < 0)
            return -1;
        s->result->fetched_bytes = secondcopy_fetched_bytes(copy);
        if (restored == 0 || find_hole(s, err) < 0)
            return restored == 0 ? 0 : -1;
    }
    return 0;
}

static int load_keys(const struct salvage *s, struct keyring *ret_keys, struct err *err)
{
    struct store_meta meta;
    struct seal_key newest;

    if (storemeta_load(s->dir, &meta, err) < 0 ||
        vaultkeys_unwrap(&s->key, s->machine, meta.wrapped_key, &newest, err) < 0)
        return -1;
    keyring_init(ret_keys, &newest);
    int rc = meta.has_older_keys ? keyring_load(s->dir, s->machine, &newest, ret_keys, err) : 0;
    explicit_bzero(&newest, sizeof(newest));
    return rc;
}

/* The store cannot be opened: its last change set is that of the last segment. */
static int fill_holes(struct salvage *s, struct object_store *objects, struct err *err)
{
    struct keyring keys = {0};
    uint64_t first, next = 1;
    struct secondcopy *copy AUTO_OF(secondcopy) = NULL;

    if (look_into(s, s->last, &first, &next) < 0)
        next = 0; /* it does not say */
    const struct secondcopy_spec spec = {.objects = objects,
        .machine_dir = s->dir,
        .machine = *s->machine,
        .keys = &keys,
        .committed = next - 1, /* UINT64_MAX: as much as the bucket may have */
        .writes_from = UINT64_MAX};
    int rc = load_keys(s, &keys, err);
    if (rc == 0)
        rc = secondcopy_new(&spec, &copy, err);
    if (rc == 0)
        rc = put_back(s, copy, err);
    keyring_cleanse(&keys);
    return rc;
}

/* ---- the cut ---- */

static int raise_epoch(const struct salvage *s, struct err *err)
{
    struct store_meta meta;

    if (storemeta_load(s->dir, &meta, err) < 0)
        return -1;
    meta.epoch++;
    return storemeta_store(s->dir, &meta, err);
}

static int make_lost_folder(const struct salvage *s, char **ret_path, struct err *err)
{
    for (unsigned n = 1; n <= LOST_FOLDERS_MAX; n++) {
        AUTO_FREE char *path = mem_printf("%s/lost-%u", s->dir, n);
        if (path == NULL)
            return err_set(err, ERR_NOMEM, "no memory to salvage a machine");
        if (mkdir(path, 0700) < 0 && errno == EEXIST)
            continue;
        *ret_path = TAKE_PTR(path);
        return access(*ret_path, W_OK) < 0 ? err_sys(err, errno, "making %s", *ret_path) : 0;
    }
    return err_set(err, ERR_TOO_LARGE, "%s has %d folders of lost segments", s->dir, LOST_FOLDERS_MAX);
}

/* From behind: a crash in between leaves the same hole, or none. */
static int move_aside(const struct salvage *s, uint64_t from, struct err *err)
{
    AUTO_FREE char *lost = NULL;
    AUTO_CLOSE int lost_fd = -1;

    if (make_lost_folder(s, &lost, err) < 0)
        return -1;
    lost_fd = open(lost, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lost_fd < 0)
        return err_sys(err, errno, "opening %s", lost);
    for (uint64_t number = s->last; number >= from; number--) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(number, name);
        if (renameat(s->main_fd, name, lost_fd, name) == 0)
            s->result->moved++;
        else if (errno != ENOENT)
            return err_sys(err, errno, "moving segment %s aside", name);
        crashpoint_pass("salvage.moved");
    }
    if (fsync(lost_fd) < 0 || fsync(s->main_fd) < 0)
        return err_sys(err, errno, "syncing %s", lost);
    return file_sync_dir(s->dir, err);
}

/* What speaks of places in the segments that went, whose numbers will be given again. */
static int forget_places(const struct salvage *s, uint64_t from, struct err *err)
{
    static const char *const files[] = {"manifest", "scrub"};
    struct quarantine q;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", s->dir, files[i]);
        if (path == NULL || file_remove_tree(path, err) < 0)
            return path == NULL ? err_set(err, ERR_NOMEM, "no memory to salvage a machine") : -1;
    }
    if (quarantine_load(s->dir, s->machine, &q, err) < 0)
        return -1;
    for (size_t i = q.count; i > 0; i--)
        if (q.items[i - 1].segment >= from)
            quarantine_remove(&q, i - 1);
    int rc = quarantine_store(s->dir, s->machine, &q, err);
    quarantine_done(&q);
    return rc < 0 ? -1 : mend_sweep(s->dir, err);
}

static int cut_log(struct salvage *s, struct err *err)
{
    uint64_t from = s->missing ? s->hole : s->hole + 1; /* what can be read of a damaged one stays */

    log_event(LOG_WARN, "log_cut", LOG_U("from_segment", from), LOG_U("last_segment", s->last));
    return raise_epoch(s, err) < 0 || move_aside(s, from, err) < 0 ? -1 : forget_places(s, from, err);
}

/* ---- all of it ---- */

static int try_open(struct salvage *s, struct err *err)
{
    struct store_conf conf = {.dir = s->dir, .machine = *s->machine, .vault_key = s->key};
    struct store *store AUTO_OF(store) = NULL;
    int opened = store_open(&conf, &store, err);

    explicit_bzero(&conf, sizeof(conf));
    if (opened < 0)
        return -1;
    s->result->sequence = store_committed(store);
    s->result->points = store_points(store)->count;
    return 0;
}

static int salvage(struct salvage *s, struct object_store *objects, bool cut, struct err *err)
{
    struct err why = ERR_INIT;

    if (find_hole(s, err) < 0)
        return -1;
    s->result->hole = s->hole;
    if (s->hole != 0 && objects != NULL && fill_holes(s, objects, err) < 0)
        return err_wrap(err, "the bucket");
    s->result->opens_as_it_is = try_open(s, &why) == 0;
    if (s->result->opens_as_it_is)
        return 0;
    if (why.code != ERR_CORRUPT || s->hole == 0) { /* another trouble than a hole */
        err_copy(err, &why);
        return -1;
    }
    if (!cut)
        return is_holed(s, err);
    return cut_log(s, err) < 0 ? -1 : try_open(s, err);
}

int salvage_run(const char *data_dir, const struct ident *machine, struct object_store *objects, bool cut,
    struct salvage_result *ret_result, struct err *err)
{
    struct salvage s = {.machine = machine, .main_fd = -1, .result = ret_result};
    char id[IDENT_TEXT_SIZE];
    AUTO_CLOSE int lock = -1;

    *ret_result = (struct salvage_result){0};
    ident_to_text(machine, id);
    AUTO_FREE char *dir = mem_printf("%s/machines/%s", data_dir, id);
    AUTO_FREE char *main_dir = mem_printf("%s/machines/%s/main", data_dir, id);
    if (dir == NULL || main_dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to salvage a machine");
    AUTO_CLOSE int main_fd = open(main_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (main_fd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no machine %s in %s", id, data_dir)
                               : err_sys(err, errno, "opening %s", main_dir);
    s.dir = dir;
    s.main_fd = main_fd;
    if (rebuild_lock_data(data_dir, &lock, err) < 0 || rebuild_load_key(data_dir, &s.key, err) < 0)
        return -1;
    int rc = salvage(&s, objects, cut, err);
    explicit_bzero(&s.key, sizeof(s.key));
    return rc;
}
