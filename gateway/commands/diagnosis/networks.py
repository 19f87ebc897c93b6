"""The way to the server: its name, its addresses, and whether something listens there."""

import asyncio
import ipaddress
import os
import socket
import time
from typing import Final
from urllib.request import getproxies, proxy_bypass

import msgspec

from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.targets import Target

MAX_ADDRESSES: Final = 8
"""Addresses that are tried. Names with more exist; clients try one or two of them."""


class Attempt(msgspec.Struct, frozen=True):
    """A TCP connection to one address, or why there is none."""

    address: str
    milliseconds: float = 0.0
    fault: str = ""


async def reach(target: Target, chart: Chart, timeout_seconds: float) -> str | None:
    """An address that answers, None where there is none."""
    _look_for_proxy(target, chart)
    addresses = await _look_up(target, chart, timeout_seconds)
    if not addresses:
        return None
    attempts = await asyncio.gather(*(_connect(address, target.port, timeout_seconds) for address in addresses))
    return judge(target, chart, attempts)


def _look_for_proxy(target: Target, chart: Chart) -> None:
    proxy = getproxies().get(target.parts.scheme)
    if proxy and not proxy_bypass(target.host):
        variable = f"{target.parts.scheme.upper()}_PROXY"
        chart.doubt(
            "proxy",
            f"{variable} is set: clients that heed it call through that proxy, this examination does not",
            f"if a client fails and this doesn't, add {target.host} to NO_PROXY",
        )


async def _look_up(target: Target, chart: Chart, timeout_seconds: float) -> list[str]:
    """The addresses in the order in which clients are given them."""
    try:
        return [str(ipaddress.ip_address(target.host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        chart.fault("dns", f"{target.host} was not resolved within {timeout_seconds:g} s", "check the name server")
        return []
    except (OSError, UnicodeError) as error:  # the latter: no host name at all
        chart.fault(
            "dns",
            f"{target.host} does not resolve ({getattr(error, 'strerror', None) or error})",
            "check the spelling, and whether the name is known where the client runs (VPN, cluster-internal names)",
        )
        return []
    addresses = list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
    chart.fine("dns", f"{target.host} is {', '.join(addresses)}")
    return addresses[:MAX_ADDRESSES]


async def _connect(address: str, port: int, timeout_seconds: float) -> Attempt:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return Attempt(address, fault=f"no answer within {timeout_seconds:g} s")
    except OSError as error:
        return Attempt(address, fault=os.strerror(error.errno) if error.errno else str(error))
    milliseconds = (time.perf_counter() - started) * 1000
    writer.close()
    return Attempt(address, milliseconds)


def judge(target: Target, chart: Chart, attempts: list[Attempt]) -> str | None:
    """The first address that answers, if any does."""
    good = [attempt for attempt in attempts if not attempt.fault]
    bad = [attempt for attempt in attempts if attempt.fault]
    failures = "; ".join(f"{attempt.address} port {target.port}: {attempt.fault}" for attempt in bad)
    if not good:
        silent = all(attempt.fault.startswith("no answer") for attempt in bad)
        mend = (
            "a firewall or a security group swallows the connection: let it through"
            if silent
            else "start the server, or check host and port; in a container it must listen on 0.0.0.0, not on 127.0.0.1"
        )
        chart.fault("tcp", failures, mend)
        return None
    if bad:
        chart.doubt(
            "tcp",
            f"{failures}; {good[0].address} answers",
            "clients that try only one address fail, others are slow: let the server listen on every address that its "
            "name has, or give the client the address that answers",
        )
    else:
        chart.fine("tcp", "; ".join(f"{a.address} port {target.port} in {a.milliseconds:.1f} ms" for a in good))
    return good[0].address
