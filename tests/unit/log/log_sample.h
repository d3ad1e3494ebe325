/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed content that the tests of the change log share: one machine, one key, blocks made from a number, and a mark.
 */
#ifndef TESTS_UNIT_LOG_LOG_SAMPLE_H
#define TESTS_UNIT_LOG_LOG_SAMPLE_H

#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/log/segment.h"

extern const struct ident sample_machine;
extern const struct seal_key sample_key;

/* Fills data with bytes that follow from the seed: text-like (compressible) or noise. */
void sample_block(uint32_t seed, bool compressible, uint8_t *data, size_t n);
/* A crash-consistent mark of one disk (number 0, "vda", 1 GiB). */
void sample_mark(uint64_t sequence, struct mark *m);
/* A new empty folder under TMPDIR; the descriptor of it. */
int sample_folder(char path[64]);
void sample_folder_remove(const char *path);
/* A change set as the node would spool it: `blocks` sealed blocks and the mark. */
void sample_change_set(struct seal_work *w, uint64_t sequence, unsigned blocks, bool encrypted, struct buf *out);

#endif
