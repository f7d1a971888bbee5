"""Routes payloads to stories: Bolt gets one listener for each type of payload, which passes the parsed value on."""

import html
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse

from bot.model.catalog import is_bucket_name
from bot.model.foreign_text import one_line
from bot.model.reference import bound_reference
from bot.slack import form as modal
from bot.slack.blocks import Json, escape
from bot.slack.inbound.payloads import Choice, Command, Opened, Payload, Press, Search, Submit
from bot.slack.subcommands import COMMAND, Subcommand, ask_back

PAYLOAD: Final = "parsed_payload"
"""The key of the parsed value in Bolt's context, set by the ingress."""

_REACHED: Final = "reached_a_story"
"""The key that says that Bolt found a listener for the payload: what breaks before is due to its shape."""

_P = TypeVar("_P", bound=Payload)

_log = structlog.get_logger()


class PayloadMisread(Exception):  # noqa: N818 - as the other refusals are named
    """Bolt and our parser read a payload differently, as none of Slack's makes them."""


class Routes:
    """Where stories register; a story returns the answer to Slack. Call `attach` last."""

    def __init__(self) -> None:
        self._commands: dict[Subcommand, Callable[[Command], Awaitable[str | Json]]] = {}
        self._submits: dict[str, Callable[[Submit], Awaitable[Json]]] = {}
        self._searches: dict[str, Callable[[Search], Awaitable[list[Json]]]] = {}
        self._presses: dict[tuple[str, bool], Callable[[Press], Awaitable[None]]] = {}
        self._choices: dict[str, Callable[[Choice], Awaitable[None]]] = {}
        self._openings: list[Callable[[Opened], Awaitable[None]]] = []

    def on_command(self, subcommand: Subcommand, answer: Callable[[Command], Awaitable[str | Json]]) -> None:
        """Answer a subcommand, visibly to this person only, with text, a message or ""."""
        self._commands[subcommand] = answer

    def on_submit(self, callback_id: str, answer: Callable[[Submit], Awaitable[Json]]) -> None:
        """Answer the Submit of a form with a `response_action`."""
        self._submits[callback_id] = answer

    def on_search(self, action_id: str, answer: Callable[[Search], Awaitable[list[Json]]]) -> None:
        """Answer what was typed into a field with options."""
        self._searches[action_id] = answer

    def on_press(self, action_id: str, act: Callable[[Press], Awaitable[None]], *, in_view: bool | None = None) -> None:
        """Act on a button, in messages and views, or only in one of them."""
        for place in (False, True) if in_view is None else (in_view,):
            self._presses[action_id, place] = act

    def on_choice(self, action_id: str, act: Callable[[Choice], Awaitable[None]]) -> None:
        """Act when another option is chosen in an open form."""
        self._choices[action_id] = act

    def on_opened(self, act: Callable[[Opened], Awaitable[None]]) -> None:
        """Act when a person opens a tab of the app."""
        self._openings.append(act)

    def attach(self, app: AsyncApp) -> None:
        """Register all listeners with Bolt."""
        for callback_id in self._submits:
            app.view(callback_id)(self._take_submit)
        for action_id in self._searches:
            app.options(action_id)(self._take_search)
        app.command(COMMAND)(self._take_command)
        for action_id in sorted({action_id for action_id, _ in self._presses}):
            app.action(action_id)(self._take_press)
        for action_id in self._choices:
            app.action(action_id)(self._take_choice)
        app.event("app_home_opened")(self._take_opened)
        app.error(self._answer_fault)

    async def _take_command(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        await ack(await self._answer_command(_parsed(context, Command)))

    async def _answer_command(self, command: Command) -> str | Json:
        if command.has_token:
            _log.warning("token_typed_in_command", user=command.actor.user_id)
            return modal.REVOKE_ADVICE
        if command.bucket and not command.subcommand.takes_many and not is_bucket_name(command.bucket):
            typed = escape(one_line(html.unescape(command.bucket))[:80])  # Slack escaped it once
            if command.guess is not None:
                return ask_back(typed.replace("`", ""), command.guess)
            return f"`{typed}`: {modal.check_bucket(command.bucket)}"
        return await self._commands[command.subcommand](command)

    async def _take_submit(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        submit = _parsed(context, Submit)
        await ack(await self._submits[submit.callback_id](submit))

    async def _take_search(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        search = _parsed(context, Search)
        await ack(options=await self._searches[search.action_id](search))

    async def _take_press(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        await ack()
        press = _parsed(context, Press)
        act = self._presses.get((press.action_id, press.is_in_view))
        if act is not None:  # no button of the bot is in that place: only a modified client presses it there
            await act(press)

    async def _take_choice(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        await ack()
        choice = _parsed(context, Choice)
        await self._choices[choice.action_id](choice)

    async def _take_opened(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        await ack()
        for act in self._openings:
            await act(_parsed(context, Opened))

    async def _answer_fault(self, error: Exception, request: AsyncBoltRequest) -> BoltResponse:
        """Answer an unexpected error: a reference for the person, the type for the log, nothing of the payload."""
        reference = bound_reference() or secrets.token_hex(4)
        event = "listener_broke" if _REACHED in request.context else "slack_payload_broke"
        _log.error(event, error=type(error).__name__, reference=reference)
        text = f"Something unexpected happened, reference {reference}. Please report it to the operator of the bot."
        payload = request.context.get(PAYLOAD)
        if isinstance(payload, Submit):
            return BoltResponse(status=HTTPStatus.OK, body=modal.form_error(text, payload.callback_id))
        return BoltResponse(status=HTTPStatus.OK, body=text if isinstance(payload, Command) else "")


def _parsed(context: AsyncBoltContext, kind: type[_P]) -> _P:
    """Return the parsed value; raises PayloadMisread where it is of another type than Bolt takes it for."""
    payload = context[PAYLOAD]
    if not isinstance(payload, kind):
        raise PayloadMisread
    context[_REACHED] = True
    return payload
