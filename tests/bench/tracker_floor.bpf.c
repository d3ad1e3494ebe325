/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Does nothing where the tracker does something: what the kernel says of its time is what measuring takes.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct request;

SEC("tp_btf/block_rq_issue")
int BPF_PROG(issue, struct request *rq)
{
    return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(complete, struct request *rq)
{
    return 0;
}
