# SPDX-License-Identifier: Apache-2.0
"""restic and borg as peers: each backs up one file into an encrypted, compressed repository of its own, and restores it."""
import os
import pathlib
import subprocess

from figure import timed


def stored_bytes(folder):
    return sum(p.stat().st_blocks * 512 for p in pathlib.Path(folder).rglob("*") if p.is_file())


class Peer:
    def __init__(self, folder):
        self.repository = os.path.join(folder, self.name)
        self.cache = os.path.join(folder, self.name + "-cache")
        self.env = dict(os.environ, RESTIC_PASSWORD="bench", BORG_PASSPHRASE="bench", BORG_BASE_DIR=self.cache,
                        BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")
        self.command(*self.init)

    def command(self, *words, cwd=None):
        done = subprocess.run([str(w) for w in words], env=self.env, cwd=cwd, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-400:]}")

    def stored(self):
        return stored_bytes(self.repository)

    def backup(self, path):
        """Seconds until it is durable."""
        def run():
            self.create(path)
            os.sync()
        return timed(run)[0]


class Restic(Peer):
    name = "restic"

    @property
    def init(self):
        return ("restic", "-q", "-r", self.repository, "--cache-dir", self.cache, "init")

    def create(self, path):
        self.command("restic", "-q", "-r", self.repository, "--cache-dir", self.cache, "backup", path)

    def restore(self, path, target):
        return timed(self.command, "restic", "-q", "-r", self.repository, "--cache-dir", self.cache, "restore", "latest", "--target",
                     target)[0]


class Borg(Peer):
    name = "borg"

    @property
    def init(self):
        return ("borg", "init", "-e", "repokey-blake2", self.repository)

    def create(self, path):
        self.command("borg", "create", "-C", "zstd,1", f"{self.repository}::{{now:%s.%f}}", path)

    def restore(self, path, target):
        names = subprocess.run(["borg", "list", "--short", self.repository], check=True, env=self.env, capture_output=True,
                               text=True).stdout.split()
        os.makedirs(target, exist_ok=True)
        return timed(lambda: self.command("borg", "extract", f"{self.repository}::{names[-1]}", cwd=target))[0]
