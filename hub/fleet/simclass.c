/* SPDX-License-Identifier: Apache-2.0
 *
 * A mix as offices have it: many web and application servers, fewer databases, some file and mail servers.
 */
#include "hub/fleet/simclass.h"

static const struct simclass classes[] = {
    {"web", "Debian GNU/Linux 12 (bookworm)", "6.1.0-18-amd64", "ext4", "/srv/www", 0.2, 40, 8, 4, 14, 0.8},
    {"app", "Ubuntu 24.04.1 LTS", "6.8.0-45-generic", "ext4", "/opt", 0.6, 80, 16, 8, 11, 0.7},
    {"db", "Red Hat Enterprise Linux 9.4 (Plow)", "5.14.0-427.el9.x86_64", "xfs", "/var/lib/pgsql", 3.0, 500, 64, 16,
        13, 0.5},
    {"file", "Debian GNU/Linux 12 (bookworm)", "6.1.0-18-amd64", "xfs", "/srv/share", 1.0, 2000, 16, 4, 10, 0.9},
    {"mail", "SUSE Linux Enterprise Server 15 SP6", "6.4.0-150600.23-default", "btrfs", "/var/mail", 1.5, 300, 32, 8, 9,
        0.8},
    {"batch", "Ubuntu 22.04.4 LTS", "5.15.0-105-generic", "ext4", "/data", 2.0, 120, 32, 16, 2, 0.9},
};

const struct simclass *simclass_of(unsigned number)
{
    static const unsigned char of_twenty[20] = {0, 1, 2, 0, 3, 0, 1, 4, 0, 1, 2, 5, 0, 1, 0, 3, 2, 0, 1, 0};

    return &classes[of_twenty[number % sizeof(of_twenty)]];
}
