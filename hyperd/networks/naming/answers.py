"""What a query is answered with, apart from any socket."""

import ipaddress
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from hyperd.networks import addresses

from .directory import Directory, View

TTL_S = 5
_HEADER = 12
_UDP_PLAIN = 512
# What passes everywhere without fragments.
_UDP_MAX = 1232
_STREAM_MAX = 65535
_TYPES = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}


class Reply(NamedTuple):
    """``wire`` empty: say nothing. ``forward`` is the query that somebody else has to answer."""

    wire: bytes
    forward: dns.message.Message | None = None


def reply(directory: Directory, network: str, asker: addresses.Address, wire: bytes, *, limited: bool) -> Reply:
    """The answer to a packet from ``asker`` at the server of ``network``, whatever it is.

    :param limited: over UDP: an answer that is too long is cut, and says so
    """
    if len(wire) < _HEADER or wire[2] & 0x80:  # too short to answer, or an answer itself
        return Reply(b"")
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return Reply(failure(wire, dns.rcode.FORMERR))
    if query.opcode() != dns.opcode.QUERY:
        return Reply(failure(wire, dns.rcode.NOTIMP))
    if len(query.question) != 1:
        return Reply(failure(wire, dns.rcode.FORMERR))
    view = directory.view(network, asker)
    if view is None or query.question[0].rdclass != dns.rdataclass.IN:
        return Reply(failure(wire, dns.rcode.REFUSED))
    answer = _own(directory, view, query)
    if answer is None:
        return Reply(b"", query) if view.outward else Reply(failure(wire, dns.rcode.REFUSED))
    return Reply(_pack(query, answer, limited=limited))


def failure(wire: bytes, code: dns.rcode.Rcode) -> bytes:
    """The header alone: what can be said whatever the rest of the query is."""
    return wire[:2] + bytes([0x80 | (wire[2] & 0x79), 0x80 | int(code)]) + bytes(8)


def _own(directory: Directory, view: View, query: dns.message.Message) -> dns.message.Message | None:
    """None: it is not about a name or an address of ours."""
    question = query.question[0]
    name, kind = question.name, question.rdtype
    found = _records(directory, view, name)
    if found is None:
        return None
    answer = dns.message.make_response(query, recursion_available=True)
    answer.flags |= dns.flags.AA
    for rdtype, values in found.items():
        if kind in (rdtype, dns.rdatatype.ANY):
            answer.answer.append(dns.rrset.from_text_list(name, TTL_S, dns.rdataclass.IN, rdtype, values))
    domain = dns.name.from_text(view.networks[0].domain)
    if not found and name != domain:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    if not answer.answer:
        answer.authority.append(_soa(domain))
    return answer


def _records(directory: Directory, view: View, name: dns.name.Name) -> dict[dns.rdatatype.RdataType, list[str]] | None:
    """What there is at a name of ours, by type; None: it is not ours."""
    address = _reversed(name)
    if address is not None:
        target = directory.reverse(view, address)
        return None if target is None else {dns.rdatatype.PTR: [f"{target}."]} if target else {}
    known = directory.find(view, name.to_text(omit_final_dot=True).lower())
    if known is None:
        return None
    found: dict[dns.rdatatype.RdataType, list[str]] = {}
    for item in known:
        found.setdefault(_TYPES[item.version], []).append(str(item))
    return found


def _reversed(name: dns.name.Name) -> addresses.Address | None:
    try:
        return ipaddress.ip_address(dns.reversename.to_address(name))
    except (dns.exception.DNSException, ValueError):
        return None


def _soa(domain: dns.name.Name) -> dns.rrset.RRset:
    """Lets resolvers remember for a moment that something is not there (RFC 2308)."""
    text = f"ns.{domain} hostmaster.{domain} 1 3600 600 86400 {TTL_S}"
    return dns.rrset.from_text(domain, TTL_S, dns.rdataclass.IN, dns.rdatatype.SOA, text)


def _pack(query: dns.message.Message, answer: dns.message.Message, *, limited: bool) -> bytes:
    if not limited:
        return answer.to_wire(max_size=_STREAM_MAX)
    room = min(max(query.payload, _UDP_PLAIN), _UDP_MAX) if query.edns >= 0 else _UDP_PLAIN
    try:
        return answer.to_wire(max_size=room)
    except dns.exception.TooBig:
        answer.answer.clear()
        answer.authority.clear()
        answer.flags |= dns.flags.TC
        return answer.to_wire(max_size=room)


def fits(query: dns.message.Message, wire: bytes) -> bool:
    """Whether a packet is an answer to the query: to the same question, letters' cases aside (its id was looked at)."""
    question = query.question[0]
    asked = (
        (question.name.to_wire() or b"")
        + int(question.rdtype).to_bytes(2, "big")
        + int(question.rdclass).to_bytes(2, "big")
    )
    return bool(
        len(wire) >= _HEADER and wire[2] & 0x80 and wire[_HEADER : _HEADER + len(asked)].lower() == asked.lower()
    )


def worth_another(wire: bytes) -> bool:
    """Whether the next resolver may know better."""
    return wire[3] & 0x0F in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)
