# SPDX-License-Identifier: Apache-2.0
"""A stock gRPC client, Python's grpcio (gRPC's C core), with the project's own .proto files. grpcio comes from PyPI into a virtual
environment in the build folder; a test program that imports this module runs on inside it."""
import os
import sys

from harness import BIN, MIB, ROOT, Failure, defer, fresh, making_shared, run

VENV = os.path.join(os.path.dirname(BIN), "grpc-venv")
try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:
    python = os.path.join(VENV, "bin", "python3")
    if sys.executable == python:
        raise
    with making_shared():
        if not os.path.exists(os.path.join(VENV, "complete")):
            run(sys.executable, "-m", "venv", "--clear", VENV)
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "grpcio", "protobuf", timeout=600)
            open(os.path.join(VENV, "complete"), "w").close()
    os.execv(python, [python, "-B", *sys.argv])

_pool = descriptor_pool.DescriptorPool()


def message(name):
    """The class of a message in transport/proto, by its full name."""
    try:
        found = _pool.FindMessageTypeByName(name)
    except KeyError:
        path = fresh("messages.pb")
        folder = os.path.join(ROOT, "transport", "proto")
        run("protoc", f"--proto_path={folder}", f"--descriptor_set_out={path}", "--include_imports",
            *(f"{n}.proto" for n in ("health", "control", "replication", "vault", "group")))
        with open(path, "rb") as f:
            for file in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file:
                _pool.Add(file)
        found = _pool.FindMessageTypeByName(name)
    return message_factory.GetMessageClass(found)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def channel_to(port, name, ca, certificate=None, key=None):
    """port: on this machine; or "ADDRESS:PORT"."""
    credentials = grpc.ssl_channel_credentials(read(ca), read(key) if key else None, read(certificate) if certificate else None)
    channel = grpc.secure_channel(port if ":" in str(port) else f"127.0.0.1:{port}", credentials, [
        ("grpc.ssl_target_name_override", name), ("grpc.max_receive_message_length", 64 * MIB),
        ("grpc.max_send_message_length", 64 * MIB)])
    defer(channel.close)
    return channel


def failure(call):
    try:
        call()
    except grpc.RpcError as problem:
        return problem
    raise Failure("the call succeeded")


def health(channel, service="", **options):
    request, response = message("grpc.health.v1.HealthCheckRequest"), message("grpc.health.v1.HealthCheckResponse")
    call = channel.unary_unary("/grpc.health.v1.Health/Check", request.SerializeToString, response.FromString)
    return call(request(service=service), timeout=20, **options).status
