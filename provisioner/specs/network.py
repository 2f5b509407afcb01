"""Networks between machines: by name, with ports and the share of their rate for transfers, or as a bandwidth."""

import re
from dataclasses import dataclass, replace
from typing import Final

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.hardware import Machine
from provisioner.specs.units import parse_positive, parse_whole
from provisioner.spelling import spelled


@dataclass(frozen=True, slots=True)
class Network:
    """A kind of port: its rate in Gb/s in one direction, the share of it that transfers get, and ports per machine.

    With ``per_gpu`` there is a port for each GPU, as in machines with InfiniBand or RoCE; else one for the machine.
    """

    title: str
    gbps: float
    efficiency: float
    per_gpu: bool


NETWORKS: Final[dict[str, Network]] = {
    f"{title.lower()}-{rate}": Network(f"{rate} Gb/s {title}", rate, efficiency, per_gpu)
    for title, efficiency, per_gpu, rates in (
        ("InfiniBand", 1.0, True, (100, 200, 400, 800)),
        ("RoCE", 0.9, True, (100, 200, 400)),
        ("Ethernet", 0.7, False, (10, 25, 50, 100, 200)),
    )
    for rate in rates
}
"""Networks by name.

InfiniBand is taken at its line rate, as in the machine files: the Splitwise paper's serialized transfer got 195 of
200 GB/s. The shares of RoCE (90 %) and of TCP over Ethernet (70 %) are assumptions: they allow for headers, congestion
control, and links that one connection does not fill (AWS limits one to 5 to 25 Gb/s).
"""

_WRITTEN: Final = re.compile(r"\s*(?:(\d+)\s*x\s*)?([A-Za-z][\w.-]*)\s*")


def on_network(machine: Machine, text: str) -> Machine:
    """The machine on another network: ``roce-100``, ``2xethernet-25``, or a number of Gb/s of the whole machine.

    >>> from provisioner.specs.catalog import machine
    >>> h = machine("dgx-h100")
    >>> [on_network(h, text).network_gbps for text in ("infiniband-200", "2xethernet-25", "roce-100", "50")]
    [1600.0, 35.0, 720.0, 50.0]
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        gbps = parse_positive(text, spelled("network"), "Gb/s")
        return replace(machine, network=f"{gbps:g} Gb/s", network_gbps=gbps)
    ports_text, name = match.groups()
    if name.lower() not in NETWORKS:
        raise UnknownNameError("network", name, NETWORKS)
    kind = NETWORKS[name.lower()]
    ports = machine.gpus if kind.per_gpu else 1
    if ports_text:
        ports = parse_whole(ports_text, f"{spelled('network')}: ports")
    return replace(machine, network=f"{ports} x {kind.title}", network_gbps=ports * kind.gbps * kind.efficiency)


def parse_networks(given: tuple[str, ...]) -> dict[str, str]:
    """Networks by machine name, ``""`` for all others; each written ``NETWORK`` or ``MACHINE=NETWORK``.

    >>> parse_networks(("roce-100", "dgx-a100=ethernet-25"))
    {'': 'roce-100', 'dgx-a100': 'ethernet-25'}
    """
    networks: dict[str, str] = {}
    option = spelled("network")
    for text in given:
        name, _, network = (part.strip() for part in text.rpartition("="))
        if not network:
            raise InputError(f"{option}: must be NETWORK or MACHINE=NETWORK, such as roce-100, got {text!r}")
        if name in networks:
            raise InputError(f"{option}: is given twice{f' for {name}' if name else ''}")
        networks[name] = network
    return networks
