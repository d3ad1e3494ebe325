/* SPDX-License-Identifier: Apache-2.0
 *
 * The cards of a network namespace of the test's own.
 */
#include "mobility/nic_list.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/mem.h"

static bool has_address(const struct nic *nic, const char *address)
{
    for (size_t i = 0; i < nic->address_count; i++)
        if (strcmp(nic->addresses[i], address) == 0)
            return true;
    return false;
}

static void all_addresses_of_a_card_are_listed_with_labels_and_without(void **state)
{
    struct nic list[NIC_LIST_MAX] = {0};
    const struct nic *card = NULL;
    size_t n;

    (void)state;
    assert_int_equal(system("ip address add 192.0.2.7/24 dev lwtest0 && "
                            "ip address add 192.0.2.8/24 dev lwtest0 label lwtest0:1 && "
                            "ip address add 198.51.100.9/25 dev lwtest0 label lwtest0:second && "
                            "ip address add 203.0.113.5/24 dev lwtest1 && "
                            "ip address add 2001:db8::7/64 dev lwtest0 nodad"),
        0);
    n = nic_list_read(list, ARRAY_LEN(list));
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, "lwtest0") == 0)
            card = &list[i];
    assert_non_null(card);
    assert_true(has_address(card, "192.0.2.7/24"));
    assert_true(has_address(card, "192.0.2.8/24"));
    assert_true(has_address(card, "198.51.100.9/25"));
    assert_true(has_address(card, "2001:db8::7/64"));
    assert_int_equal(card->address_count, 4); /* and none of the other card's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_addresses_of_a_card_are_listed_with_labels_and_without),
    };

    if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0 ||
        system("ip link add lwtest0 type veth peer name lwtest1 2>/dev/null || "
               "{ ip tuntap add lwtest0 mode tap && ip tuntap add lwtest1 mode tap; } 2>/dev/null") != 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
