/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mobility/sync/diskkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mobility/inventory.h"

void disk_key_of(const char *device, char *ret_key, size_t size)
{
    struct inventory *inventory AUTO_OF(inventory) = NULL;

    ret_key[0] = '\0';
    assert_int_equal(inventory_scan(NULL, &inventory, NULL), 0);
    for (size_t i = 0; i < inventory->disk_count; i++)
        if (strcmp(inventory->disks[i].device, device) == 0)
            (void)snprintf(ret_key, size, "%s", inventory->disks[i].key);
    assert_true(ret_key[0] != '\0');
}
