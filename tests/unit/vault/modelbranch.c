/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/vault/modelbranch.h"

#define CHANGE_MAX 90000u

void modelbranch_init(struct modelbranch *r, const struct model *m, const char *name)
{
    *r = (struct modelbranch){0};
    (void)snprintf(r->dir, sizeof(r->dir), "%s/branches/%s", m->machine_dir, name);
}

void modelbranch_close(struct modelbranch *r)
{
    branch_close(TAKE_PTR(r->b));
    view_close(TAKE_PTR(r->base));
}

void modelbranch_done(struct modelbranch *r)
{
    modelbranch_close(r);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        free(TAKE_PTR(r->disks[i]));
}

void modelbranch_open(struct modelbranch *r, struct model *m, const char *name, unsigned point)
{
    struct err err = ERR_INIT;
    uint32_t stream;
    struct branch_info info = {.machine = m->conf.machine, .base_sequence = m->points[point].sequence};
    assert_int_equal(ident_from_text(name, &info.id), 0);
    assert_int_equal(store_flush(m->store, &err), 0);
    assert_int_equal(store_take_nonce_stream(m->store, &stream, &err), 0);
    assert_int_equal(view_open(m->machine_dir, info.base_sequence, &m->opened.keys, 0, &r->base, &err), 0);
    assert_int_equal(branch_base_check(view_mark(r->base), &info.base_check, &err), 0);
    assert_int_equal(branch_create(r->dir, &info, &err), 0);
    struct branch_conf conf = {.dir = r->dir, .base = r->base, .keys = &m->opened.keys, .nonce_stream = stream};
    assert_int_equal(branch_open(&conf, &r->b, &err), 0);
}

void modelbranch_begin(struct modelbranch *r, struct model *m, const char *name, unsigned point)
{
    modelbranch_open(r, m, name, point);
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        free(r->disks[i]);
        r->disks[i] = malloc(m->disk_bytes[i]);
        assert_non_null(r->disks[i]);
        memcpy(r->disks[i], m->points[point].disks[i], m->disk_bytes[i]);
    }
}

void modelbranch_change(struct modelbranch *r, struct model *m)
{
    struct err err = ERR_INIT;
    unsigned disk = (unsigned)model_random(m, MODEL_DISKS);
    uint64_t at = model_random(m, m->disk_bytes[disk]);
    uint64_t longest = m->disk_bytes[disk] - at;
    uint64_t n = model_random(m, longest < CHANGE_MAX ? longest : CHANGE_MAX) + 1;
    memset(r->disks[disk] + at, (int)model_random(m, 256), n);
    assert_int_equal(branch_write(r->b, disk, at, n, r->disks[disk] + at, &err), 0);
}

void modelbranch_work(struct modelbranch *r, struct model *m, int changes)
{
    struct err err = ERR_INIT;
    for (int i = 0; i < changes; i++)
        modelbranch_change(r, m);
    assert_int_equal(branch_flush(r->b, &err), 0);
}
