/* SPDX-License-Identifier: Apache-2.0
 *
 * Text that may be stored and served: PostgreSQL and JSON take UTF-8 only (RFC 3629), and whoever cuts a text to a size may cut a character in two.
 */
#ifndef HUB_CORE_PLAIN_TEXT_H
#define HUB_CORE_PLAIN_TEXT_H

#include <stddef.h>

/* One line of valid UTF-8: control characters become spaces, bytes that are none question marks, and it is cut to the size (at least 1, for the NUL) at the
 * end of a character. NULL counts as "". */
void plain_text_copy(char *out, size_t size, const char *in);
/* The same of a text in its own place, whose last character may have been cut. */
void plain_text_tidy(char *text);

#endif
