#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs all tests for ./check; one line per test, and at the end `N skipped` where any were, and `N passed, N failed`.

Three builds: gcc (what is tested and started), clang (warnings only), and gcc with AddressSanitizer and
UndefinedBehaviorSanitizer (its unit and fuzz replay tests are run). The first build's unit tests wait most of the time: the two other
builds are made beside them, by what they leave of the processors. Then the programs of tests/system, tests/faults,
tests/e2e/browser and tests/e2e/vm run, each with a time limit, in a process group that is ended with it. Most of them wait for
something most of the time: LANES of them run beside each other, of those that emulate machines or draw pages one at a time, or two when
nothing else is left. What needs a calm machine comes after them, two at a time, and what measures times runs when nothing else does.
A program that leaves processes behind has failed. LONG ones run only with --long, or where they are named.

A test program speaks lines: `PASS name`, `FAIL name: reason` and, where this machine lacks what the test needs, `SKIP name: reason`.
One that ends without success and without a FAIL line, or that tells of no test, counts as one failure.
"""
import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "check")
BUILDS = [
    ("build.gcc", "gcc", "check", []),
    ("build.clang", "clang", "check-clang", ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_BUILD_TYPE=Debug", "-DLEEWARD_CONSOLE=OFF"]),
    ("build.sanitize", "gcc", "check-asan", ["-DLEEWARD_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DLEEWARD_CONSOLE=OFF"]),
]
SYSTEM_LIMIT_S = 900  # many times what any of them needs on a quiet machine
BROWSER_LIMIT_S = 1500
FAULTS_LIMIT_S = 3600  # a fault at each of many places, one after the other
MACHINE_LIMIT_S = 1800  # the first run makes the image of the guest; emulation is slow beside other work
SAID_AGAIN = 5
LANES = 3
UNIT_LANES = 4
LEAVING_S = 10  # how long what a program has ended may take to go
HEAVY = ("e2e.",)  # each keeps a processor busy all the time
CALM_LANES = 2
CALM = {  # what they wait for comes in time only where processors are free
    "system.full", "system.group_outage", "system.hooks", "system.node_moves", "system.placement_hubs", "faults.two_hubs"}
ALONE = {  # what these show is a time, a rate or a share of a processor, or they fill the machine themselves
    "system.agent_memory", "system.bench_command", "system.group", "system.group_peers", "system.group_raw", "system.hub_load",
    "system.link_outage", "system.node_fleet", "system.node_memory", "system.pace"}
LONG = {"e2e.vm.vm_fixups", "e2e.vm.vm_frozen_host", "e2e.vm.vm_ledger"}  # together half an hour of a processor
CMOCKA_LINE = re.compile(r"^\d+: \[\s+(OK|FAILED|SKIPPED)\s+\] (\w+)")
CTEST_LINE = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) \.*\s*(\*\*\*)?\s*(Passed|Failed|Timeout|Not Run|Exception|Subprocess|Skipped)")


class Results:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.said = []  # what the programs that failed printed last
        self.lock = threading.RLock()  # guards all of it, and lines that belong together

    def passes(self, name):
        with self.lock:
            self.passed += 1
            print(f"PASS {name}", flush=True)

    def fails(self, name, reason):
        with self.lock:
            self.failed += 1
            self.failures.append(name)
            print(f"FAIL {name}: {reason}", flush=True)

    def skips(self, name, reason):
        with self.lock:
            self.skipped += 1
            print(f"SKIP {name}: {reason}", flush=True)

    def shows(self, text):
        """What a program that failed printed: here, and again at the end, where it is found when the middle of the output
        was not kept."""
        with self.lock:
            self.said.append(text)
            print(text, flush=True)

    def tells(self):
        """The end of everything."""
        for text in self.said[:SAID_AGAIN]:
            print("\n".join(text.rstrip("\n").split("\n")[-40:]))
        for name in self.failures:
            print(f"failed: {name}")
        if self.skipped:
            print(f"{self.skipped} skipped")
        print(f"{self.passed} passed, {self.failed} failed", flush=True)


running = set()  # what `run` waits for


def run(command, log, limit_s, **options):
    """Runs a command with its output in the file `log`; its exit status, or None when the time was over."""
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   start_new_session=True, **options)
        running.add(process)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            end_group(process)
            return None
        except BaseException:
            end_group(process)
            raise
        finally:
            running.discard(process)


def end_group(process):
    """SIGTERM first: the programs clean up loop disks and mounts when they get it."""
    for number, grace_s in ((signal.SIGTERM, 40), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(grace_s)
            return
        except subprocess.TimeoutExpired:
            pass


def tail(path, lines=25):
    with open(path, errors="replace") as f:
        return "".join("    " + line for line in f.readlines()[-lines:])


def build_others(results, temp):
    for one in BUILDS[1:]:
        build(results, temp, *one, "nice", "-n", "19")


def errors_of(log):
    with open(log, errors="replace") as f:
        return "".join("    " + line for line in f if re.search(r"\b(error|Error): |CMake Error|undefined reference", line))[:6000]


def build(results, temp, name, compiler, folder, options, *before):
    """One build, by a command that is put `before` those of it; whether it stands."""
    begin = time.monotonic()
    path = os.path.join(ROOT, "build", folder)
    log = os.path.join(temp, name + ".log")
    commands = [["ninja", "-k", "0", "-C", path]]
    if not os.path.exists(os.path.join(path, "build.ninja")):
        commands.insert(0, ["cmake", "-G", "Ninja", "-S", ROOT, "-B", path, *options])
    status = 0
    for command in commands:
        status = status or run([*before, *command], log, 1800)
    with results.lock:
        if status == 0:
            results.passes(name)
        else:
            results.fails(name, f"{compiler} did not build it")
            results.shows(errors_of(log) or tail(log, 40))
        tell_time(name, begin)
    return status == 0


def tell_time(name, begin):
    print(f"     {name}: {time.monotonic() - begin:.1f} s", flush=True)


def run_ctest(results, temp, folder, prefix, names):
    path = os.path.join(ROOT, "build", folder)
    if not os.path.exists(os.path.join(path, "CTestTestfile.cmake")):
        return
    begin = time.monotonic()
    log = os.path.join(temp, prefix + "ctest.log")
    command = ["ctest", "--test-dir", path, "-V", f"-j{UNIT_LANES}"]
    if names:
        command += ["-R", "|".join(re.escape(n) for n in names)]
    env = dict(os.environ, ASAN_OPTIONS="abort_on_error=0:detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1",
               TMPDIR=temp, CMOCKA_MESSAGE_OUTPUT="stdout")
    status = run(command, log, 2400, env=env)
    if status is None:
        results.fails(prefix + "ctest", "not done after 40 minutes")
    with open(log, errors="replace") as f:
        report_ctest(results, f.read().split("\n"), prefix)
    if status != 0:
        results.shows(failed_output(log))
    tell_time(prefix + "units", begin)


def report_ctest(results, lines, prefix):
    """Each CMocka function is a test of its own; a program without such lines is one test. What one that skips printed last is its reason."""
    number_of, seen, outcome = {}, {}, {}
    words, reasons = {}, {}  # what each program printed last, and what each case that was skipped had printed
    for line in lines:
        name = re.match(r"^\s+Start\s+(\d+): (\S+)", line)
        if name:
            number_of[name.group(1)] = name.group(2)
        case = CMOCKA_LINE.match(line)
        end = CTEST_LINE.match(line)
        if case and "test(s)" not in line:
            # A failure is printed twice: when it happens and in the summary.
            program = number_of.get(line.split(":")[0], "unit")
            seen.setdefault(program, {})[case.group(2)] = case.group(1)
            if case.group(1) == "SKIPPED":
                reasons.setdefault(f"{program}.{case.group(2)}", words.get(program))
            words.pop(program, None)
        elif end:
            outcome[end.group(1)] = end.group(3)
        elif word := re.match(r"^(\d+): (?!\[)(.*\S)", line):
            words[number_of.get(word.group(1), "unit")] = word.group(2)
    for program, verdict in outcome.items():
        cases = seen.get(program, {})
        for case, word in cases.items():
            if word == "OK":
                results.passes(f"{prefix}{program}.{case}")
            elif word == "FAILED":
                results.fails(f"{prefix}{program}.{case}", "see below")
            else:
                results.skips(f"{prefix}{program}.{case}", reasons.get(f"{program}.{case}") or "it says no reason")
        if verdict == "Skipped":
            results.skips(prefix + program, words.get(program) or "it says no reason")
        elif verdict != "Passed" and not "FAILED" in cases.values():
            results.fails(prefix + program, verdict.lower())
        elif verdict == "Passed" and not cases:
            results.passes(prefix + program)


def failed_output(log):
    """The lines around each failure, by the program that printed them."""
    with open(log, errors="replace") as f:
        lines = f.read().split("\n")
    number_of = dict(m.groups() for m in (re.match(r"^\s+Start\s+(\d+): (\S+)", line) for line in lines) if m)
    bad = {m.group(1) for m in map(CTEST_LINE.match, lines) if m and m.group(3) != "Passed"}
    out = []
    for number, name in number_of.items():
        if name in bad:
            own = [line for line in lines if line.startswith(number + ": ") and "[       OK ]" not in line and "[ RUN" not in line]
            out += [f"  {name}:"] + ["    " + line for line in own[-40:]]
    return "\n".join(out)


def programs(names, long):
    """Name and path of each test program that is wanted, the long ones first, so that one lane is not left with one of them."""
    found = []
    for folder in ("e2e/vm", "e2e/browser", "faults", "system"):
        for file in sorted(os.listdir(os.path.join(ROOT, "tests", folder))):
            name = f"{folder.replace('/', '.')}.{file[5:-3]}"
            wanted = any(n in name for n in names) if names else long or name not in LONG
            if file.startswith("test_") and file.endswith(".py") and wanted:
                found.append((name, os.path.join(ROOT, "tests", folder, file)))
    return found


def run_programs(results, temp, wanted):
    run_beside(results, temp, [one for one in wanted if one[0] not in CALM | ALONE], LANES)
    run_beside(results, temp, [one for one in wanted if one[0] in CALM], CALM_LANES)
    for name, path in wanted:
        if name in ALONE:
            run_program(results, temp, name, path)


def run_beside(results, temp, waiting, lane_count):
    """Runs the programs in so many threads. Each takes the first one left; a heavy one only while no other of them runs, or one when nothing else is left."""
    lock, problems = threading.Lock(), []
    heavy_running = 0

    def is_heavy(one):
        return one[0].startswith(HEAVY)

    def take():
        nonlocal heavy_running
        with lock:
            most = 2 if all(map(is_heavy, waiting)) else 1
            for one in waiting:
                if not is_heavy(one) or heavy_running < most:
                    waiting.remove(one)
                    heavy_running += is_heavy(one)
                    return one
        return None

    def lane():
        nonlocal heavy_running
        while one := take():
            try:
                run_program(results, temp, *one)
            except BaseException as problem:
                problems.append(problem)
                return
            with lock:
                heavy_running -= is_heavy(one)

    lanes = [threading.Thread(target=lane, daemon=True) for _ in range(lane_count)]
    for one in lanes:
        one.start()
    try:
        for one in lanes:
            one.join()
    except BaseException:
        waiting.clear()
        raise
    if problems:
        raise problems[0]


def run_program(results, temp, name, path):
    log = os.path.join(temp, name + ".log")
    work = os.path.join(temp, name)
    os.mkdir(work)
    env = dict(os.environ, TMPDIR=work, LEEWARD_BIN=os.path.join(BUILD, "bin"), PYTHONDONTWRITEBYTECODE="1",
               PYTHONUNBUFFERED="1")
    begin = time.monotonic()
    # The first run of packages, container and chart makes the tree of a Debian, or builds helm; the waits of the last three add up.
    limits = {"e2e.vm.": MACHINE_LIMIT_S, "e2e.browser.": BROWSER_LIMIT_S, "faults.": FAULTS_LIMIT_S,
              "system.packages": MACHINE_LIMIT_S, "system.container": MACHINE_LIMIT_S, "system.chart": MACHINE_LIMIT_S,
              "system.full": MACHINE_LIMIT_S, "system.node_memory": MACHINE_LIMIT_S, "system.placement_hubs": MACHINE_LIMIT_S}
    limit_s = next((limit for prefix, limit in limits.items() if name.startswith(prefix)), SYSTEM_LIMIT_S)
    status = run([sys.executable, path], log, limit_s, env=env, cwd=work)
    left = end_what_is_left(work)
    with results.lock:
        report_program(results, name, log, status, limit_s)
        if left:
            results.fails(name, "it left running: " + "; ".join(left))
        tell_time(name, begin)
    shutil.rmtree(work, ignore_errors=True)


def processes_of(work):
    """Numbers of the processes that were started by the program with this folder for temporary files."""
    word = b"TMPDIR=" + os.fsencode(work)
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/environ", "rb") as f:
                if word in f.read().split(b"\0"):
                    yield int(number)
        except OSError:  # gone
            pass


def end_what_is_left(work):
    """The commands of processes that did not go with their program; each is killed."""
    deadline = time.monotonic() + LEAVING_S
    while list(processes_of(work)) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = []
    for number in processes_of(work):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as f:
                left.append(f.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120])
            os.kill(number, signal.SIGKILL)
        except OSError:
            pass
    return [command for command in left if command]


def report_program(results, name, log, status, limit_s):
    with open(log, errors="replace") as f:
        verdicts = re.findall(r"^(PASS|FAIL|SKIP) ([^\s:]+)(?:: (.*))?$", f.read(), re.M)
    for verdict, case, reason in verdicts:
        if verdict == "PASS":
            results.passes(f"{name}.{case}")
        elif verdict == "SKIP":
            results.skips(f"{name}.{case}", reason)
        else:
            results.fails(f"{name}.{case}", reason)
    failed = any(verdict == "FAIL" for verdict, _, _ in verdicts)
    if status is None:
        results.fails(name, f"not done after {limit_s} s")
    elif status != 0 and not failed:
        results.fails(name, f"ended with status {status}")
    elif not verdicts:
        results.fails(name, "tested nothing")
    if failed or status != 0:
        results.shows(f"  {name}:\n" + tail(log, 60))


def main():
    quick = "--quick" in sys.argv[1:]
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    results = Results()
    temp = tempfile.mkdtemp(prefix="leeward-check.", dir=os.environ.get("TMPDIR") or "/tmp")
    # Others (PostgreSQL's user) pass through it to folders of their own.
    os.chmod(temp, 0o711)
    atexit.register(shutil.rmtree, temp, True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        run_all(results, temp, quick, names)
    finally:
        for process in list(running):  # where it was interrupted
            end_group(process)
    results.tells()
    return 1 if results.failed or not results.passed else 0


def run_all(results, temp, quick, names):
    if build(results, temp, *BUILDS[0]):
        others = threading.Thread(target=build_others, args=(results, temp), daemon=True)
        if not names:
            others.start()
        run_ctest(results, temp, "check", "", names)
        if not names:
            others.join()
            run_ctest(results, temp, "check-asan", "sanitized.", names)
        if not quick:
            run_programs(results, temp, programs(names, "--long" in sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
