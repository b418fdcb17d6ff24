"""Where the ranks of a cluster run, and at which addresses they find each other."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant import Cluster, EngineFailed

FIRST_PORT = 32323
"""What ``mlx.launch`` begins with too; each further address takes the next one."""


@dataclass(frozen=True)
class Place:
    """Where one rank runs."""

    host: str
    """As it was configured."""
    local: bool
    addresses: tuple[str, ...]
    """IPv4, for the other ranks."""
    rdma: tuple[Any, ...] = ()
    """The device towards each rank, for ``jaccl``."""


@dataclass(frozen=True)
class Layout:
    """All ranks of a cluster."""

    places: tuple[Place, ...]
    backend: str
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the hostfile asks for."""

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.places)

    def here(self, place: Place) -> int:
        """How many ranks run on the machine of a place."""
        return sum(other.host == place.host or (other.local and place.local) for other in self.places)

    def files(self) -> dict[str, str]:
        """Variables of MLX that name a file, and what it holds (mlx, docs/src/usage/distributed.rst)."""
        if self.backend == "jaccl":
            return {"MLX_IBV_DEVICES": json.dumps([place.rdma for place in self.places])}
        ports = iter(self._ports(sum(len(place.addresses) for place in self.places)))
        return {"MLX_HOSTFILE": json.dumps(
            [[f"{address}:{next(ports)}" for address in place.addresses] for place in self.places]
        )}

    def variables(self) -> dict[str, str]:
        """Further variables of MLX."""
        if self.backend != "jaccl":
            return self.environment
        return {**self.environment, "MLX_JACCL_COORDINATOR": f"{self.places[0].addresses[0]}:{FIRST_PORT}"}

    def threads(self, place: Place) -> dict[str, str]:
        """Variables that share this machine's cores among the ranks on it."""
        if not place.local or self.here(place) < 2:
            return {}
        count = str(max(1, (os.cpu_count() or 1) // self.here(place)))
        return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}

    def _ports(self, count: int) -> list[int]:
        if not all(_is_loopback(address) for place in self.places for address in place.addresses):
            return [FIRST_PORT + number for number in range(count)]
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        try:
            return [each.getsockname()[1] for each in sockets]
        finally:
            for each in sockets:
                each.close()


def lay_out(cluster: Cluster) -> Layout:
    """Where the ranks run.

    Raises:
        EngineFailed: a host has no address, the first is not this machine, or the hostfile is none.
    """
    layout = _from_hostfile(Path(cluster.hostfile).expanduser(), cluster) if cluster.hostfile else _from_hosts(cluster)
    first = layout.places[0]
    if not first.local:
        raise EngineFailed(
            f"the first host of the cluster, {first.host}, is not this machine",
            hint="put this machine first in `[llm.cluster] hosts`, by an address that the others can reach",
        )
    if layout.backend == "jaccl" and any(len(place.rdma) != layout.size for place in layout.places):
        raise EngineFailed(
            "the back end jaccl needs the RDMA device of each machine towards each other one",
            hint="make a hostfile: mlx.distributed_config --backend jaccl --over thunderbolt --hosts … --output FILE",
        )
    return layout


def _from_hosts(cluster: Cluster) -> Layout:
    places = []
    for host in cluster.hosts:
        address = _address(host)
        places.append(Place(host, _is_here(address), (address,)))
    if _is_loopback(places[0].addresses[0]) and not all(place.local for place in places):
        raise EngineFailed(
            f"the other machines cannot reach this one as {places[0].host}",
            hint="put this machine's address on their network first in `[llm.cluster] hosts`",
        )
    return Layout(tuple(places), cluster.backend)


def _from_hostfile(file: Path, cluster: Cluster) -> Layout:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        entries = raw["hosts"] if isinstance(raw, dict) else raw
        variables = raw.get("envs", []) if isinstance(raw, dict) else []
        places = tuple(_entry(entry) for entry in entries)
        environment = dict(variable.split("=", 1) for variable in variables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(
            f"the hostfile {file} cannot be used: {error}", hint="`mlx.distributed_config --output FILE` writes one"
        ) from error
    if len(places) < 2:
        raise EngineFailed(f"the hostfile {file} names {len(places)} machines", hint="a cluster has two at least")
    for place in places:
        if not place.addresses:
            raise EngineFailed(f"the hostfile {file} has no `ips` for {place.host}", hint="write its address there")
    return Layout(places, cluster.backend, environment)


def _entry(entry: dict[str, Any]) -> Place:
    host = str(entry["ssh"])
    if host.startswith("-"):
        raise ValueError(f"{host!r} is no host")
    addresses = tuple(str(ipaddress.IPv4Address(address)) for address in entry.get("ips", ()))
    try:
        local = _is_here(_address(host))
    except EngineFailed:
        local = False  # A name that only ssh knows.
    return Place(host, local, addresses, tuple(entry.get("rdma", ())))


def _address(host: str) -> str:
    name = host.rpartition("@")[2]
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise EngineFailed(
            f"the host {host} of the cluster has no address: {error.strerror or error}",
            hint="write its IPv4 address, or a name that resolves, in `[llm.cluster] hosts`, or use a hostfile",
        ) from error
    return str(found[0][4][0])


def _is_here(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
