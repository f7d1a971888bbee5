"""How a submission is shown, ended or in progress: the one table that every display uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bot.model.submission import State, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one ending of one task is shown.

    `title` heads the message, after the `mark`; `view_title` heads the modal (24 characters at most); `headline` says
    it in one sentence; `words` say it in the history.
    """

    mark: str
    title: str
    view_title: str
    headline: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWords:
    """How a task in progress is shown: above the modal, in it, and after the name in the history."""

    title: str
    sentence: str
    aside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressStep:
    """One line of the progress, ticked off when its state has passed."""

    state: State
    label: str


class Special(StrEnum):
    """Endings that are shown differently from others with the same state."""

    ALARM = "alarm"
    """Stored, but Cloudflare says that it does not work or is not there."""
    NOWHERE = "nowhere"
    """Refused because the bucket has no usable catalog; nothing was wrong with the token."""
    NOT_APPROVED = "not_approved"
    """Denied because no approval counts; the person was allowed to ask."""
    RESTORED = "restored"
    """Expired because the database was restored: it is not known what was done after the backup."""


_STORED: Final = "{user} stored a new credential for the catalog of {bucket}."
_NOT_STORED: Final = "The credential that {user} submitted for {bucket} was not stored; nothing was changed."
_NOT_CHECKED: Final = "The token that {user} submitted for {bucket} could not be checked; nothing was changed."
_NOT_ENABLED: Final = "The catalog of {bucket}, which {user} wanted to enable, was not enabled."
_PERHAPS_STORED: Final = "It is not known whether the credential that {user} submitted for {bucket} was stored."
_ROTATED: Final = "The credential of the catalog of {bucket} was rotated by {user}."
_NOT_ROTATED: Final = "The rotation of {bucket} that {user} asked for did not succeed; nothing was changed."
_NOT_ROTATED_TITLE: Final = "Not rotated, nothing changed"
_PERHAPS_ROTATED: Final = (
    "It is not known whether the new token was stored by the rotation of {bucket} that {user} asked for."
)
_PERHAPS_ENABLED: Final = "It is not known whether the catalog of {bucket}, which {user} wanted to enable, was enabled."


def _denied(headline: str) -> Outcome:
    return Outcome(
        mark=":no_entry:",
        title="Not allowed, nothing changed",
        view_title="Not allowed",
        headline=headline,
        words="not allowed",
    )


def _not_approved(headline: str) -> Outcome:
    return Outcome(
        mark=":no_entry:",
        title="Not approved, nothing changed",
        view_title="Not approved",
        headline=headline,
        words="not approved",
    )


def _expired(headline: str) -> Outcome:
    return Outcome(
        mark=":hourglass:",
        title="Too late, nothing changed",
        view_title="Too late",
        headline=headline,
        words="too late",
    )


def _restored(headline: str, aside: str = "") -> Outcome:
    return Outcome(
        mark=":hourglass:",
        title=f"Given up, since the bot's database was restored{aside}",
        view_title="Given up",
        headline=headline,
        words="given up after a restore",
    )


OUTCOMES: Final[Mapping[Task, Mapping[State | Special, Outcome]]] = {
    Task.STORE: {
        State.STORED: Outcome(
            mark=":white_check_mark:",
            title="Credential stored",
            view_title="Credential stored",
            headline=_STORED,
            words="stored",
        ),
        Special.ALARM: Outcome(
            mark=":rotating_light:",
            title="Credential stored, but check it",
            view_title="Credential stored",
            headline=_STORED,
            words="stored, but check it",
        ),
        State.REFUSED: Outcome(
            mark=":no_entry:",
            title="Token refused, nothing changed",
            view_title="Token refused",
            headline=_NOT_STORED,
            words="refused",
        ),
        Special.NOWHERE: Outcome(
            mark=":no_entry:",
            title="No usable catalog, nothing changed",
            view_title="No usable catalog",
            headline=_NOT_STORED,
            words="no usable catalog",
        ),
        State.DENIED: _denied(_NOT_STORED),
        Special.NOT_APPROVED: _not_approved(_NOT_STORED),
        State.FAILED: Outcome(
            mark=":x:",
            title="Not stored, nothing changed",
            view_title="Not stored",
            headline=_NOT_STORED,
            words="failed",
        ),
        State.UNCERTAIN: Outcome(
            mark=":warning:",
            title="Not known whether it was stored",
            view_title="Not known if stored",
            headline=_PERHAPS_STORED,
            words="not known whether it was stored",
        ),
        State.SUPERSEDED: Outcome(
            mark=":arrows_counterclockwise:",
            title="Token replaced by a newer submission",
            view_title="Replaced by a newer one",
            headline="The credential that {user} submitted for {bucket} was replaced by a newer submission.",
            words="replaced by a newer submission",
        ),
        State.EXPIRED: _expired(_NOT_STORED),
        Special.RESTORED: _restored(_PERHAPS_STORED),
    },
    Task.CHECK: {
        State.CHECKED: Outcome(
            mark=":mag:",
            title="Passed every check before the write, nothing changed",
            view_title="Checked, not stored",
            headline=(
                "The token that {user} had checked for {bucket} passed every check before the write; nothing was "
                "changed."
            ),
            words="checked, nothing changed",
        ),
        State.REFUSED: Outcome(
            mark=":no_entry:",
            title="Check not passed, nothing changed",
            view_title="Check not passed",
            headline="The token that {user} had checked for {bucket} did not pass every check; nothing was changed.",
            words="refused",
        ),
        State.DENIED: _denied(_NOT_CHECKED),
        State.FAILED: Outcome(
            mark=":x:",
            title="Not checked, nothing changed",
            view_title="Not checked",
            headline=_NOT_CHECKED,
            words="failed",
        ),
        State.EXPIRED: _expired(_NOT_CHECKED),
        Special.RESTORED: _restored(_NOT_CHECKED, ": nothing changed"),
    },
    Task.ENABLE: {
        State.ENABLED: Outcome(
            mark=":white_check_mark:",
            title="Catalog enabled",
            view_title="Catalog enabled",
            headline="{user} enabled the catalog of {bucket}.",
            words="catalog enabled",
        ),
        State.REFUSED: Outcome(
            mark=":x:",
            title="Catalog not enabled",
            view_title="Not enabled",
            headline=_NOT_ENABLED,
            words="refused",
        ),
        State.DENIED: _denied(_NOT_ENABLED),
        Special.NOT_APPROVED: _not_approved(_NOT_ENABLED),
        State.FAILED: Outcome(
            mark=":x:",
            title="Catalog not enabled",
            view_title="Not enabled",
            headline=_NOT_ENABLED,
            words="failed",
        ),
        State.UNCERTAIN: Outcome(
            mark=":warning:",
            title="Not known whether it was enabled",
            view_title="Not known if enabled",
            headline=_PERHAPS_ENABLED,
            words="not known whether it was enabled",
        ),
        State.EXPIRED: _expired(_NOT_ENABLED),
        Special.RESTORED: _restored(_PERHAPS_ENABLED),
    },
    Task.ROTATE: {
        State.STORED: Outcome(
            mark=":white_check_mark:",
            title="Credential rotated",
            view_title="Credential rotated",
            headline=_ROTATED,
            words="rotated",
        ),
        Special.ALARM: Outcome(
            mark=":rotating_light:",
            title="Credential rotated, but check it",
            view_title="Credential rotated",
            headline=_ROTATED,
            words="rotated, but check it",
        ),
        State.REFUSED: Outcome(
            mark=":no_entry:",
            title=_NOT_ROTATED_TITLE,
            view_title="Not rotated",
            headline=_NOT_ROTATED,
            words="refused",
        ),
        Special.NOWHERE: Outcome(
            mark=":no_entry:",
            title="No usable catalog, nothing changed",
            view_title="No usable catalog",
            headline=_NOT_ROTATED,
            words="no usable catalog",
        ),
        State.DENIED: _denied(_NOT_ROTATED),
        Special.NOT_APPROVED: _not_approved(_NOT_ROTATED),
        State.FAILED: Outcome(
            mark=":x:",
            title=_NOT_ROTATED_TITLE,
            view_title="Not rotated",
            headline=_NOT_ROTATED,
            words="failed",
        ),
        State.UNCERTAIN: Outcome(
            mark=":warning:",
            title="Not known whether it was rotated",
            view_title="Not known if rotated",
            headline=_PERHAPS_ROTATED,
            words="not known whether it was rotated",
        ),
        State.SUPERSEDED: Outcome(
            mark=":arrows_counterclockwise:",
            title="Rotation replaced by a newer submission",
            view_title="Replaced by a newer one",
            headline="The rotation of {bucket} that {user} asked for was replaced by a newer submission.",
            words="replaced by a newer submission",
        ),
        State.EXPIRED: _expired(_NOT_ROTATED),
        Special.RESTORED: _restored(_PERHAPS_ROTATED),
    },
}
"""Every possible ending of each task; a test proves that none is missing."""

UNFORESEEN: Final = Outcome(
    mark=":warning:",
    title="Something unexpected happened",
    view_title="Something unexpected",
    headline="What {user} submitted for {bucket} ended in a way that the bot did not expect.",
    words="ended unexpectedly",
)
TASK_WORDS: Final[Mapping[Task, TaskWords]] = {
    Task.STORE: TaskWords(
        title="Storing...",
        sentence="The token for the catalog of *{bucket}* is encrypted and on its way.",
        aside="",
    ),
    Task.CHECK: TaskWords(
        title="Checking...",
        sentence="The token for the catalog of *{bucket}* is encrypted and being checked. Nothing will be stored.",
        aside=", check only",
    ),
    Task.ENABLE: TaskWords(
        title="Enabling...",
        sentence="The catalog of *{bucket}* is being enabled.",
        aside=", to enable the catalog",
    ),
    Task.ROTATE: TaskWords(
        title="Rotating...",
        sentence="The catalog of *{bucket}* gets a token that the bot makes itself. Nobody sees it.",
        aside=", to rotate the credential",
    ),
}

_AWAITING: Final = "Waiting for approval"
AWAITING_WORDS: Final[Mapping[Task, TaskWords]] = {
    Task.STORE: TaskWords(
        title=_AWAITING,
        sentence="The token for the catalog of *{bucket}* has been checked, and stays encrypted until someone decides.",
        aside="",
    ),
    Task.ENABLE: TaskWords(
        title=_AWAITING,
        sentence="The catalog of *{bucket}* is enabled as soon as someone approves it.",
        aside="",
    ),
    Task.ROTATE: TaskWords(
        title=_AWAITING,
        sentence="No token is made for the catalog of *{bucket}* before someone approves it.",
        aside="",
    ),
}
"""How a task is shown that needs another person's approval; a dry run never does."""
