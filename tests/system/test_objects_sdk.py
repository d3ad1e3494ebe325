#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What our drivers write, the stock SDKs of Azure and of AWS read, and the other way round. And one verifier of signatures, made from the
documentation, takes our requests and those of the AWS SDK alike (Azurite verifies both for Azure)."""
import hashlib
import json
import os
import random
import shutil
import subprocess

from harness import check, main, note, run, temp_dir, test
from object_peers import ACCOUNT, ACCOUNT_KEY, HERE, TOOL, Store, azure, bring_up, endpoint_of, file_of, peers, s3
from object_peers import StrictS3 as Strict

RNG = random.Random(11)
OBJECTS = {"m/empty": b"", "m/small": b"0123456789", "m/a/deep/name_with-all.kinds": RNG.randbytes(1000),
           "m/1.seg": RNG.randbytes(3 << 20), "m/large": RNG.randbytes(20 << 20)}  # the last one goes in pieces


def sdk(service, endpoint, place, *words, account="", secret="", ok=(0,)):
    modules = os.path.join(os.path.dirname(peers()))
    env = dict(os.environ, NODE_PATH=modules, NODE_OPTIONS="--no-warnings", SDK_ID=account, SDK_SECRET=secret, SDK_REGION="eu-west-1")
    return run(shutil.which("node") or "nodejs", os.path.join(HERE, "sdk.cjs"), service, endpoint, place, *words, env=env, ok=ok)


def described(objects, prefix):
    return sorted((prefix + name, len(data), hashlib.sha256(data).hexdigest()) for name, data in objects.items())


def content(store, name):
    return subprocess.run([TOOL, store.url, "get", name], env=store.env, stdout=subprocess.PIPE, check=True, timeout=120).stdout


def both_ways(store, prefix, ask):
    """Ours are read by the SDK, the SDK's by us; `ask` is the SDK on the same place."""
    for name, data in OBJECTS.items():
        store("put-file", name, file_of(data))
    found = sorted((o["name"], o["bytes"], o["sha256"]) for o in json.loads(ask("list", prefix)))
    check(found == described(OBJECTS, prefix), f"the SDK reads something else: {found}")
    theirs = RNG.randbytes(9 << 20)
    ask("put", prefix + "theirs/1", file_of(theirs))
    check(content(store, "theirs/1") == theirs, "we read something else than the SDK wrote")
    check(store("list", "theirs/").split() == [str(len(theirs)), "theirs/1"], "the list of what the SDK wrote")


@test
def azure_sdk_reads_what_we_write_and_we_what_it_writes():
    ask = lambda *words: sdk("azure", endpoint_of("azurite"), "box", *words, account=ACCOUNT, secret=ACCOUNT_KEY)
    both_ways(azure("/sdk"), "sdk/", ask)


@test
def aws_sdk_reads_what_we_write_and_we_what_it_writes():
    ask = lambda *words: sdk("s3", endpoint_of("s3rver"), "bucket", *words, account="S3RVER", secret="S3RVER")
    both_ways(s3("/sdk"), "sdk/", ask)


@test
def one_verifier_takes_our_signatures_and_those_of_the_aws_sdk():
    endpoint = Strict.begin()
    ours = Store("s3://bucket", endpoint, key_id="id", secret="right", region="eu-west-1", tries=1)
    theirs = lambda *words, **more: sdk("s3", endpoint, "bucket", *words, account="id", **more)
    ours("put", "ours/1", file_of(b"by us"))
    theirs("put", "theirs/1", file_of(b"by the SDK"), secret="right")
    check(ours("get", "theirs/1") == "by the SDK", "what the SDK wrote")
    check(Strict.accepted == {"leeward", "aws-sdk-js"}, f"the verifier accepted {Strict.accepted}")
    check(status_of(lambda: theirs("put", "theirs/2", file_of(b"x"), secret="wrong")), "a wrong key of the SDK was taken")
    check("unauthenticated" in Store("s3://bucket", endpoint, key_id="id", secret="wrong", region="eu-west-1").fails("get", "ours/1"),
          "a wrong key of ours was taken")


def status_of(call):
    """Does it fail, and for its signature?"""
    try:
        call()
    except Exception as problem:
        note(problem)
        return "SignatureDoesNotMatch" in str(problem) or "403" in str(problem)
    return False


if __name__ == "__main__":
    temp_dir()
    bring_up()
    main()
