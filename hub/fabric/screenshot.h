/* SPDX-License-Identifier: Apache-2.0
 *
 * A picture of a replica's screen, as hypervisors give it, to one that a browser shows. Pure.
 */
#ifndef HUB_FABRIC_SCREENSHOT_H
#define HUB_FABRIC_SCREENSHOT_H

#include "transport/base/buf.h"
#include "transport/base/err.h"

#define SCREENSHOT_SIDE_MAX 8192 /* pixels */
#define SCREENSHOT_BYTES_MAX                                                                                           \
    (3u * SCREENSHOT_SIDE_MAX * SCREENSHOT_SIDE_MAX / 4 +                                                              \
        64) /* of an image: as many as 64 MiB has room for, and a header */

/* A PPM (P6, one byte for each colour; netpbm's ppm(5)) becomes a PNG at the end of *png; a PNG is taken as it is. ERR_CORRUPT for anything else, ERR_REFUSED
 * for a screen of more than that many pixels. */
int screenshot_png(const struct buf *image, struct buf *png, struct err *err);

#endif
