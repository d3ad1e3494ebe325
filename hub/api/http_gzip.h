/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers in gzip for clients that take it (RFC 9110 section 12.5.3). Small answers stay as they are: they would not get
 * smaller, and those that carry a secret are all small, so that nothing secret is ever compressed beside what a client
 * chose.
 */
#ifndef HUB_API_HTTP_GZIP_H
#define HUB_API_HTTP_GZIP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_GZIP_MIN 1400u /* about what one packet carries anyway */

/* Whether the header Accept-Encoding (may be NULL) names gzip, or everything, without forbidding it. */
bool http_gzip_accepted(const char *accept_encoding);
/* Replaces *text (freed) by its gzip form; false, and nothing changed, when that is not smaller or there is no memory. */
bool http_gzip(char **text, size_t *len);

#endif
