"""Our table of nftables, kept as the records have it, and what other firewalls make of our packets."""

import asyncio
import logging
from collections.abc import Collection

from hyperd.errors import HyperError

from . import firewall, rules
from .records import Settings
from .state import State

_log = logging.getLogger(__name__)


class Filtering:
    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings
        self._told: frozenset[str] = frozenset()

    async def apply(self) -> None:
        """:raise HyperError: nft is missing, or the kernel refused: nothing changed"""
        if not self._settings.packet_filter:
            return
        networks = sorted(self._state.networks.values(), key=lambda net: net.name)
        pods = sorted(self._state.pods.values(), key=lambda pod: pod.id)
        text = rules.render(self._settings.instance, networks, pods, self._settings.mark)
        await asyncio.to_thread(rules.apply, text)

    async def look(self) -> tuple[str, ...]:
        """What stands in the way, after what we may do about it was done. Each is logged once."""
        if not self._settings.packet_filter:
            return ()
        mark, allow = self._settings.mark, self._settings.allow_in_docker
        try:
            found = await asyncio.to_thread(lambda: firewall.settle(mark, allow_in_docker=allow))
        except HyperError as error:
            found = (str(error),)
        for text in set(found) - self._told:
            _log.warning("%s", text)
        self._told = frozenset(found)
        return found

    async def forget_flows(self, addresses: Collection[str]) -> None:
        """Has the kernel forget where datagrams to these pods went: a sender that goes on would reach them for ever by a port that is theirs no more."""
        if self._settings.packet_filter:
            await asyncio.to_thread(rules.forget_flows, addresses)

    async def remove(self) -> None:
        if self._settings.packet_filter:
            await asyncio.to_thread(rules.remove, self._settings.instance)
        await asyncio.to_thread(firewall.forget, self._settings.mark)
