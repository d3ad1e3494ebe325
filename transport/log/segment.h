/* SPDX-License-Identifier: Apache-2.0
 *
 * A segment: one file of records of one log. A log (a machine's main line, a branch, or a node's spool of one machine) is
 * the concatenation of its segments by number. Only the last one grows; a sealed one ends in a RECORD_SEAL and never
 * changes again.
 *
 *   off size   file header, SEGMENT_HEADER_SIZE = 4096 bytes, the rest zero
 *     0   8  magic "LWSEG\0\0\1" (the last byte is the version)
 *     8  16  machine id
 *    24  16  log id: zero = main line, else the branch id
 *    40   8  segment number, from 1
 *    48   8  first_sequence: the change set that the first record belongs to
 *    56   8  created, microseconds UTC
 *    64   4  low 32 bits of XXH3-64 of bytes 0..63
 *
 * File names: "%016llx.seg" of the number. The payload of a seal record: u64 records before it, u64 file bytes before it,
 * 16 bytes XXH3-128 over all record headers in the file, in order (seal payloads are hashed in their record, as marks are).
 *
 * A segment is sealed only directly behind a mark (or empty). So a change set lies in one segment, a torn one is always in
 * the last segment, and nothing ever has to be cut out of a sealed file (P6).
 *
 * A rewritten segment (version 2 of the header) is the same segment without the records that no retained point needs. Its
 * records keep the places that they had: all offsets that readers take and give are those of the segment as it was written, so
 * whoever has noted where a record lies finds it there, in the old file and in the new one.
 *
 * Writers are single-threaded; readers use pread and may run in any number of threads and processes beside the writer.
 */
#ifndef TRANSPORT_LOG_SEGMENT_H
#define TRANSPORT_LOG_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/log/record.h"

#define SEGMENT_HEADER_SIZE 4096u
#define SEGMENT_TARGET_BYTES (64u << 20) /* sealed directly behind the first mark at or after this */
#define SEGMENT_NAME_SIZE 24

struct segment_info {
    struct ident machine;
    struct ident log;
    uint64_t number;
    uint64_t first_sequence;
    uint64_t created_utc_usec;
    /* Of a rewritten segment (segment_rewrite.h); zero in others. */
    uint32_t revision;      /* how often it was rewritten */
    uint64_t last_sequence; /* of the last mark that stood in it, whether it still does or not */
    uint64_t end_bytes;     /* where its records ended when it was written */
};

/* Points from <= sequence < before cannot be read any more: records that they need were taken out. */
struct segment_lost {
    uint64_t from, before;
};

void segment_name(uint64_t number, char out[SEGMENT_NAME_SIZE]);
int segment_number_from_name(const char *name, uint64_t *ret_number); /* -1: not a segment's name */

/* ---- writing ---- */
struct segment_writer;
/* Creates the file in dirfd (ERR_EXISTS if it is there), writes the header, fsyncs file and folder. */
int segment_create(int dirfd, const struct segment_info *info, struct segment_writer **ret_writer, struct err *err);
/* Opens an unsealed segment for appending at `end_bytes` (as segment_recover found it, that is: behind a mark or the file
 * header) and truncates what lies behind. ERR_REFUSED for a sealed one, ERR_CORRUPT when it is shorter than that. */
int segment_reopen(int dirfd, uint64_t number, uint64_t end_bytes, struct segment_writer **ret_writer, struct err *err);
/* Appends whole records that are already encoded (any number; iov is not changed). *ret_offset is the file offset of the
 * first. On failure the writer is poisoned until segment_rewind. */
int segment_append(
    struct segment_writer *w, const struct iovec *iov, unsigned iov_count, uint64_t *ret_offset, struct err *err);
int segment_sync(struct segment_writer *w, struct err *err); /* fdatasync */
/* Tells that more is coming, and whether it is known to be much. Much, or what follows when much was appended since the last sync, goes past
 * the page cache until the next one, and cannot be read before. A hint: what goes wrong is found by the append or the sync behind it. */
#define SEGMENT_MUCH_BYTES (4u << 20)
void segment_expect_more(struct segment_writer *w, bool much);
/* Drops everything at and behind end_bytes (a torn change set, or a write that failed), which is behind a mark or the file
 * header. */
int segment_rewind(struct segment_writer *w, uint64_t end_bytes, struct err *err);
/* Appends the seal record and fsyncs. The writer can only be closed afterwards. ERR_REFUSED when the last record is not a
 * mark: finish or rewind the change set first. */
int segment_seal(struct segment_writer *w, struct err *err);
uint64_t segment_end(const struct segment_writer *w); /* bytes in the file so far */
int segment_writer_fd(const struct segment_writer *w);
void segment_writer_close(struct segment_writer *w); /* no sync; NULL is allowed */
DEFINE_AUTO(segment_writer, segment_writer_close)

/* ---- reading ---- */
struct segment_reader;
int segment_open(int dirfd, uint64_t number, struct segment_reader **ret_reader, struct err *err);
const struct segment_info *segment_reader_info(const struct segment_reader *r);
/* The ranges that a rewritten segment states, ascending; none in others. Good as long as the reader is. */
size_t segment_reader_lost(const struct segment_reader *r, const struct segment_lost **ret_lost);
/* Was the file replaced or removed since it was opened? */
bool segment_reader_is_stale(const struct segment_reader *r);
void segment_reader_close(struct segment_reader *r);
DEFINE_AUTO(segment_reader, segment_reader_close)
/* Reads the record at *offset into the reader's own buffer (valid until the next call) and moves *offset behind it; start at
 * SEGMENT_HEADER_SIZE. The seal is a record like the others. Returns 1; 0 at the end of the file or behind a seal; -1
 * ERR_CORRUPT at a torn or damaged record (*offset stays at it). In a rewritten segment it passes over what was taken out:
 * segment_reader_place tells where the record lies. */
int segment_read_next(struct segment_reader *r, uint64_t *offset, struct record *ret_record,
    const uint8_t **ret_payload, struct err *err);
/* Offset of the record that segment_read_next gave last. */
uint64_t segment_reader_place(const struct segment_reader *r);
/* The place of the byte that now lies at that offset of the file; the offset itself where nothing was rewritten. */
uint64_t segment_reader_place_at(const struct segment_reader *r, uint64_t file_offset);
/* Reads the record at a known place; thread-safe. ret_record may be NULL; payload may be NULL with payload_max 0 (header
 * only). ERR_TOO_LARGE when the payload is longer than payload_max. */
int segment_pread(const struct segment_reader *r, uint64_t offset, struct record *ret_record, uint8_t *payload,
    size_t payload_max, struct err *err);

/* Crash recovery of the last segment: scans records and calls on_mark with each valid mark and the offset behind it.
 * *ret_end is the offset behind the last valid mark (SEGMENT_HEADER_SIZE if none); *ret_sealed tells that it ends in a
 * good seal. Data behind the last mark is not an error: it is a change set that never was. Damage before a later valid mark
 * is ERR_CORRUPT, and *ret_end is then the offset behind the last mark before the damage. Headers and marks are checked;
 * payloads of data records are not (that takes the key: seal_open). What the medium does not give back is ERR_IO with EIO. A file that is too short to have a header never was a
 * segment: ERR_NOT_FOUND. */
int segment_recover(int dirfd, uint64_t number,
    void (*on_mark)(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes), void *arg,
    uint64_t *ret_end, bool *ret_sealed, struct err *err);

#endif
