"""What Slack does with an app's answer to a command or a submission, and what a person sees when it is invalid."""

from dataclasses import dataclass, field
from typing import Literal

from bot.sandbox.block_rules import view_problems
from bot.sandbox.blocks import JsonObject
from bot.sandbox.handles import RefusedError, from_app, said
from bot.sandbox.modals import Modal, Modals, OpenView
from bot.sandbox.transport import Answer, Failure
from bot.sandbox.workspace import Message, Workspace

TROUBLE = "We had some trouble connecting. Try again?"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutcome:
    """What a typed command led to: a message (the app's, or Slack's about the failure), or nothing to see."""

    message: Message | None = None
    failure: Failure | Literal["invalid_command"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOutcome:
    """What Submit led to; `view` is what stands in front of the person now, `was_sent` False when the form complained.

    `failed` means that the person sees "trouble connecting" over the form, with everything typed kept.
    """

    kind: Literal["closed", "updated", "pushed", "cleared", "errors", "failed"]
    view: Modal | None = None
    errors: dict[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    was_sent: bool = True


def answer_command(
    answer: Answer, workspace: Workspace, problems: list[str], *, user_id: str, channel_id: str
) -> Message | None:
    """Post what the app answered to a command, if anything; a bad answer is noted and raises RefusedError."""
    content: JsonObject = answer.body or ({"text": answer.text} if answer.text else {})
    if answer.failure is not None or not content:
        return None
    try:
        ephemeral_to = None if content.get("response_type") == "in_channel" else user_id
        return workspace.post(from_app(workspace, channel_id, said(content), ephemeral_to=ephemeral_to))
    except RefusedError as refused:
        problems.append(" ".join((f"answer to a command: {refused.error}", *refused.messages)))
        raise


@dataclass(frozen=True, slots=True)
class ViewAnswers:
    """Applies answers to submissions to the modals."""

    modals: Modals
    problems: list[str]

    def apply(self, view: OpenView, answer: Answer) -> SubmitOutcome:
        """Do what the answer says with the submitted view."""
        if self.modals.find(view.id) is None:
            # The person closed it meanwhile: no one is there to see the answer.
            return SubmitOutcome(kind="closed", failure=answer.failure)
        if answer.failure is not None:
            return self._fail(view, answer.failure)
        body: JsonObject = {"text": answer.text} if answer.text else answer.body or {}
        if not body:
            self.modals.close(view)
            return self._outcome("closed", view)
        if wrong := self._wrongs(view, body):
            self.problems.extend(f"answer to a submission: {one}" for one in wrong)
            return self._fail(view, "dispatch_failed")
        return self._follow(view, body)

    def _wrongs(self, view: OpenView, body: JsonObject) -> list[str]:
        action = body.get("response_action")
        if action == "errors":
            return _errors_problems(view, body.get("errors"))
        if action in {"update", "push"}:
            problems = view_problems(body.get("view"))
            if action == "push" and not self.modals.can_push(view):
                problems.append("push_limit_reached")
            return problems
        return [] if action == "clear" else [f"unknown answer with the fields {sorted(body)}"]

    def _follow(self, view: OpenView, body: JsonObject) -> SubmitOutcome:
        action = body["response_action"]
        if action == "errors":
            view.errors = dict(body["errors"])
            self.modals.changes.announce()
            return SubmitOutcome(kind="errors", errors=dict(view.errors), view=view.snapshot())
        if action == "update":
            self.modals.update(view, body["view"])
            view.acknowledged_at = self.modals.config.clock()
            return self._outcome("updated", view)
        if action == "push":
            self.modals.push(view, body["view"])
            return self._outcome("pushed", view)
        self.modals.close(view, whole_stack=True)
        return self._outcome("cleared", view)

    def _fail(self, view: OpenView, failure: Failure) -> SubmitOutcome:
        view.notice = TROUBLE
        self.modals.changes.announce()
        return SubmitOutcome(kind="failed", view=view.snapshot(), failure=failure)

    def _outcome(self, kind: Literal["closed", "updated", "pushed", "cleared"], view: OpenView) -> SubmitOutcome:
        top = self.modals.top(view.user.id)
        return SubmitOutcome(kind=kind, view=top.snapshot() if top else None)


def _errors_problems(view: OpenView, errors: object) -> list[str]:
    if not isinstance(errors, dict) or not errors:
        return ["errors must be a non-empty object"]
    inputs = {one.block_id for one in view.fields if one.is_input}
    wrong = [f"errors: no input block {block_id!r}" for block_id in errors if block_id not in inputs]
    return wrong + [
        f"errors: {block_id!r} has no text"
        for block_id, text in errors.items()
        if not text or not isinstance(text, str)
    ]
