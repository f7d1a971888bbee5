"""The account's catalogs as a paged table, most urgent first, for a message or the App Home. Pure."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from bot.model.catalog import BucketKey, CatalogStatus, CredentialStatus
from bot.model.similar_names import find_similar
from bot.policy.permit import NOWHERE, Outlook
from bot.slack.ages import Freshness, ago, describe_age
from bot.slack.blocks import Json, actions, button, context, date, did_you_mean, escape, header, section
from bot.slack.button_values import bucket_value
from bot.slack.messages.explanation import expiry
from bot.slack.messages.render import TRY_AGAIN, rotate_button
from bot.slack.messages.requester import name_requester
from bot.slack.stories.need import Need, Row
from bot.slack.stories.rotation_words import describe_rotation
from bot.slack.stories.visible_catalogs import VisibleCatalogs

STORE: Final = "store_credential"
"""The action id of the App Home's button, which opens an empty form."""

ROTATE_ANY: Final = "rotate_any_credential"
"""The same for the form of a rotation."""

PREVIOUS_PAGE: Final = "previous_page"
NEXT_PAGE: Final = "next_page"
"""The action ids of a table's page buttons; their value is that of a `Look`."""

PAGE_ROWS: Final = 20

_NAMED: Final = 5
_LOOK: Final = re.compile(r"([0-9]{1,5}) ([0-9a-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a person looks at: a page of the table, or one bucket's catalog; `id` identifies the lookup."""

    id: str
    page: int = 0
    key: BucketKey | None = None

    @property
    def value(self) -> str:
        """The value of a page button. A single catalog has no pages."""
        return f"{self.page} {self.id}"

    @classmethod
    def of_value(cls, value: str) -> Self | None:
        """Read a button's value, which comes from a client; return None for an invalid one."""
        match = _LOOK.fullmatch(value)
        return cls(page=int(match[1]), id=match[2]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that one person may see, as of `as_of` (None: Cloudflare was never asked).

    `rotatable`: the buckets for which a rotation is offered to this person.
    """

    seen: VisibleCatalogs
    as_of: datetime | None
    now: datetime
    freshness: Freshness
    rotatable: Outlook = NOWHERE


def status_message(table: Table, look: Look) -> Json:
    """Return the answer to `status`; `text` names what needs attention, for screen readers."""
    if look.key:
        return _describe_one(table, look.key)
    summary = _summarize(table)
    blocks = [section(f"*Catalogs of the account*\n{summary}"), *_page(table, look), _age(table)]
    return {"text": " ".join([summary, *_name_needy(table), _describe_age(table)]), "blocks": blocks}


def home_view(table: Table, look: Look) -> Json:
    """Return the App Home of a person who may use the bot."""
    introduction = (
        "The credential of each R2 Data Catalog (Basin Catalog) of the account: whether it works, who stored it last "
        "through this bot, and when it expires."
    )
    store = button("Store a credential", STORE, "store", style="primary")
    rotate = [button("Rotate a credential", ROTATE_ANY, "rotate")] if table.rotatable.lists else []
    summary = section(f"*{_summarize(table)}*")
    blocks = [header("Catalog credentials"), section(introduction), actions(store, *rotate), summary]
    return {"type": "home", "blocks": [*blocks, *_page(table, look), _age(table)]}


def notice_home(text: str) -> Json:
    """Return an App Home with text only."""
    return {"type": "home", "blocks": [section(text)]}


_MARKS: Final = {
    Need.BROKEN: ":rotating_light:",
    Need.EXPIRED: ":red_circle:",
    Need.OVERDUE: ":large_orange_circle:",
    Need.NOT_ROTATED: ":large_orange_circle:",
    Need.EXPIRES_SOON: ":large_yellow_circle:",
    Need.EMPTY: ":white_circle:",
    Need.SWITCHED_OFF: ":black_circle:",
    Need.NOT_KNOWN: ":grey_question:",
    Need.NOTHING: ":large_green_circle:",
}
_COUNTED: Final = {
    Need.BROKEN: ("{} does not work", "{} do not work"),
    Need.EXPIRED: ("{} has expired", "{} have expired"),
    Need.OVERDUE: ("{} is overdue for rotation", "{} are overdue for rotation"),
    Need.NOT_ROTATED: ("{} could not be rotated", "{} could not be rotated"),
    Need.EXPIRES_SOON: ("{} expires soon", "{} expire soon"),
    Need.EMPTY: ("{} has no credential", "{} have no credential"),
    Need.SWITCHED_OFF: ("{} is switched off", "{} are switched off"),
    Need.NOT_KNOWN: ("{} is in an unknown state", "{} are in an unknown state"),
}
CREDENTIAL_WORDS: Final = {
    CredentialStatus.VALID: "the credential works",
    CredentialStatus.INVALID: "*the credential does not work*",
    CredentialStatus.PRESENT: "there is a credential; it is not known whether it works",
    CredentialStatus.ABSENT: "no credential",
    CredentialStatus.UNKNOWN: "it is not known whether there is a credential",
}
_CATALOG: Final = {
    CatalogStatus.ACTIVE: "active",
    CatalogStatus.INACTIVE: "switched off",
    CatalogStatus.UNKNOWN: "in an unknown state",
}
_STORE_WORDS: Final = {
    Need.BROKEN: "Store a new one",
    Need.EXPIRED: "Store a new one",
    Need.OVERDUE: "Store a new one",
    Need.NOT_ROTATED: "Store a new one",
    Need.EXPIRES_SOON: "Store a new one",
    Need.EMPTY: "Store one",
}
_NEVER_ASKED: Final = "The bot does not know yet which catalogs there are."
_NOT_LISTED: Final = (
    "Cloudflare lists no catalog of {bucket}. Check the name, or enable R2 Data Catalog (Basin Catalog) on it."
)
_NO_CATALOGS: Final = (
    "There is no catalog that you may see here. Enable R2 Data Catalog (Basin Catalog) in a bucket's settings in the "
    "Cloudflare dashboard, and it appears."
)


def _page(table: Table, look: Look) -> list[Json]:
    pages = max(1, -(-len(table.seen) // PAGE_ROWS))
    page = min(look.page, pages - 1)
    rows = table.seen.rows(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
    blocks = [_row_block(row, table) for row in rows]
    if pages == 1:
        return blocks
    turns = [
        *([button("Previous", PREVIOUS_PAGE, replace(look, page=page - 1).value)] if page > 0 else []),
        *([button("Next", NEXT_PAGE, replace(look, page=page + 1).value)] if page < pages - 1 else []),
    ]
    return [*blocks, context(f"Page {page + 1} of {pages}"), actions(*turns)]


def _row_block(row: Row, table: Table) -> Json:
    """Return a row. Slack takes one button in it: to rotate, where that is offered, needs nothing to be pasted."""
    text = f"{_MARKS[row.need]} `{escape(row.catalog.bucket)}`: {_state(row)}\n{describe_origin(row, table.now)}"
    words = _STORE_WORDS.get(row.need)
    if _is_rotatable(row, table):
        return section(text) | {"accessory": rotate_button(row.catalog.key)}
    store = {"accessory": button(words, TRY_AGAIN, bucket_value(row.catalog.key))} if words else {}
    return section(text) | store


def _is_rotatable(row: Row, table: Table) -> bool:
    return row.need is not Need.SWITCHED_OFF and table.rotatable.sees(row.catalog.key)


def _state(row: Row) -> str:
    state = CREDENTIAL_WORDS[row.catalog.credential_status]
    is_active = row.catalog.status is CatalogStatus.ACTIVE
    return state if is_active else f"the catalog is {_CATALOG[row.catalog.status]}, {state}"


def describe_origin(row: Row, now: datetime) -> str:
    """Return who stored the last credential, when it expires, and how it is rotated."""
    return " ".join(filter(None, [_describe_stored(row, now), describe_rotation(row, now)]))


def _describe_stored(row: Row, now: datetime) -> str:
    if row.stored is None:
        return "Nothing was stored through this bot."
    who = name_requester(row.stored.submission_id, row.stored.stored_by)
    by = f"{'Rotated' if row.rotation.is_ours else 'Stored'} last by {who} on {date(row.stored.stored_at)}"
    expires_at = row.expires_at
    if row.catalog.credential_status is CredentialStatus.ABSENT:
        return f"{by}; it is no longer there."
    if expires_at is None and row.stored.expires_at is not None:
        return f"{by}; that one has expired, so a different one is there now."
    if expires_at is None:
        return f"{by}; it never expires." if row.stored.token_id else f"{by}; its expiry is not known."
    is_over = expires_at <= now
    return f"{by}; {'*has expired*' if is_over else 'expires'}: {expiry(expires_at, now)}."


def _summarize(table: Table) -> str:
    if table.as_of is None:
        return _NEVER_ASKED
    if not table.seen:
        return _NO_CATALOGS
    counts = table.seen.counts
    needs = [words[counts[need] > 1].format(counts[need]) for need, words in _COUNTED.items() if counts[need]]
    total = "1 catalog" if len(table.seen) == 1 else f"{len(table.seen)} catalogs"
    return f"{total}: {', '.join(needs)}." if needs else f"{total}, and nothing needs attention."


def _name_needy(table: Table) -> list[str]:
    """Name the most urgent catalogs, as many as fit into a sentence."""
    first = [row for row in table.seen.rows(0, _NAMED) if row.need <= Need.EMPTY]
    named = [f"`{escape(row.catalog.bucket)}` ({_COUNTED[row.need][0].format('').strip()})" for row in first]
    needy = sum(table.seen.counts[need] for need in Need if need <= Need.EMPTY)
    more = f", and {needy - _NAMED} more" if needy > _NAMED else ""
    return [f"Check {', '.join(named)}{more}."] if named else []


def _describe_one(table: Table, key: BucketKey) -> Json:
    row = table.seen.row(key)
    name = f"`{escape(key.bucket)}`"
    if row is None:
        text = _NEVER_ASKED if table.as_of is None else _NOT_LISTED.format(bucket=name)
        text += did_you_mean(find_similar(key.bucket, table.seen.names))
        return {"text": f"{text} {_describe_age(table)}", "blocks": [section(text), _age(table)]}
    tested = f" (tested {ago(table.now - row.catalog.tested_at)})" if row.catalog.tested_at else ""
    state = f"{_CATALOG[row.catalog.status]}; {CREDENTIAL_WORDS[row.catalog.credential_status]}{tested}"
    lines = [f"The catalog of {name} is {state}.", describe_origin(row, table.now)]
    words = _STORE_WORDS.get(row.need, "Store a new one")
    return {
        "text": " ".join([*lines, _describe_age(table)]),
        "blocks": [
            section(f"{_MARKS[row.need]} {lines[0]}\n{lines[1]}"),
            _age(table),
            actions(
                *([rotate_button(key)] if _is_rotatable(row, table) else []),
                button(words, TRY_AGAIN, bucket_value(key)),
            ),
        ],
    }


def _age(table: Table) -> Json:
    return context(_describe_age(table))


def _describe_age(table: Table) -> str:
    return describe_age(table.as_of, table.now, table.freshness)
