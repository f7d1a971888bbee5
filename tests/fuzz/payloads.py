"""Slack's payloads as a person's client, or a taken-over one, could change them: sealed, and parsed into values."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Final

from bot.model.errors import SealedValueUnreadable
from bot.model.pasted_token import STORABLE, classify, trim
from bot.policy.gate import Actor
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.slack.blocks import Json
from bot.slack.inbound.ingress import SealedPayload, parse_json_object, seal_payload
from bot.slack.inbound.payloads import LONGEST_TEXT, Submit, UnverifiedForm, parse_payload, take_token
from tests.fuzz.target import DEEP, PLANTED, STAND_IN, Check, Target, as_json, changed_bytes, mutated, plant
from tests.leaks import find_leaks
from tests.make import ACCOUNT, AUTHENTICITY
from tests.slack.inbound.test_ingress import ADA, KINDS, PLATFORM, make_workspace

_NOW: Final = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
_OPENED: Final[Json] = {
    "type": "event_callback",
    "team_id": "T0SANDBOX",
    "event": {"type": "app_home_opened", "user": ADA, "tab": "home", "view": {"team_id": "T0SANDBOX"}},
}


def make_documents() -> list[Json]:
    """Return one payload of each kind, with the stand-in where people may put a token."""
    made = [make(make_workspace(), STAND_IN + "0123456789") for make in KINDS.values()]
    return [*made, _OPENED, make_workspace().make_command(ADA, PLATFORM, "/r2-credential status lake")]


@contextmanager
def _payloads() -> Iterator[Check]:
    ring = KeyRing(*load_private_keys(generate_private_key()))

    def check(data: bytes) -> None:
        text = plant(data.decode("utf-8", "replace"))
        body = parse_json_object(text)
        if body is None:
            return
        view = body.get("view")
        typed = take_token(json.loads(text)["view"]) if isinstance(view, dict) else ""
        try:
            sealed = seal_payload(body, ring.sealing_key, ACCOUNT, AUTHENTICITY.fingerprint)
        except RecursionError:
            return  # as documented: the request is refused
        _check_sealed(sealed, ring, typed)

    yield check


def _check_sealed(sealed: SealedPayload, ring: KeyRing, typed: str) -> None:
    parsed = parse_payload(sealed.body, _NOW, sealed.pasted, sealed.answer_url)
    assert find_leaks(_written(sealed, parsed), PLANTED) == []
    for text in _texts(parsed):
        text.encode()
        assert "\n" not in text
        assert len(text) <= LONGEST_TEXT
    if sealed.pasted is None:
        return
    assert isinstance(parsed, Submit)
    trimmed = trim(typed)
    assert (sealed.pasted.sealed is not None) == (classify(trimmed) in STORABLE)
    if sealed.pasted.sealed is not None:
        _check_context(ring, str(sealed.pasted.sealed), parsed, trimmed)


def _check_context(ring: KeyRing, sealed: str, submit: Submit, typed: str) -> None:
    """Open what was sealed as the submission that is recorded of this payload, and as no other one."""
    context = SealingContext(
        purpose=TOKEN,
        task=submit.form.task.value,
        team_id=submit.team_id,
        user_id=submit.actor.user_id,
        view_id=submit.view_id,
        channel_id=submit.form.channel_id,
        account_id=ACCOUNT,
        bucket=submit.form.bucket,
    )
    assert ring.open(sealed, context).reveal() == typed
    for name in SealingContext.__slots__:
        assert not _opens(ring, sealed, replace(context, **{name: getattr(context, name) + "x"}))


def _opens(ring: KeyRing, sealed: str, context: SealingContext) -> bool:
    try:
        ring.open(sealed, context)
    except SealedValueUnreadable:
        return False
    return True


def _texts(parsed: object) -> Iterator[str]:
    """Yield every text of a parsed payload."""
    for field in fields(parsed) if is_dataclass(parsed) else ():
        value = getattr(parsed, field.name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, Actor | UnverifiedForm):
            yield from _texts(value)


def _written(sealed: SealedPayload, parsed: object) -> bytes:
    """Write it in every way that a program may use; a Secret refuses to be pickled."""
    picklable = replace(sealed, answer_url=None)
    return b"\n".join(
        (repr((sealed, parsed)).encode(), json.dumps(sealed.body).encode(), pickle.dumps(picklable, protocol=5))
    )


_SEEDS: Final = tuple(json.dumps(document).encode() for document in make_documents()) + DEEP
_DOCUMENTS: Final = make_documents()

TARGETS: Final = (
    Target(
        name="payloads",
        open=_payloads,
        seeds=_SEEDS,
        inputs=as_json(mutated(_DOCUMENTS)) | changed_bytes(_SEEDS[: len(_DOCUMENTS)]),
    ),
)
