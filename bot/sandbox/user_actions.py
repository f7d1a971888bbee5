"""What a person can do and see: type a command, fill a modal, open the App Home, press a button, each to its end.

A step that no person could take (a field that is not there, an option that was not offered) raises ImpossibleStepError.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bot.sandbox.answers import CommandOutcome, SubmitOutcome, ViewAnswers, answer_command
from bot.sandbox.block_rules import options_problems
from bot.sandbox.blocks import Field, JsonObject
from bot.sandbox.forging import Forge
from bot.sandbox.handles import RefusedError
from bot.sandbox.homes import Home
from bot.sandbox.modals import Modal, OpenView
from bot.sandbox.payloads import Tab, action_of
from bot.sandbox.transport import Answer, Failure
from bot.sandbox.views import View, options_of
from bot.sandbox.workspace import PATIENCE, Channel, Message, reject_step

SYSTEM_USER_ID = "USYSTEM00"

_DEFAULT_MIN_QUERY_LENGTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option as a person sees it, and its value."""

    text: str
    value: str
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """What the type-ahead offers; nothing is asked for a query shorter than the field's minimum."""

    options: tuple[Option, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickOutcome:
    """What came of a press; `failure` is what the person sees as a warning sign."""

    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOutcome:
    """What came of opening the App Home; `was_sent` False when the app did not subscribe to the event.

    A person sees nothing of a `failure`: the tab stays as it was.
    """

    failure: Failure | None = None
    was_sent: bool = True


@dataclass(slots=True, kw_only=True, repr=False)
class UserActions(Forge):
    """The in-process hands and eyes of the workspace's people."""

    # What a person does.

    async def say(self, user_id: str, channel_id: str, text: str) -> Message:
        """Post an ordinary message; the app does not learn of it."""
        channel = self._writable_channel(user_id, channel_id)
        message = Message(ts="", channel_id=channel.id, user_id=user_id, text=html.escape(text, quote=False))
        return self.workspace.post(message)

    async def type_command(self, user_id: str, channel_id: str, line: str) -> CommandOutcome:
        """Type `/command text` in a channel; what the person sees as the answer is in the outcome and the channel."""
        channel = self._writable_channel(user_id, channel_id)
        command = line.partition(" ")[0]
        if command not in {known.command for known in self.workspace.config.commands}:
            return self._tell_failure(user_id, channel, f"{command} is not a valid command.", None)
        payload = self.make_command(user_id, channel_id, line)
        answer = await self.transport.deliver("slash_commands", payload)
        message = None
        try:
            message = answer_command(answer, self.workspace, self.problems, user_id=user_id, channel_id=channel_id)
        except RefusedError:
            answer = Answer(failure="dispatch_failed")
        if answer.failure is not None:
            text = f"{command} failed with the error {answer.failure}"
            return self._tell_failure(user_id, channel, text, answer.failure)
        if message is not None:
            self.response_urls.remember_original(payload["response_url"], message.ts)
        return CommandOutcome(message=message)

    async def search_options(self, user_id: str, name: str, query: str) -> SearchOutcome:
        """Type into the type-ahead with this block_id or action_id; what it offers can then be chosen by `fill`."""
        view = self._open_view(user_id)
        one = view.field_at(name)
        if one.kind != "external_select":
            reject_step(f"{name!r} is no type-ahead")
        if len(query) < one.element.get("min_query_length", _DEFAULT_MIN_QUERY_LENGTH):
            return SearchOutcome()
        payload = self.payloads.options(view, one.block_id, one.action_id, query)
        answer = await self.transport.deliver("interactive", payload)
        if answer.failure is None and (problems := options_problems(answer.body)):
            self.problems.extend(f"options: {problem}" for problem in problems)
            answer = Answer(failure="dispatch_failed")
        if answer.failure is not None:
            return SearchOutcome(failure=answer.failure)
        offered = options_of(answer.body or {})
        view.offered[one.block_id, one.action_id] = offered
        return SearchOutcome(options=tuple(_option(option) for option in offered))

    async def fill(self, user_id: str, name: str, value: str | Sequence[str]) -> ClickOutcome:
        """Put a value into the field with this block_id or action_id: a text, an option's value or text, a channel id.

        A type-ahead that does not offer the value yet is searched for it. A field that dispatches is sent to the app.
        """
        view = self._open_view(user_id)
        one = view.field_at(name)
        if one.kind == "external_select" and isinstance(value, str) and value and not _offers(view, one, value):
            await self.search_options(user_id, name, value)
        return await self._fill(view, one, value)

    async def submit(self, user_id: str) -> SubmitOutcome:
        """Press the modal's submit button and wait for what comes of it."""
        view = self._open_view(user_id)
        if not view.definition.get("submit"):
            reject_step("the view has no submit button")
        view.errors, view.notice = view.complaints(), None
        if view.errors:
            self.workspace.changes.announce()
            return SubmitOutcome(kind="errors", errors=dict(view.errors), view=view.snapshot(), was_sent=False)
        view.is_busy = True
        self.workspace.changes.announce()
        try:
            answer = await self.transport.deliver("interactive", self.make_submission(user_id))
        finally:
            view.is_busy = False
            self.workspace.changes.announce()
        return ViewAnswers(self.modals, self.problems).apply(view, answer)

    async def close(self, user_id: str, *, whole_stack: bool = False) -> None:
        """Press Cancel, or with `whole_stack` the cross that closes everything."""
        for view in self.modals.close(self._open_view(user_id), whole_stack=whole_stack):
            if view.definition.get("notify_on_close"):
                payload = self.payloads.closed(view, is_cleared=whole_stack)
                await self.transport.deliver("interactive", payload)

    async def open_home(self, user_id: str, *, tab: Tab = "home") -> OpenOutcome:
        """Open a tab of the App Home; what the app then publishes may come later: see `wait_for_home`."""
        if tab == "home" and not self.workspace.config.home_tab_enabled:
            reject_step("the app has no Home tab")
        if "app_home_opened" not in self.workspace.config.bot_events:
            return OpenOutcome(was_sent=False)
        answer = await self.transport.deliver("events_api", self.make_home_opened(user_id, tab=tab))
        return OpenOutcome(failure=answer.failure)

    async def click(
        self, user_id: str, where: Message | Modal | Home, action_id: str, value: str | Sequence[str] | None = None
    ) -> ClickOutcome:
        """Press a button (its confirmation given), or choose `value` in a select of a message or Home tab.

        Of several buttons with one action_id, `value` says which. A field of a Home tab may be named by its block_id.
        """
        if isinstance(where, Home):
            return await self._click_at_home(user_id, where, action_id, value)
        if isinstance(where, Modal):
            view = self._open_view(user_id)
            return await self._act_in_view(view, action_of(view.blocks, action_id, _one_value(value)))
        action = action_of(list(where.blocks), action_id, _one_value(value))
        payload = self.make_message_action(user_id, where, action)
        return ClickOutcome(failure=(await self.transport.deliver("interactive", payload)).failure)

    # What a person sees.

    def modal(self, user_id: str) -> Modal | None:
        """Return the view in front of the user."""
        view = self.modals.top(user_id)
        return view.snapshot() if view else None

    def home(self, user_id: str) -> Home | None:
        """Return what stands on the user's Home tab."""
        view = self.homes.of(user_id)
        return view.snapshot() if view else None

    def messages(self, channel_id: str, as_user: str | None = None) -> tuple[Message, ...]:
        """Return a conversation's messages, oldest first; with `as_user` also those that only this user sees."""
        return self.workspace.seen_messages(channel_id, as_user)

    def ephemerals(self, user_id: str, channel_id: str) -> tuple[Message, ...]:
        """Return what only this user sees in a conversation."""
        return tuple(message for message in self.messages(channel_id, user_id) if message.ephemeral_to == user_id)

    async def wait_for_view(
        self, user_id: str, predicate: Callable[[Modal], bool] = lambda _: True, within: timedelta = PATIENCE
    ) -> Modal:
        """Return the user's view as soon as it is as wanted."""

        def look() -> Modal | None:
            modal = self.modal(user_id)
            return modal if modal is not None and predicate(modal) else None

        return await self.workspace.changes.wait_until(look, within, f"the view for {user_id}")

    async def wait_for_home(
        self, user_id: str, predicate: Callable[[Home], bool] = lambda _: True, within: timedelta = PATIENCE
    ) -> Home:
        """Return what stands on the user's Home tab as soon as it is as wanted."""

        def look() -> Home | None:
            home = self.home(user_id)
            return home if home is not None and predicate(home) else None

        return await self.workspace.changes.wait_until(look, within, f"the Home tab of {user_id}")

    async def wait_for_message(
        self,
        channel_id: str,
        predicate: Callable[[Message], bool] = lambda _: True,
        within: timedelta = PATIENCE,
        *,
        as_user: str | None = None,
    ) -> Message:
        """Return the first message as wanted as soon as it is there; with `as_user` also among those only they see."""

        def look() -> Message | None:
            return next(filter(predicate, self.messages(channel_id, as_user)), None)

        return await self.workspace.changes.wait_until(look, within, f"the message in {channel_id}")

    def _writable_channel(self, user_id: str, channel_id: str) -> Channel:
        channel = self.workspace.channels[channel_id]
        if channel.is_archived or not channel.is_seen_by(user_id):
            reject_step(f"{user_id} cannot write in {channel_id}")
        return channel

    def _tell_failure(self, user_id: str, channel: Channel, text: str, failure: Failure | None) -> CommandOutcome:
        message = self.workspace.post(
            Message(ts="", channel_id=channel.id, user_id=SYSTEM_USER_ID, text=text, ephemeral_to=user_id)
        )
        return CommandOutcome(message=message, failure=failure or "invalid_command")

    async def _click_at_home(
        self, user_id: str, home: Home, name: str, value: str | Sequence[str] | None
    ) -> ClickOutcome:
        view = self._home_view(user_id)
        if view.id != home.id:
            reject_step(f"{home.id} is not on the Home tab of {user_id}")
        if fields := view.fields_at(name):
            return await self._fill(view, fields[0], "" if value is None else value)
        return await self._act_in_view(view, action_of(view.blocks, name, _one_value(value)))

    async def _fill(self, view: View, one: Field, value: str | Sequence[str]) -> ClickOutcome:
        self.modals.fill(view, one, value)
        if not one.dispatches:
            return ClickOutcome()
        state = view.values[one.block_id, one.action_id]
        return await self._act_in_view(view, {"block_id": one.block_id, "action_id": one.action_id, **state})

    async def _act_in_view(self, view: View, action: JsonObject) -> ClickOutcome:
        payload = {
            **self.payloads.view_action(view, self._stamped(action)),
            "trigger_id": self.triggers.issue(view.user, view.channel_id),
        }
        return ClickOutcome(failure=(await self.transport.deliver("interactive", payload)).failure)


def _option(option: JsonObject) -> Option:
    return Option(
        text=option["text"]["text"],
        value=option["value"],
        description=(option.get("description") or {}).get("text"),
    )


def _one_value(value: str | Sequence[str] | None) -> str | None:
    if value is not None and not isinstance(value, str):
        reject_step("only a field of a Home tab takes several values")
    return value


def _offers(view: OpenView, one: Field, value: str) -> bool:
    key = one.block_id, one.action_id
    chosen = view.values[key]["selected_option"]
    options = view.offered.get(key, []) + ([chosen] if chosen else [])
    return any(value in {option["value"], option["text"]["text"]} for option in options)
