/* SPDX-License-Identifier: Apache-2.0
 *
 * The web console as files in memory: which one a request gets, in which encoding, and the headers that go with it. The
 * table is linked in (webui/ builds it), so a path is a name to look up and never reaches a file system.
 *
 * A request that no file answers is not the console's business unless it is a browser on its way to a page: the console
 * routes on the client's side, so that every address that asks for text/html gets index.html.
 */
#ifndef HUB_API_CONSOLE_H
#define HUB_API_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

enum console_encoding { CONSOLE_PLAIN, CONSOLE_GZIP, CONSOLE_BROTLI, CONSOLE_ENCODINGS };

struct console_file {
    const char *path; /* "/assets/index-3fa9.js" */
    const char *type; /* Content-Type */
    const char *tag;  /* hash of the content in hex */
    bool immutable;   /* the name has the hash of the content: it never changes */
    struct {
        size_t offset, len; /* in the blob; len 0: not there in this encoding */
    } at[CONSOLE_ENCODINGS];
};

/* Generated, or empty in a build without the console. */
extern const struct console_file console_files[];
extern const size_t console_file_count;
extern const unsigned char console_blob[];

/* Header values are NULL when absent. */
struct console_request {
    const char *method, *path, *accept, *accept_encoding, *if_none_match;
};

#define CONSOLE_ETAG_SIZE 48u
#define CONSOLE_HEADERS_MAX 12u

struct console_answer {
    int status; /* 200 or 304 */
    const void *body;
    size_t body_len;
    char etag[CONSOLE_ETAG_SIZE]; /* with its quotes */
    struct {
        const char *name, *value;
    } headers[CONSOLE_HEADERS_MAX]; /* value points into the answer, the table or constants; ends at name NULL */
};

/* true: the request is the console's and *ret_answer is filled; false: it is not. files[0..count) with their blob are the
 * table, as above. Thread-safe; allocates nothing. */
bool console_find(const struct console_file *files, size_t count, const unsigned char *blob,
    const struct console_request *request, struct console_answer *ret_answer);

/* Whether an Accept or Accept-Encoding header allows `name`, by itself or by a wildcard, with a weight above 0 (RFC 9110,
 * 12.4 and 12.5). An absent header (NULL) allows nothing here: the plain form then. */
bool console_accepts(const char *header, const char *name);

#endif
