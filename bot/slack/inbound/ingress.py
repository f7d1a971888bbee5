"""What both transports share: it seals a verified payload, then has Bolt answer it in time.

Beyond this module no payload holds a token. It must not log, store or answer with anything from a payload.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.response import BoltResponse

from bot.metrics import ACKNOWLEDGED, Metrics
from bot.model.background import Background
from bot.model.foreign_text import one_line
from bot.model.pasted_token import DIGEST_MASK, MASK, STORABLE, classify, find_other_secret, mask_tokens, trim
from bot.model.reference import about, bound_reference
from bot.model.request_log import start_request
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.model.submission import PastedToken, SealedResponseUrl, SealedToken, Task, TokenKind
from bot.sealing.hpke import RESPONSE_URL, TOKEN, KeyRing, PublicRing, SealingContext, SealingKey
from bot.slack import form as modal
from bot.slack.blocks import Json
from bot.slack.inbound.owner import Owner
from bot.slack.inbound.payloads import (
    UnverifiedForm,
    actor_of_interaction,
    installed_team_id,
    name_of,
    object_of,
    parse_form,
    parse_payload,
    rewrite_reason,
    take_token,
    view_id_of,
)
from bot.slack.inbound.routes import PAYLOAD

_ANSWER_TIMEOUT: Final = timedelta(seconds=2.5)
"""Slack allows 3 s by its own clock; the rest is for the network."""

_TRIGGER: Final = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}\.[0-9a-f]{1,64}")
"""A trigger id comes from Slack, is needed unchanged and never shown, so it is not masked."""

_TOO_LATE: Final = (
    "The bot did not answer in time, and it is not known whether this was recorded. Press the button again: that is "
    "safe, nothing is stored twice."
)
_GIVEN_UP: Final = (
    "This reached the bot after Slack had given up on it, so it was not accepted. Press the button again."
)
_OF_ANOTHER_APP: Final = "This form belongs to another app, so nothing was sent. Report it to the operator of the bot."
_COMMAND_TOO_LATE: Final = "The bot did not answer in time. If no form opens, type the command again."
_DRAIN_PATIENCE: Final = timedelta(seconds=2.5)

_KINDS: Final = frozenset(
    {"command", "view_submission", "view_closed", "block_actions", "block_suggestion", "event_callback"}
)

_log = structlog.get_logger()


class Ingress:
    """Passes sealed payloads to Bolt, tracks those in progress, and answers in time whatever Bolt does."""

    def __init__(  # noqa: PLR0913 - the composition root fills this
        self,
        app: AsyncApp,
        key_ring: KeyRing | PublicRing,
        account_id: str,
        clock: Callable[[], datetime],
        *,
        owner: Owner | None,
        fingerprint: Callable[[str], str],
        metrics: Metrics | None = None,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        """Without an owner, payloads about other apps are taken too: only for tests that have no Slack."""
        self._right_of_way = right_of_way or RightOfWay()
        self._metrics = metrics or Metrics()
        self._app = app
        self._owner = owner
        self._clock = clock
        self._key_ring = key_ring
        self._account_id = account_id
        self._fingerprint = fingerprint
        self._under_way = Background("slack_payload_broke")

    async def dispatch(
        self, verified_body: Json, *, sent_at: datetime | None = None, is_given_up: bool = False
    ) -> BoltResponse:
        """Seal, then let Bolt answer. `verified_body` came with a valid signature or over Slack's own socket.

        `sent_at`: when Slack signed it; `is_given_up`: Slack no longer waits for an answer. Such a Submit is not
        accepted: the person saw that it failed, and may have submitted another token since.
        Raises RecursionError for JSON nested deeper than any payload of Slack's.
        """
        received_at, began = self._clock(), time.monotonic()
        sealed = seal_payload(verified_body, self._key_ring.sealing_key, self._account_id, self._fingerprint)
        verified_body.clear()  # the callers' frames keep it until Bolt has answered
        reference = view_id_of(sealed.body) if _is_submit(sealed.body) else ""
        with self._first(sealed.body), about(reference):
            if is_given_up and _is_submit(sealed.body):
                return _refuse_given_up(sealed.body)
            if self._owner is not None and self._owner.disowns(sealed.body):
                return _disown(sealed.body)
            task = self._under_way.start(self._ask_bolt(sealed, received_at, sent_at), reference=reference)
            end = start_request("slack_payload", type=_kind_of(sealed.body))
            done, _ = await asyncio.wait({task}, timeout=_ANSWER_TIMEOUT.total_seconds())
            response = task.result() if done else _too_late(sealed.body)
            end(response.status)
            self._metrics.observe(ACKNOWLEDGED, time.monotonic() - began, _kind_of(sealed.body))
            return response

    def _first(self, body: Json) -> AbstractContextManager[None]:
        """Let a Submit go before deliveries. Most others wait for Slack, which may take long and needs no CPU."""
        return self._right_of_way.acknowledging() if _is_submit(body) else nullcontext()

    async def _ask_bolt(self, sealed: "SealedPayload", received_at: datetime, sent_at: datetime | None) -> BoltResponse:
        """Ask Bolt. Our listeners' errors go to the app's error handler; a traceback of Bolt's must not be logged."""
        try:
            payload = parse_payload(sealed.body, received_at, sealed.pasted, sealed.answer_url, sent_at)
            request = AsyncBoltRequest(body=sealed.body, mode="socket_mode", context={PAYLOAD: payload})
            return await self._app.async_dispatch(request)
        except Exception as error:  # noqa: BLE001 - Bolt trusts the shape of a payload, down to any KeyError
            reference = bound_reference() or secrets.token_hex(4)
            _log.error("slack_payload_broke", error=type(error).__name__, reference=reference)
            return BoltResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR, body=f"reference {reference}\n")

    async def drain(self) -> None:
        """Wait for payloads in progress while Slack may still wait for their answers."""
        await self._under_way.drain(_DRAIN_PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPayload:
    """A payload without any token in it, and what was pasted into the form's token field, sealed.

    `answer_url`, kept in memory only, accepts answers to a command or a pressed button for half an hour.
    """

    body: Json
    pasted: PastedToken | None
    answer_url: Secret | None = None


def seal_payload(
    unverified_body: Json, key: SealingKey, account_id: str, fingerprint: Callable[[str], str]
) -> SealedPayload:
    """Take the token out of a payload, mask token-shaped text elsewhere, and remove every response URL.

    A submission's token and the response URL of its result channel are returned sealed, bound to workspace, user, view,
    channel, task, account and bucket. Modifies the given body.
    """
    view = unverified_body.get("view")
    token = take_token(view) if isinstance(view, dict) else ""
    if isinstance(view, dict):
        rewrite_reason(view, partial(_mask_text, digest_mask=DIGEST_MASK))
    response_urls = unverified_body.pop("response_urls", None)
    answer_url = unverified_body.pop("response_url", None)
    body = _mask(unverified_body)
    if not isinstance(view, dict) or body.get("type") != "view_submission":
        url = Secret(answer_url) if isinstance(answer_url, str) and answer_url else None
        return SealedPayload(body=body, pasted=None, answer_url=url)
    form = parse_form(body["view"])
    context = _sealing_context(body, account_id, form)
    pasted = _seal(token, _find_url(response_urls, form.channel_id), key, context)
    if pasted.sealed is not None:
        pasted = replace(pasted, fingerprint=fingerprint(trim(token)))
    return SealedPayload(body=body, pasted=pasted)


def _seal(token: str, response_url: str | None, key: SealingKey, context: SealingContext) -> PastedToken:
    trimmed = trim(token)
    kind = classify(trimmed)
    if kind not in STORABLE and context.task != Task.ROTATE:
        return PastedToken(kind=kind, last_four="", sealed=None, looks_like=find_other_secret(trimmed))
    url = key.seal(response_url, replace(context, purpose=RESPONSE_URL)) if response_url else None
    sealed_url = SealedResponseUrl(url) if url else None
    if context.task == Task.ROTATE:  # its form has no field for a token: one that a client adds is dropped
        return PastedToken(kind=TokenKind.EMPTY, last_four="", sealed=None, sealed_response_url=sealed_url)
    return PastedToken(
        kind=kind,
        last_four=trimmed[-4:],
        sealed=SealedToken(key.seal(trimmed, context)),
        sealed_response_url=sealed_url,
    )


def _sealing_context(body: Json, account_id: str, form: UnverifiedForm) -> SealingContext:
    return SealingContext(
        purpose=TOKEN,
        task=form.task.value,
        team_id=installed_team_id(body),
        user_id=actor_of_interaction(body).user_id,
        view_id=view_id_of(body),
        channel_id=form.channel_id,
        account_id=account_id,
        bucket=form.bucket,
    )


def _find_url(response_urls: object, channel_id: str) -> str | None:
    """Return the response URL that Slack made for the chosen channel."""
    for entry in response_urls if isinstance(response_urls, list) else []:
        if isinstance(entry, dict) and entry.get("channel_id") == channel_id:
            url = entry.get("response_url")
            return url if isinstance(url, str) else None
    return None


def _is_submit(body: Json) -> bool:
    return body.get("type") == "view_submission"


def _form_error(problem: str, body: Json) -> BoltResponse:
    callback_id = name_of(object_of(body.get("view")).get("callback_id"))
    return BoltResponse(status=HTTPStatus.OK, body=modal.form_error(problem, callback_id))


def _refuse_given_up(body: Json) -> BoltResponse:
    """Return a form error, in case Slack still shows it."""
    _log.warning("submit_came_too_late")
    return _form_error(_GIVEN_UP, body)


def _disown(body: Json) -> BoltResponse:
    """Do nothing; only a form still shows an answer, in case it is this app's after all."""
    _log.warning("payload_of_another_app", type=_kind_of(body))
    return _form_error(_OF_ANOTHER_APP, body) if _is_submit(body) else BoltResponse(status=HTTPStatus.OK, body="")


def _kind_of(body: Json) -> str:
    """Return Slack's name for this type of payload; an unknown name is not quoted."""
    kind = "command" if "command" in body else body.get("type")
    return kind if isinstance(kind, str) and kind in _KINDS else "other"


def _too_late(body: Json) -> BoltResponse:
    """Answer that the outcome is unknown: the submission may be recorded a moment later."""
    reference = bound_reference() or secrets.token_hex(4)
    _log.error("slack_answer_too_late", type=name_of(body.get("type") or body.get("command")), reference=reference)
    if _is_submit(body):
        return _form_error(f"{_TOO_LATE} Reference: {reference}", body)
    if "command" in body:
        return BoltResponse(status=HTTPStatus.OK, body=f"{_COMMAND_TOO_LATE} Reference: {reference}")
    return BoltResponse(status=HTTPStatus.SERVICE_UNAVAILABLE)


def parse_json_object(text: str) -> Json | None:
    """Return the object that a JSON text holds, or None for anything else."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _mask(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """Return the value with every token-shaped text masked, at any depth."""
    if isinstance(value, dict):
        return _mask_object(value)
    if isinstance(value, list):
        return [_mask(part) for part in value]
    return _mask_text(value) if isinstance(value, str) else value


def _mask_text(text: str, *, digest_mask: str = MASK) -> str:
    """Mask what is token-shaped, also once read as one line: invisible characters can split a token.

    Other text stays unchanged, so that nothing becomes an id by losing such a character.
    """
    line = one_line(text)
    masked = mask_tokens(line, digest_mask=digest_mask)
    return masked if text == line or masked != line else mask_tokens(text, digest_mask=digest_mask)


def _mask_object(value: Json) -> Json:
    """Mask the names too. Two names may become equal: number them, so that no value replaces another silently."""
    masked: Json = {}
    for number, (name, part) in enumerate(value.items()):
        shown = mask_tokens(name)
        while shown in masked:
            shown = f"{mask_tokens(name)} {number}"
            number += len(value)  # noqa: PLW2901 - a number that no other name gets
        is_trigger = name == "trigger_id" and isinstance(part, str) and _TRIGGER.fullmatch(part)
        masked[shown] = part if is_trigger else _mask(part)
    return masked
