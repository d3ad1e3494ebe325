/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast bulk messages go through rpc: one process sends 1 MiB messages to another one, over TLS on loopback or over a plain
 * unix socket. Prints megabytes per second, and per second of processor time of either side.
 *     rpc_throughput tls|plain MEGABYTES
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/rpc/testca.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/rpc/rpc.h"

#define MESSAGE_BYTES (1u << 20)

struct bench {
    sd_event *loop;
    struct rpc_call *call;
    size_t left;
    size_t received;
    struct err err;
    bool done;
};

static void must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- server ---- */

static void sink_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)call;
    ((struct bench *)arg)->received += message->len;
}

static void sink_half(struct rpc_call *call, void *arg)
{
    (void)arg;
    rpc_call_finish(call, RPC_OK, NULL);
}

static void sink_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct bench *b = arg;
    (void)call;
    (void)status;
    (void)text;
    b->done = true;
}

static const struct rpc_call_ops sink_ops = {
    .on_message = sink_message, .on_half = sink_half, .on_end = sink_end, .auto_consume = true};

static int sink_accept(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    (void)call;
    (void)err;
    *ret_ops = &sink_ops;
    *ret_arg = arg;
    return 0;
}

static const struct rpc_method methods[] = {{"/bench.B/Sink", sink_accept, false}};

static void serve(struct testca_files *files, const char *address, int port_fd)
{
    struct bench b = {0};
    struct tls_context *tls = NULL;
    struct rpc_server *server = NULL;
    sd_event_new(&b.loop);
    if (files != NULL)
        must(tls_server_new(&files->files, false, &tls, &b.err), &b.err);
    must(rpc_server_new(b.loop, address, tls, methods, 1, &b, NULL, &server, &b.err), &b.err);
    unsigned port = rpc_server_port(server);
    if (write(port_fd, &port, sizeof(port)) != sizeof(port))
        exit(1);
    while (!b.done)
        sd_event_run(b.loop, UINT64_MAX);
    printf("receiver: %.0f MB per second of processor time\n", (double)b.received / 1e6 / cpu_seconds());
    rpc_server_free(server);
    tls_context_free(tls);
    sd_event_unref(b.loop);
}

/* ---- client ---- */

static void send_more(struct bench *b)
{
    while (b->left > 0) {
        struct buf head = BUF_INIT(16), body = BUF_INIT(MESSAGE_BYTES);
        must(buf_append(&head, "\x12\x80\x80\x40", 4, &b->err), &b->err);
        must(buf_reserve(&body, MESSAGE_BYTES, &b->err), &b->err);
        body.len = MESSAGE_BYTES;
        memset(body.data, (int)b->left, 4096);
        b->left--;
        int rc = rpc_call_send2(b->call, &head, &body, &b->err);
        must(rc, &b->err);
        if (rc == 0)
            return;
    }
    rpc_call_half_close(b->call);
}

static void on_writable(struct rpc_call *call, void *arg)
{
    (void)call;
    send_more(arg);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    if (status != RPC_OK)
        fprintf(stderr, "status %d: %s\n", (int)status, text);
    ((struct bench *)arg)->done = true;
}

static const struct rpc_call_ops client_ops = {.on_writable = on_writable, .on_end = on_end};

static void run_client(struct testca_files *files, const char *address, size_t megabytes)
{
    struct bench b = {.left = megabytes};
    struct tls_context *tls = NULL;
    struct rpc_channel *channel = NULL;
    sd_event_new(&b.loop);
    if (files != NULL)
        must(tls_client_new(&files->files, NULL, &tls, &b.err), &b.err);
    must(rpc_channel_new(b.loop, address, tls, "node", NULL, NULL, &channel, &b.err), &b.err);
    uint64_t begun = clock_mono_usec();
    must(rpc_call_start(channel, "/bench.B/Sink", 0, false, &client_ops, &b, &b.call, &b.err), &b.err);
    send_more(&b);
    while (!b.done)
        sd_event_run(b.loop, UINT64_MAX);
    double sec = (double)(clock_mono_usec() - begun) / 1e6, bytes = (double)megabytes * MESSAGE_BYTES;
    printf("wall: %.0f MB/s\nsender: %.0f MB per second of processor time\n", bytes / 1e6 / sec,
        bytes / 1e6 / cpu_seconds());
    rpc_channel_free(channel);
    tls_context_free(tls);
    sd_event_unref(b.loop);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/leeward-throughput-XXXXXX", address[128];
    struct testca_files server_files, client_files;
    int port_pipe[2];
    if (argc != 3 || mkdtemp(dir) == NULL || pipe(port_pipe) < 0)
        return 2;
    bool tls = strcmp(argv[1], "tls") == 0;
    struct testca *ca = testca_new(dir, "ca");
    testca_issue(ca, "server", &(struct testca_leaf){.role = "node"}, &server_files);
    testca_issue(ca, "client", &(struct testca_leaf){.role = "agent"}, &client_files);
    snprintf(address, sizeof(address), tls ? "127.0.0.1:0" : "unix:%s/s.sock", dir);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        serve(tls ? &server_files : NULL, address, port_pipe[1]);
        testca_free(ca);
        return 0;
    }
    unsigned port = 0;
    if (read(port_pipe[0], &port, sizeof(port)) != sizeof(port))
        return 1;
    if (tls)
        snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    run_client(tls ? &client_files : NULL, address, (size_t)atol(argv[2]));
    waitpid(child, NULL, 0);
    testca_free(ca);
    return file_remove_tree(dir, NULL) == 0 ? 0 : 1;
}
