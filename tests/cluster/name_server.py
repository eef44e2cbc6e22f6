# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of the DNS for tests, run where a test wants it: it answers, by UDP, for one name.

    python -m tests.cluster.name_server ADDRESS NAME RECORD...

Records are addresses, of either family. Each question is told on standard output.
"""

from __future__ import annotations

import socket
import sys
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

PORT = 53
TTL_S = 60


def answer(asked: bytes, name: str, addresses: list[str]) -> tuple[str, bytes]:
    """What is asked for, as text, and the reply."""
    message = dns.message.from_wire(asked)
    (question,) = message.question
    reply = dns.message.make_response(message)
    reply.flags |= dns.flags.AA | dns.flags.RA
    kind = dns.rdatatype.to_text(question.rdtype)
    version = {"A": 4, "AAAA": 6}.get(kind)
    records = [each for each in addresses if ip_address(each).version == version]
    if question.name != dns.name.from_text(name):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif records:
        reply.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", kind, *records))
    return f"{kind} {question.name}", reply.to_wire()


def main(address: str, name: str, *addresses: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        print("ready", flush=True)
        while True:
            asked, asker = server.recvfrom(4096)
            told, reply = answer(asked, name, list(addresses))
            server.sendto(reply, asker)
            print(told, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
