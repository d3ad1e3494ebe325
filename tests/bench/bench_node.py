# SPDX-License-Identifier: Apache-2.0
"""A process node under the streams of 225 machines that change 232 MB/s in total (20 TB a day; a little more is offered, so that the goal can be
passed): how much of it goes through, within which memory, and what it costs, beside `zstd -1 | openssl enc` on the same bytes.

The streams are real ones (node_load: a certificate, a connection and change sets of 1 MiB with a mark each about every second for each
machine); their payloads are raw, half of them files of this machine and half random, so the node has all of the work. They are offered twice.
First while the vault is away, having opened every machine: then each change set has to be checked, compressed, encrypted and durable in the
spool before it is acknowledged; that is what the figures without a suffix are about. Then with a real vault beside it, which checks, stores and
commits them all: the same work, and TLS to the vault, but hardly a flush, since what the vault has committed needs none here.

All of it runs on one machine: the node shares its processors with the senders, and in the second part with a vault, which a real one does
not. Throughput is therefore what the whole machine did; the node's own processor time says what it would do alone (per_core_mb_s, from
processor seconds, not from a clock). The hub is away the whole time, which no stream feels."""
import json
import os
import random
import resource
import signal
import subprocess
import urllib.request

import cpu
import harness
from figure import figure

STREAMS, MB_PER_S = 225, 232
OFFERED_MB_PER_S = round(MB_PER_S * 1.03)  # what is offered bounds what is reached: at just the goal, rounding and the last second would decide
DATA_BYTES = 256 << 20
PIECE_BYTES = 1 << 20
MIB = 1 << 20
SPOOL_USED = 0.8  # of what arrives, at most; with some room, so that the spool's limit is no part of the measurement


def write_data(path):
    """Half files of this machine, half random bytes, a mebibyte of each in turn."""
    rng = random.Random(7)
    folders = ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/share/doc", "/usr/share/perl5", harness.BIN]
    files = sorted(os.path.join(folder, name) for top in folders for folder, _, names in os.walk(top) for name in names)
    rng.shuffle(files)
    real, need = bytearray(), DATA_BYTES // 2
    for file in files:
        if len(real) >= need:
            break
        if os.path.isfile(file) and not os.path.islink(file):
            with open(file, "rb") as f:
                real += f.read(4 * MIB)
    harness.check(len(real) >= need, "too few files here to make data of")
    with open(path, "wb") as out:
        for at in range(0, need, PIECE_BYTES):
            out.write(real[at:at + PIECE_BYTES])
            out.write(rng.randbytes(PIECE_BYTES))


def measure_peers(data, rounds):
    """Processor seconds per GB (of input) of the pipe that somebody would build, its output in a file; the least of some rounds."""
    out, best = harness.fresh("peer.out"), None
    command = f"zstd -1 -q -c '{data}' | openssl enc -aes-256-ctr -K {'5a' * 32} -iv {'00' * 16} -out '{out}'"
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        harness.run("bash", "-o", "pipefail", "-c", command, timeout=300)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best or seconds, seconds)
    stored = os.path.getsize(out)
    os.unlink(out)
    return best / (DATA_BYTES / 1e9), stored / DATA_BYTES


class Senders:
    """node_load: commands go in, one JSON object comes out for each."""

    def __init__(self, folder, data, node_port, vault_port):
        self.process = subprocess.Popen([os.path.join(harness.BIN, "node_load"), folder, data, str(STREAMS), str(OFFERED_MB_PER_S), str(node_port),
                                         str(vault_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=harness.die_with_parent)
        self.process.undo_entry = harness.defer(harness.stop, self.process)

    def answer(self):
        line = self.process.stdout.readline()
        harness.check(line, "node_load ended")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()


def daemon(name, data, port, *options):
    return harness.start([os.path.join(harness.BIN, "leeward-" + name), "--data", data, "--hub", "127.0.0.1:1", "--listen", f"127.0.0.1:{port}",
                          "--log-level", "warn", *options], log=data + ".log")


def peak_rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) * 1024


def node_figures(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {w[0]: float(w[1]) for w in (line.split() for line in lines if line and line[0] != "#") if "{" not in w[0]}


def one_load(senders, node, metrics_port, seconds):
    with open(f"/proc/{node.pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")  # the peak begins again
    before, cpu_before = node_figures(metrics_port), cpu.of_process(node.pid)[1]
    result = senders.ask(f"load {seconds}")
    after, used = node_figures(metrics_port), cpu.of_process(node.pid)[1] - cpu_before
    gb = result["acknowledged_mb"] / 1e3
    return {"offered_mb_s": round(result["offered_mb"] / seconds, 1), "reached_mb_s": round(result["acknowledged_mb"] / result["seconds"], 1),
            "seconds": result["seconds"], "sets_left_out": result["left_out"], "node_cpu_s": round(used, 2),
            "cpu_s_per_gb": round(used / gb, 3), "per_core_mb_s": round(1e3 * gb / used, 1),
            "rss_mib": round(peak_rss_bytes(node.pid) / MIB),
            "spooled_mb": round((after["leeward_node_spool_bytes"] - before["leeward_node_spool_bytes"]) / 1e6, 1),
            "forwarded_mb": round((after["leeward_node_forwarded_bytes_total"] - before["leeward_node_forwarded_bytes_total"]) / 1e6, 1)}


def measure_full(data):
    """Peak memory of a node whose spool is full and whose vault stands still, when 225 agents send until nobody can any more."""
    folder, base = harness.fresh("full"), harness.free_port_base(2)
    os.mkdir(folder, 0o700)
    senders = Senders(folder, data, base, base + 1)
    harness.check(senders.answer()["made"] == STREAMS, "no fleet")
    vault = daemon("vault", folder + "/vault", base + 1)
    node = daemon("node", folder + "/node", base, "--spool-bytes", "64M")
    senders.ask("open")
    os.kill(vault.pid, signal.SIGSTOP)
    senders.ask("fill")
    peak = peak_rss_bytes(node.pid)
    os.kill(vault.pid, signal.SIGCONT)
    senders.ask("settle")  # and nothing of it is lost
    senders.process.stdin.close()
    senders.process.wait()
    harness.stop(node)
    harness.stop(vault)
    return round(peak / MIB)


def measure(options):
    seconds = options.seconds
    folder, data = harness.fresh("fleet"), harness.fresh("payload")
    os.mkdir(folder, 0o700)
    write_data(data)
    peer_s_per_gb, peer_share = measure_peers(data, options.rounds)
    base = harness.free_port_base(3)
    senders = Senders(folder, data, base, base + 1)
    harness.check(senders.answer()["made"] == STREAMS, "no fleet")
    vault = daemon("vault", folder + "/vault", base + 1)
    spool_bytes = int(OFFERED_MB_PER_S * 1e6 * (seconds + 5) * SPOOL_USED / 0.75)  # joining begins at three quarters
    node = daemon("node", folder + "/node", base, "--spool-bytes", str(spool_bytes), "--threads", "2", "--probe-listen",
                  f"127.0.0.1:{base + 2}")
    senders.ask("open")
    harness.note("streams are open, the vault goes away")
    harness.stop(vault)
    spooled = one_load(senders, node, base + 2, seconds)
    harness.note("vault away:", spooled)
    vault = daemon("vault", folder + "/vault", base + 1)
    harness.wait_until(lambda: node_figures(base + 2)["leeward_node_machines_without_vault"] == 0, "the vault to be back", 120)
    senders.ask("settle")
    beside = one_load(senders, node, base + 2, seconds)
    harness.note("vault there:", beside)
    harness.check(node.poll() is None, "the node ended")
    senders.process.stdin.close()
    senders.process.wait()
    full = measure_full(data)
    figure("node.throughput_mb_s", spooled["reached_mb_s"], f"MB/s of {STREAMS} streams, durable in the spool", f">= {MB_PER_S}", leeward=spooled)
    figure("node.rss_mib", max(spooled["rss_mib"], beside["rss_mib"], full), f"MiB at {STREAMS} streams, the peak", "<= 2048",
           leeward={"vault_away_mib": spooled["rss_mib"], "vault_there_mib": beside["rss_mib"], "spool_full_and_vault_stopped_mib": full})
    peers = {"zstd_1_openssl_ctr_cpu_s_per_gb": round(peer_s_per_gb, 3), "zstd_1_stored_share": round(peer_share, 4)}
    figure("node.cpu_s_per_gb", spooled["cpu_s_per_gb"] / peer_s_per_gb, "x zstd -1 | openssl enc -aes-256-ctr, processor seconds", "<= 1.5",
           peers=peers, leeward=spooled)
    figure("node.beside_vault_mb_s", beside["reached_mb_s"], f"MB/s of {STREAMS} streams, committed by a vault on the same processors",
           f">= {MB_PER_S}", leeward=beside)
