/* SPDX-License-Identifier: Apache-2.0
 *
 * The console of a build without one (LEEWARD_CONSOLE=OFF): no file.
 */
#include "hub/api/console.h"

const struct console_file console_files[1];
const size_t console_file_count = 0;
const unsigned char console_blob[1];
