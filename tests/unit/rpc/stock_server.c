/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of the rpc tests on a port of their own, for a stock gRPC client (tests/system/test_grpc_stock.py). Prints the port
 * and the folder with CA and certificates (server.*, client.*), serves until standard input ends, and cleans up.
 */
#include "tests/unit/rpc/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int on_input(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    char bytes[64];
    (void)source;
    (void)events;
    if (read(fd, bytes, sizeof(bytes)) <= 0)
        *(bool *)arg = true;
    return 0;
}

int main(void)
{
    void *state = NULL;
    bool over = false;
    if (fixture_setup(&state) != 0)
        return 1;
    struct fixture *f = state;
    f->flood_count = 64;
    f->flood_bytes = 1 << 20;
    fixture_serve(f, true);
    printf("%u %s\n", rpc_server_port(f->server), f->dir);
    fflush(stdout);
    if (sd_event_add_io(f->loop, NULL, STDIN_FILENO, EPOLLIN, on_input, &over) < 0)
        return 1;
    while (!over && sd_event_run(f->loop, UINT64_MAX) >= 0)
        ;
    return fixture_teardown(&state);
}
