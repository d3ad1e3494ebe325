#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`leeward capacity`: measures a disk that nobody protects, leaves no trace, and predicts from the measurement; what it predicts for a steady
load is what comes of protecting the disk."""
import json
import os
import re
import signal
import subprocess
import time
import urllib.request

from harness import BIN, MIB, Disk, Site, check, fresh, free_port_base, main, note, run, start, stop, test, wait_until

LEEWARD = os.path.join(BIN, "leeward")
BLOCK = 64 << 10
WATCHED_SECONDS = 30  # of the load, while the disk is protected; predicted is a minute
PREDICTED_SECONDS = 60
BELOW, ABOVE = 0.6, 1.6  # how far what comes may be from what was predicted


def capacity(*arguments):
    return json.loads(run(LEEWARD, "capacity", *arguments, "-o", "json", timeout=60))


def pins():
    folder = "/sys/fs/bpf/leeward"
    return set(os.listdir(folder)) if os.path.exists(folder) else set()


def pins_of_measuring():
    return {name for name in pins() if name.startswith("measure-")}


def fio(disk, kind, *options):
    """The command that writes half compressible blocks to all of the disk."""
    return ["fio", "--thread", "--name=load", f"--filename={disk.device}", f"--rw={kind}", f"--bs={BLOCK}", f"--size={disk.size_bytes}", "--direct=1",
            "--buffer_compress_percentage=50", "--refill_buffers", "--output=/dev/null", *options]


def steady_load(disk):
    return start(fio(disk, "randwrite", "--rate=4m", "--time_based", "--runtime=900"))


@test
def a_disk_is_measured_without_being_protected():
    disk = Disk(256 * MIB)
    load = steady_load(disk)
    before = pins()
    measured = fresh("measured.json")
    with open(measured, "w") as f:
        subprocess.run([os.path.join(BIN, "leeward-agent"), "--measure", disk.device, "--measure-time", "5s"], check=True, stdout=f)
    check(not [n for n in pins() - before if n.startswith("measure-")], "a trace is left")
    with open(measured) as f:
        numbers = json.load(f)
    note(numbers)
    check(numbers["seconds"] == 5 and len(numbers["changed_per_second"]) == 5, "not five seconds")
    # Written is what has completed; a write that is still in flight at the end (fio has one at a time) counts as a change already.
    check(0 < numbers["changed_bytes"] <= numbers["written_bytes"] + BLOCK, "more changed than was written, or nothing")
    check(300 < numbers["compressed_permille"] < 800, f"half compressible content measured as {numbers['compressed_permille']}")
    # The same numbers, read from the file and from standard input.
    predicted = capacity(measured)
    average = sum(numbers["changed_per_second"]) / 5 * numbers["compressed_permille"] / 1000
    check(abs(predicted["average_bytes_per_second"] - average) < 2, f"{predicted} for an average of {average}")
    check(predicted["vault_bytes"] >= predicted["first_copy_sends_bytes"] + predicted["all_points_bytes"], "less than its parts")
    check(predicted["rpo_p99_seconds"] <= 15.1, f"the link that is told does not hold the target: {predicted}")
    narrow = capacity(measured, "--link", "1000")
    check(narrow["rpo_max_seconds"] > predicted["rpo_max_seconds"], "a narrow line changes nothing")
    nothing = subprocess.run([LEEWARD, "capacity", measured, "--link", "0"], capture_output=True, text=True, timeout=60)
    check(nothing.returncode == 2 and "--link" in nothing.stderr, f"a line of nothing: {nothing}")
    shorter = capacity(measured, "--keep-all", "1h", "--keep-minutely", "0s", "--keep-hourly", "0s", "--keep-daily", "0s")
    check(shorter["vault_bytes"] < predicted["vault_bytes"], "a shorter retention takes as much")
    # In one go, as a table.
    text = run(LEEWARD, "capacity", "--device", disk.device, "--time", "2s", timeout=60)
    labels = [re.split(r"\s{2,}", line)[0] for line in text.splitlines()]
    check("vault" in labels and len(labels) == len(set(labels)), f"no table, or two lines of one name: {text}")
    stop(load)


class Taken:
    """What protecting takes: bytes on the line from the node to the vault, and in the vault's folder."""

    def __init__(self):
        self.port = free_port_base(1)
        self.site = Site(daemon_options={"node": ["--probe-listen", f"127.0.0.1:{self.port}"]})

    def sent(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            return next(float(line.split()[1]) for line in answer.read().decode().splitlines()
                        if line.startswith("leeward_node_forwarded_bytes_total "))

    def stored(self):
        return 1024 * int(run("du", "-sk", os.path.join(self.site.data, "vault")).split()[0])

    def now(self):
        """(sent, stored, when), of the newest point: what is on its way is not counted on one side only."""
        self.site.wait_point_after(time.time())
        return self.sent(), self.stored(), time.monotonic()


def check_prediction(what, predicted, came):
    note(f"{what}: {predicted / MIB:.2f} MiB predicted, {came / MIB:.2f} MiB came: {came / predicted:.2f}")
    check(BELOW * predicted <= came <= ABOVE * predicted, f"{what}: {predicted / MIB:.2f} MiB predicted, and {came / MIB:.2f} MiB came")


@test
def what_is_predicted_is_what_comes_of_it():
    disk = Disk(192 * MIB)
    run(*fio(disk, "write"))
    load = steady_load(disk)
    predicted = capacity(disk.device, "--time", "15s", "--keep-all", f"{PREDICTED_SECONDS}s", "--keep-minutely", "0s", "--keep-hourly", "0s",
                         "--keep-daily", "0s")
    stop(load)
    taken = Taken()
    empty = taken.stored()
    taken.site.protect(disk)
    sent, copied, _ = taken.now()
    check_prediction("first copy, on the line", predicted["first_copy_sends_bytes"], sent)
    check_prediction("first copy, in the vault", predicted["first_copy_sends_bytes"], copied - empty)
    load = steady_load(disk)
    sent, stored, began = taken.now()
    time.sleep(WATCHED_SECONDS)
    sent_later, stored_later, ended = taken.now()
    stop(load)
    seconds = ended - began
    check_prediction("a second, on the line", predicted["average_bytes_per_second"], (sent_later - sent) / seconds)
    check_prediction("a minute, in the vault", predicted["all_points_bytes"], (stored_later - stored) / seconds * PREDICTED_SECONDS)
    check_prediction("all of the vault", predicted["vault_bytes"], copied - empty + (stored_later - stored) / seconds * PREDICTED_SECONDS)


@test
def what_changes_is_sampled_wherever_it_lies():
    disk = Disk(256 * MIB)
    common = [f"--filename={disk.device}", "--direct=1", "--time_based", "--runtime=60", "--output=/dev/null"]
    # The beginning of a disk is where file systems have their tables; what is written most lies behind.
    start(["fio", "--thread", "--name=tables", "--rw=randwrite", "--bs=4k", "--size=1m", "--rate=200k", "--zero_buffers", *common])
    start(["fio", "--thread", "--name=data", "--rw=randwrite", f"--bs={BLOCK}", "--offset=128m", "--size=128m", "--rate=8m", "--refill_buffers",
           "--buffer_compress_percentage=0", *common])
    measured = json.loads(run(os.path.join(BIN, "leeward-agent"), "--measure", disk.device, "--measure-time", "5s", timeout=60))
    note(measured["compressed_permille"], "of", measured["changed_bytes"])
    check(measured["compressed_permille"] > 800, f"random data is said to be compressed to {measured['compressed_permille']} permille")


@test
def a_measurement_that_is_interrupted_is_of_what_was_seen():
    disk = Disk(64 * MIB)
    # In a group of its own, which gets the signal as from a terminal: the command and the program that measures.
    process = subprocess.Popen([LEEWARD, "capacity", disk.device, "--time", "10m", "--link", "10M", "-o", "json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: pins_of_measuring(), "the measurement to begin", 60)
    time.sleep(2.5)  # some whole seconds to tell of
    os.killpg(process.pid, signal.SIGINT)
    out, complaint = process.communicate(timeout=60)
    check(process.returncode == 0, f"ended with {process.returncode}: {complaint}")
    predicted = json.loads(out)
    check(1 <= predicted["measured_seconds"] <= 30 and predicted["link_bytes_per_second"] == 10 * MIB, predicted)
    check(not pins_of_measuring(), "a trace is left")


@test
def a_measurement_leaves_no_trace_however_it_ends():
    disk = Disk(64 * MIB)
    measure = [os.path.join(BIN, "leeward-agent"), "--measure", disk.device, "--measure-time"]
    for number in (signal.SIGHUP, signal.SIGKILL):
        process = start([*measure, "10m"])
        wait_until(lambda: f"measure-{process.pid}" in pins(), "the measurement to begin", 60)
        process.send_signal(number)
        process.wait(timeout=60)
        check((f"measure-{process.pid}" in pins()) == (number == signal.SIGKILL), f"{number}: {pins_of_measuring()}")
    run(*measure, "1s", timeout=60)
    check(f"measure-{process.pid}" not in pins(), "what was killed has left its trace for good")


@test
def what_cannot_be_measured_is_said():
    for arguments, word in ((["/nonexistent"], "nonexistent"), ([], "device"), (["--device", "/dev/null", "--time", "1s"], "measuring")):
        result = subprocess.run([LEEWARD, "capacity", *arguments], capture_output=True, text=True, timeout=60)
        check(result.returncode != 0 and word in result.stderr, f"{arguments}: {result.stderr}")
    odd = fresh("odd.json")
    for content in ("{}", "[]", '{"changed_per_second": [1, -5, "x"], "size_bytes": -1, "compressed_permille": 99999}', "{"):
        with open(odd, "w") as f:
            f.write(content)
        result = subprocess.run([LEEWARD, "capacity", odd], capture_output=True, text=True, timeout=60)
        check(result.returncode in (1, 2) and result.stderr, f"{content} ended with {result.returncode}")


if __name__ == "__main__":
    main()
