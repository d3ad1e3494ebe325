/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads an open point over NBD and measures it, as a program that restores from it or boots it would: at random, and from its
 * beginning on. Only what holds data is read; holes would flatter.
 */
#ifndef HUB_CLI_NBD_READER_H
#define HUB_CLI_NBD_READER_H

#include <signal.h>

#include "hub/cli/latency.h"

#define NBD_READER_BLOCK_BYTES 4096u
#define NBD_READER_DEPTH 8u /* requests under way at once */

struct nbd_reader;

/* Connects to an NBD URI and reads one block, so that the export is known to work. ERR_UNAVAILABLE: it cannot be reached from
 * here; ERR_UNSUPPORTED: a kind of URI that is not spoken. */
int nbd_reader_open(const char *uri, struct nbd_reader **ret_reader, struct err *err);
void nbd_reader_close(struct nbd_reader *reader);
/* What follows ends early when *stop is set (by a signal handler). */
void nbd_reader_set_stop(struct nbd_reader *reader, const volatile sig_atomic_t *stop);

uint64_t nbd_reader_size_bytes(const struct nbd_reader *reader);
/* Looks where data is, for a while at most: what is farther back than *ret_looked_bytes is not read. Before the reads. */
int nbd_reader_map(struct nbd_reader *reader, uint64_t *ret_data_bytes, uint64_t *ret_looked_bytes, struct err *err);
/* Blocks at random for so long. Needs data. */
int nbd_reader_random(
    struct nbd_reader *reader, uint64_t usec, struct latency *latency, double *ret_per_second, struct err *err);
/* Everything from the beginning on, for so long at most. */
int nbd_reader_sequential(
    struct nbd_reader *reader, uint64_t usec, uint64_t *ret_bytes, double *ret_bytes_per_second, struct err *err);

#endif
