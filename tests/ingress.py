"""An ingress as the composition root builds it, but for a fake Slack of which no view is another app's."""

from collections.abc import Callable
from datetime import datetime

from slack_bolt.async_app import AsyncApp

from bot.model.right_of_way import RightOfWay
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.slack.inbound.ingress import Ingress
from tests.make import ACCOUNT, AUTHENTICITY


def make_ingress(
    app: AsyncApp,
    clock: Callable[[], datetime],
    key_ring: KeyRing | None = None,
    *,
    account_id: str = ACCOUNT,
    right_of_way: RightOfWay | None = None,
) -> Ingress:
    """Build it, with a new key if none is given."""
    key_ring = key_ring or KeyRing(*load_private_keys(generate_private_key()))
    fingerprint = AUTHENTICITY.fingerprint
    return Ingress(app, key_ring, account_id, clock, owner=None, fingerprint=fingerprint, right_of_way=right_of_way)
