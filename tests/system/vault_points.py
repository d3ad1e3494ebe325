# SPDX-License-Identifier: Apache-2.0
"""The points of a machine as its vault has them, whatever the hub knows."""
import os

from grpc_client import channel_to, grpc, message
from harness import Failure, wait_until


class Vault:
    """The points of a machine as its vault has them, asked for in the hub's name."""

    def __init__(self, site):
        hub = os.path.join(site.data, "hub")
        channel = channel_to(site.port_base + 3, "vault.leeward.internal", os.path.join(hub, "ca", "ca.pem"), os.path.join(hub, "hub.pem"),
                             os.path.join(hub, "hub.key"))
        self.request = message("leeward.vault.v1.ListPointsRequest")
        self.machine = bytes.fromhex(site.machine()["id"].replace("-", ""))
        self.call = channel.unary_stream("/leeward.vault.v1.Vault/ListPoints", self.request.SerializeToString,
                                         message("leeward.vault.v1.Point").FromString)

    def points(self):
        """{sequence: time of its content}; Failure when the vault does not answer, so that who waits asks again"""
        try:
            return {p.sequence: p.time_utc_usec / 1e6 for p in self.call(self.request(machine_id=self.machine), timeout=60)}
        except grpc.RpcError as problem:
            raise Failure(f"the vault did not list its points: {problem.code().name}: {problem.details()}") from problem

    def wait_point_after(self, moment, why):
        def newer():
            later = [s for s, t in self.points().items() if t >= moment]
            return later and min(later)
        return wait_until(newer, why, 60, 0.2)
