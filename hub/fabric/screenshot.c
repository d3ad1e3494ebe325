/* SPDX-License-Identifier: Apache-2.0
 *
 * qemu writes PPM without comments; the format allows them anywhere in the header, so they are read. The picture comes from a hypervisor that may run a
 * hostile guest: every number is held to a bound before anything is allocated. libpng's simplified API does the rest.
 */
#include "hub/fabric/screenshot.h"

#include <ctype.h>
#include <png.h>
#include <string.h>

#define COLOURS 3

static const uint8_t png_signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

static int broken(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the host's picture of the screen is neither a PPM nor a PNG");
}

/* The next number of the header, behind white space and comments; -1: there is none, or it is too large. */
static long next_number(const struct buf *image, size_t *at)
{
    long value = 0;
    size_t digits = 0;

    while (*at < image->len && (isspace(image->data[*at]) || image->data[*at] == '#')) {
        if (image->data[*at] == '#')
            while (*at < image->len && image->data[*at] != '\n')
                ++*at;
        else
            ++*at;
    }
    for (; *at < image->len && isdigit(image->data[*at]) && digits < 6; ++*at, digits++)
        value = value * 10 + (image->data[*at] - '0');
    return digits > 0 ? value : -1;
}

int screenshot_png(const struct buf *image, struct buf *png, struct err *err)
{
    size_t at = 2;

    if (image->len >= sizeof(png_signature) && memcmp(image->data, png_signature, sizeof(png_signature)) == 0)
        return buf_append(png, image->data, image->len, err);
    if (image->len < 2 || memcmp(image->data, "P6", 2) != 0)
        return broken(err);
    long width = next_number(image, &at), height = next_number(image, &at), most = next_number(image, &at);

    if (width < 1 || height < 1 || most != 255 || at >= image->len || !isspace(image->data[at]))
        return broken(err);
    at++;
    if (width > SCREENSHOT_SIDE_MAX || height > SCREENSHOT_SIDE_MAX)
        return err_set(err, ERR_REFUSED, "the replica's screen has %ld x %ld pixels", width, height);
    if ((image->len - at) / COLOURS / (size_t)width < (size_t)height)
        return broken(err);
    png_image p = {.version = PNG_IMAGE_VERSION,
        .width = (png_uint_32)width,
        .height = (png_uint_32)height,
        .format = PNG_FORMAT_RGB};
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(p);

    if (buf_reserve(png, bytes, err) < 0)
        return -1;
    if (!png_image_write_to_memory(&p, png->data + png->len, &bytes, 0, image->data + at, 0, NULL)) {
        (void)err_set(err, ERR_IO, "the picture of the screen could not be written: %.80s", p.message);
        png_image_free(&p);
        return -1;
    }
    png->len += bytes;
    return 0;
}
