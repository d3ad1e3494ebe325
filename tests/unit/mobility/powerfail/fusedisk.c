/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread, one loop: take a request when there is one, else do what is due. An operation goes through steps, and between two
 * steps it may wait: a write lands (in two halves, if it is a late one), then it is answered. What is shared with the
 * test is written by the server alone, the wishes excepted; words are atomic, and of an entry in the list of writes the tag is
 * written last.
 */
#define FUSE_USE_VERSION 34
#include <fuse_lowlevel.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/powerfail/fusedisk.h"

#define FOREVER 1e9
#define FIRST_FILE 2u /* inode numbers; 1 is the root */
#define NOTED_WRITES 65536u
#define NOTED_FLUSHES 1024u
#define OPS_MAX 256u
#define NSEC 1000000000ull
#define HELD_NSEC 10000000ull /* how often it is looked whether it may go on */

struct noted {
    _Atomic uint32_t tag;
    _Atomic uint64_t start_nsec, end_nsec;
};

struct bad {
    _Atomic uint64_t start, length; /* length 0: nothing is bad */
    atomic_uint disk;
};

/* Lies in memory that server and test share. */
struct shared {
    atomic_uint permille, max_usec;
    atomic_bool held;
    struct bad bad[FUSEDISK_BAD_MAX];
    _Atomic uint64_t reads, writes, flushes, overtaken, failed;
    struct noted noted_writes[NOTED_WRITES];
    struct noted noted_flushes[FUSEDISK_MAX][NOTED_FLUSHES];
    atomic_uint flush_count[FUSEDISK_MAX];
};

struct fusedisk {
    char path[128];
    unsigned count;
    uint64_t size_bytes;
    struct shared *shared;
    uint8_t *content[FUSEDISK_MAX];
    pid_t server;
};

enum op_kind { OP_READ, OP_WRITE, OP_FSYNC };

struct op {
    bool used;
    enum op_kind kind;
    unsigned step, steps; /* the last one answers */
    fuse_req_t req;
    unsigned disk;
    uint64_t offset;
    size_t length;
    uint8_t *data;
    uint64_t number, start_nsec, due_nsec;
};

struct server {
    struct fusedisk *f;
    struct fuse_session *session;
    unsigned seed;
    struct op ops[OPS_MAX];
    uint64_t next_number, answered_number;
};

static uint64_t now_nsec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NSEC + (uint64_t)t.tv_nsec;
}

/* --- doing what was asked ------------------------------------------------------------------------------------------- */

static bool is_bad(const struct server *s, const struct op *o)
{
    for (unsigned i = 0; i < FUSEDISK_BAD_MAX; i++) {
        const struct bad *b = &s->f->shared->bad[i];
        uint64_t length = atomic_load(&b->length), start = atomic_load(&b->start);

        if (length && atomic_load(&b->disk) == o->disk && o->offset < start + length && start < o->offset + o->length)
            return true;
    }
    return false;
}

static void answer_read(struct server *s, struct op *o)
{
    struct shared *h = s->f->shared;

    atomic_fetch_add(&h->reads, 1);
    if (is_bad(s, o)) {
        atomic_fetch_add(&h->failed, 1);
        (void)fuse_reply_err(o->req, EIO);
        return;
    }
    (void)fuse_reply_buf(o->req, (const char *)s->f->content[o->disk] + o->offset, o->length);
}

static void note(struct noted *n, uint32_t tag, uint64_t start_nsec)
{
    atomic_store(&n->tag, 0);
    atomic_store(&n->start_nsec, start_nsec);
    atomic_store(&n->end_nsec, now_nsec());
    atomic_store(&n->tag, tag);
}

/* Noted before the answer: whoever learns of the answer finds the note. */
static void answer_write(struct server *s, struct op *o)
{
    struct shared *h = s->f->shared;
    uint32_t tag = 0;

    if (o->length >= 8)
        memcpy(&tag, o->data + 4, sizeof(tag));
    atomic_fetch_add(&h->writes, 1);
    if (tag)
        note(&h->noted_writes[tag % NOTED_WRITES], tag, o->start_nsec);
    (void)fuse_reply_write(o->req, o->length);
}

static void answer_flush(struct server *s, struct op *o)
{
    struct shared *h = s->f->shared;
    unsigned n = atomic_load(&h->flush_count[o->disk]);

    note(&h->noted_flushes[o->disk][n % NOTED_FLUSHES], 1, o->start_nsec);
    atomic_store(&h->flush_count[o->disk], n + 1);
    atomic_fetch_add(&h->flushes, 1);
    (void)fuse_reply_err(o->req, 0);
}

static void answer(struct server *s, struct op *o)
{
    if (o->number < s->answered_number)
        atomic_fetch_add(&s->f->shared->overtaken, 1);
    else
        s->answered_number = o->number;
    if (o->kind == OP_READ)
        answer_read(s, o);
    else if (o->kind == OP_WRITE)
        answer_write(s, o);
    else
        answer_flush(s, o);
    free(o->data);
    *o = (struct op){0};
}

/* A late write lands in as many parts as it has steps before its answer, cut at sectors. */
static void land(struct server *s, const struct op *o)
{
    unsigned parts = o->steps > 1 ? o->steps - 1 : 1;
    size_t from = o->length * o->step / parts / 512 * 512, to = o->length * (o->step + 1) / parts / 512 * 512;

    if (o->step + 1 == parts)
        to = o->length;
    memcpy(s->f->content[o->disk] + o->offset + from, o->data + from, to - from);
}

static uint64_t some_delay_nsec(struct server *s)
{
    unsigned max_usec = atomic_load(&s->f->shared->max_usec);

    return max_usec ? 1000ull * ((unsigned)rand_r(&s->seed) % max_usec) : 0;
}

static void do_step(struct server *s, struct op *o)
{
    bool last = o->step + 1 >= o->steps;

    if (atomic_load(&s->f->shared->held)) {
        o->due_nsec = now_nsec() + HELD_NSEC;
        return;
    }
    if (o->kind == OP_WRITE && (!last || o->steps == 1))
        land(s, o);
    if (last) {
        answer(s, o);
        return;
    }
    o->step++;
    o->due_nsec = now_nsec() + some_delay_nsec(s);
}

/* --- requests -------------------------------------------------------------------------------------------------------- */

static struct server *server_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static bool is_file(const struct server *s, fuse_ino_t ino)
{
    return ino >= FIRST_FILE && ino < FIRST_FILE + s->f->count;
}

static struct op *free_op(struct server *s)
{
    for (unsigned i = 0; i < OPS_MAX; i++)
        if (!s->ops[i].used)
            return &s->ops[i];
    return NULL; /* not with max_background below OPS_MAX */
}

static void begin(fuse_req_t req, fuse_ino_t ino, enum op_kind kind, uint64_t offset, size_t length, const void *data)
{
    struct server *s = server_of(req);
    struct op *o = free_op(s);

    if (!o || !is_file(s, ino) || offset > s->f->size_bytes || length > s->f->size_bytes - offset) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    *o = (struct op){.used = true,
        .kind = kind,
        .steps = 1,
        .req = req,
        .disk = (unsigned)(ino - FIRST_FILE),
        .offset = offset,
        .length = length,
        .number = ++s->next_number,
        .start_nsec = now_nsec()};
    if (data) {
        o->data = malloc(length ? length : 1);
        memcpy(o->data, data, length);
    }
    if ((unsigned)rand_r(&s->seed) % 1000 < atomic_load(&s->f->shared->permille)) {
        o->steps = kind == OP_WRITE ? 2 + (unsigned)rand_r(&s->seed) % 2 : 1 + (unsigned)rand_r(&s->seed) % 2;
        o->due_nsec = o->start_nsec + some_delay_nsec(s);
    } else {
        do_step(s, o);
    }
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    begin(req, ino, OP_READ, (uint64_t)off, size, NULL);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    begin(req, ino, OP_WRITE, (uint64_t)off, size, buf);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync, (void)fi;
    begin(req, ino, OP_FSYNC, 0, 0, NULL);
}

static void describe(const struct server *s, fuse_ino_t ino, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = ino == FUSE_ROOT_ID ? 0 : (off_t)s->f->size_bytes;
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    describe(server_of(req), ino, &st);
    (void)fuse_reply_attr(req, &st, FOREVER);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {.attr_timeout = FOREVER, .entry_timeout = FOREVER};
    struct server *s = server_of(req);
    unsigned disk = (unsigned)(name[0] - '0');

    if (parent != FUSE_ROOT_ID || name[1] != '\0' || disk >= s->f->count) {
        (void)fuse_reply_err(req, ENOENT);
        return;
    }
    e.ino = FIRST_FILE + disk;
    describe(s, e.ino, &e.attr);
    (void)fuse_reply_entry(req, &e);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (is_file(server_of(req), ino))
        (void)fuse_reply_open(req, fi);
    else
        (void)fuse_reply_err(req, EISDIR);
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->max_background = OPS_MAX / 2;
    conn->congestion_threshold = OPS_MAX / 2;
}

static const struct fuse_lowlevel_ops operations = {.init = on_init,
    .lookup = on_lookup,
    .getattr = on_getattr,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync};

/* --- the server's process --------------------------------------------------------------------------------------------- */

static struct op *next_due(struct server *s)
{
    struct op *first = NULL;

    for (unsigned i = 0; i < OPS_MAX; i++)
        if (s->ops[i].used && (!first || s->ops[i].due_nsec < first->due_nsec))
            first = &s->ops[i];
    return first;
}

static void serve(struct server *s)
{
    struct fuse_buf buf = {0};

    while (!fuse_session_exited(s->session)) {
        struct pollfd p = {.fd = fuse_session_fd(s->session), .events = POLLIN};
        struct op *o = next_due(s);
        uint64_t now = now_nsec(), wait = o && o->due_nsec > now ? o->due_nsec - now : 0;
        struct timespec t = {.tv_sec = (time_t)(wait / NSEC), .tv_nsec = (long)(wait % NSEC)};
        int ready = ppoll(&p, 1, o ? &t : NULL, NULL);

        if (ready > 0 && fuse_session_receive_buf(s->session, &buf) > 0)
            fuse_session_process_buf(s->session, &buf);
        o = next_due(s);
        if (o && o->due_nsec <= now_nsec())
            do_step(s, o);
    }
    free(buf.mem);
}

static _Noreturn void server_main(struct fusedisk *f, unsigned seed, int ready_fd)
{
    static struct server s;
    char *argv[] = {"fusedisk", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "fusedisk");
    (void)prctl(PR_SET_IO_FLUSHER, 1); /* no page is to be freed by writing to a disk that this process serves */
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    s.f = f;
    s.seed = seed;
    s.session = fuse_session_new(&args, &operations, sizeof(operations), &s);
    if (!s.session || fuse_session_mount(s.session, f->path) < 0)
        _exit(1);
    if (write(ready_fd, "", 1) != 1)
        _exit(1);
    serve(&s);
    _exit(0);
}

/* --- the test's side ----------------------------------------------------------------------------------------------------- */

static void *shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

struct fusedisk *fusedisk_start(const char *dir, unsigned count, uint64_t size_bytes, unsigned seed)
{
    struct fusedisk *f = calloc(1, sizeof(*f));
    int ready[2];
    char byte;

    assert_non_null(f);
    assert_true(count <= FUSEDISK_MAX);
    (void)snprintf(f->path, sizeof(f->path), "%.100s/fusedisk", dir);
    assert_int_equal(mkdir(f->path, 0700), 0);
    f->count = count;
    f->size_bytes = size_bytes;
    f->shared = shared_memory(sizeof(*f->shared));
    for (unsigned i = 0; i < count; i++)
        f->content[i] = shared_memory(size_bytes);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    f->server = fork();
    assert_true(f->server >= 0);
    if (f->server == 0)
        server_main(f, seed, ready[1]);
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    return f;
}

void fusedisk_stop(struct fusedisk *f)
{
    if (!f)
        return;
    (void)umount2(f->path, MNT_DETACH);
    (void)kill(f->server, SIGKILL);
    (void)waitpid(f->server, NULL, 0);
    (void)rmdir(f->path);
    for (unsigned i = 0; i < f->count; i++)
        (void)munmap(f->content[i], f->size_bytes);
    (void)munmap(f->shared, sizeof(*f->shared));
    free(f);
}

int fusedisk_open(struct fusedisk *f, unsigned disk)
{
    char path[160];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%u", f->path, disk);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

void fusedisk_set_delays(struct fusedisk *f, unsigned permille, unsigned max_usec)
{
    atomic_store(&f->shared->max_usec, max_usec);
    atomic_store(&f->shared->permille, permille);
}

void fusedisk_set_bad(struct fusedisk *f, unsigned slot, unsigned disk, uint64_t start, uint64_t length)
{
    struct bad *b = &f->shared->bad[slot];

    atomic_store(&b->length, 0);
    atomic_store(&b->disk, disk);
    atomic_store(&b->start, start);
    atomic_store(&b->length, length);
}

void fusedisk_hold(struct fusedisk *f, bool held)
{
    atomic_store(&f->shared->held, held);
}

void fusedisk_get_counts(struct fusedisk *f, struct fusedisk_counts *ret_counts)
{
    const struct shared *h = f->shared;

    *ret_counts = (struct fusedisk_counts){.reads = atomic_load(&h->reads),
        .writes = atomic_load(&h->writes),
        .flushes = atomic_load(&h->flushes),
        .overtaken = atomic_load(&h->overtaken),
        .failed = atomic_load(&h->failed)};
}

const uint8_t *fusedisk_content(const struct fusedisk *f, unsigned disk)
{
    return f->content[disk];
}

bool fusedisk_find_write(const struct fusedisk *f, uint32_t tag, uint64_t *ret_start_nsec, uint64_t *ret_end_nsec)
{
    const struct noted *n = &f->shared->noted_writes[tag % NOTED_WRITES];

    if (atomic_load(&n->tag) != tag)
        return false;
    *ret_start_nsec = atomic_load(&n->start_nsec);
    *ret_end_nsec = atomic_load(&n->end_nsec);
    return atomic_load(&n->tag) == tag;
}

bool fusedisk_has_flush(const struct fusedisk *f, unsigned disk, uint64_t after_nsec, uint64_t before_nsec)
{
    for (unsigned i = 0; i < NOTED_FLUSHES; i++) {
        const struct noted *n = &f->shared->noted_flushes[disk][i];

        if (atomic_load(&n->tag) && atomic_load(&n->start_nsec) >= after_nsec &&
            atomic_load(&n->end_nsec) <= before_nsec)
            return true;
    }
    return false;
}
