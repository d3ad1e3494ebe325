# SPDX-License-Identifier: Apache-2.0
"""The storage services that the tests talk to, Azurite and s3rver, and leeward-object on them. They come from npm in the versions of
peers/package-lock.json, into the build folder. A test program calls bring_up() before main()."""
import base64
import datetime
import email.utils
import hashlib
import hmac
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from harness import BIN, ROOT, check, free_port_base, fresh, run, start, wait_until

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
TOOL = os.path.join(BIN, "leeward-object")
# Azurite's own account, which is the same everywhere.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


# ---- the peers ----

def peers():
    """The folder of the programs; installed when the lock file is another one than last time."""
    folder = os.path.join(os.path.dirname(os.path.abspath(BIN)), "peers")
    with open(os.path.join(HERE, "package-lock.json"), "rb") as f:
        wanted = hashlib.sha256(f.read()).hexdigest()
    stamp = os.path.join(folder, "installed")
    if not os.path.exists(stamp) or open(stamp).read() != wanted:
        if not shutil.which("npm"):
            run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(HERE, "packages.txt"), timeout=300)
        os.makedirs(folder, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(os.path.join(HERE, name), folder)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder, timeout=300)
        with open(stamp, "w") as f:
            f.write(wanted)
    return os.path.join(folder, "node_modules", ".bin")


def listens(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    except urllib.error.HTTPError:
        pass
    return True


def hmac_base64(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def make_container(endpoint, name):
    """Signed by hand, so that this does not stand on what is tested."""
    now = email.utils.formatdate(usegmt=True)
    text = (f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:{VERSION}\n"
            f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container")
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers={
        "x-ms-date": now, "x-ms-version": VERSION, "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{hmac_base64(ACCOUNT_KEY, text)}"})
    urllib.request.urlopen(request, timeout=30).close()


def container_sas(name, rights, hours):
    end = (datetime.datetime.utcnow() + datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = "\n".join([rights, "", end, f"/blob/{ACCOUNT}/{name}", "", "", "", VERSION, "c", "", "", "", "", "", "", ""])
    return urllib.parse.urlencode({"sv": VERSION, "sr": "c", "sp": rights, "se": end, "sig": hmac_base64(ACCOUNT_KEY, text)})


_started = {}


def endpoint_of(peer):
    if isinstance(_started[peer], Exception):
        raise _started[peer]
    return _started[peer]


def bring_up():
    """Both for all tests: what a test starts itself ends with it. Those of a peer that does not come up fail, the others run."""
    for peer, begin in (("azurite", azurite), ("s3rver", s3rver)):
        try:
            _started[peer] = begin()
        except Exception as problem:
            _started[peer] = problem


def azurite():
    port = free_port_base(1)
    start([os.path.join(peers(), "azurite-blob"), "--blobPort", port, "--location", fresh("azurite"), "--silent",
           "--skipApiVersionCheck", "--disableTelemetry"], log=fresh("azurite.log"))
    wait_until(lambda: listens(port), "Azurite", timeout=90)
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    make_container(endpoint, "box")
    return endpoint


def s3rver():
    port = free_port_base(1)
    folder = fresh("s3rver")
    os.mkdir(folder)
    start([os.path.join(peers(), "s3rver"), "-d", folder, "-a", "127.0.0.1", "-p", port, "-s", "--no-vhost-buckets",
           "--configure-bucket", "bucket"], log=fresh("s3rver.log"),
          env=dict(os.environ, NODE_OPTIONS="--openssl-legacy-provider"))  # its markers of pages are made with DES
    wait_until(lambda: listens(port), "s3rver", timeout=90)
    return f"http://127.0.0.1:{port}"


# ---- the tool ----

class Store:
    def __init__(self, url, endpoint="", **environment):
        names = {"endpoint": endpoint, **environment}
        self.url = url
        self.env = dict(os.environ, **{"LEEWARD_OBJECT_" + k.upper(): str(v) for k, v in names.items() if v})

    def __call__(self, *arguments, ok=(0,)):
        return run(TOOL, self.url, *arguments, ok=ok, env=self.env)

    def fails(self, *arguments):
        """What it says when it must fail."""
        result = subprocess.run([TOOL, self.url, *arguments], env=self.env, capture_output=True, text=True, timeout=120)
        check(result.returncode == 1, f"ended with {result.returncode}: {result.stdout}{result.stderr}")
        return result.stderr


def azure(prefix="", **secret):
    return Store(f"azure://{ACCOUNT}/box{prefix}", endpoint_of("azurite"), **(secret or {"secret": ACCOUNT_KEY}))


def s3(prefix="", bucket="bucket", **more):
    return Store(f"s3://{bucket}{prefix}", endpoint_of("s3rver"), key_id="S3RVER", secret="S3RVER", **more)


def file_of(data):
    path = fresh("data")
    with open(path, "wb") as f:
        f.write(data)
    return path
