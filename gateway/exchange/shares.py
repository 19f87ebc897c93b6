"""What one exchange with a backend may have in common with others: what is kept, and what is told on a stream."""

from typing import Final

from gateway.exchange.authorizations import is_filtered
from gateway.exchange.exchanges import Exchange
from gateway.exchange.recalls import relay_kept
from gateway.exchange.subscriptions import relay_listen
from gateway.policy.backends import Backend
from gateway.protocol.cacheables import CACHEABLE_METHODS
from gateway.protocol.intents import Intent
from gateway.protocol.subscriptions import LISTEN

SHARED_METHODS: Final = CACHEABLE_METHODS | {LISTEN}


async def relay_shared(exchange: Exchange, backend: Backend, intent: Intent, body: bytes) -> bool:
    """Whether the client has been served without a request of its own to the backend. For methods of `SHARED_METHODS`."""
    # What an aggregate's client sees of it, or one who may not see all, isn't what others see.
    if exchange.view is not None or is_filtered(exchange, intent):
        return False
    relay = relay_listen if exchange.record.method == LISTEN else relay_kept
    return await relay(exchange, backend, intent, body)
