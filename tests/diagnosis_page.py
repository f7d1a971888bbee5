"""Generates docs/diagnosis.md from the code's own answers; `make docs` rewrites the page."""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from bot.cloudflare.answers import parse_verification
from bot.cloudflare.auth import ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.diagnosis import ERROR_OF_CLIENT_CODE, ERROR_OF_CODE, ERROR_OF_STATUS, Answer, read_result
from bot.cloudflare.echo import Echo
from bot.cloudflare.errors import (
    CatalogRefusal,
    CloudflareError,
    CloudflareTrouble,
    CloudflareUnreachable,
    OperatorError,
    TokenRefusal,
    UnexplainedRefusal,
)
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minting_answers import PERMISSION_GROUP_CODE, read_minting_result, require_active
from bot.cloudflare.minting_errors import (
    MEANING_FOR_MINTED,
    CreateUnanswered,
    MintedTokenError,
    MintingError,
    RevocationRefused,
    RotationError,
)
from bot.delivery.judge import explain_refusal, judge
from bot.delivery.verify import Questions
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.errors import (
    AccessRefused,
    ApprovalNotAsked,
    BotError,
    DatabaseRestored,
    DeadlineReached,
    GivenUp,
    NotApproved,
    NotStorable,
    SealedValueUnreadable,
    TokenLivesTooLong,
    WhoActs,
    leaves,
)
from bot.model.secret import Secret
from bot.model.submission import Findings, TokenFacts, TokenKind
from bot.sandbox.tokens import Behaviour, make_token

DOCUMENT = Path(__file__).parent.parent / "docs" / "diagnosis.md"
COMMAND = "make docs"

_NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_ACCOUNT_ID = "5a4db0c0000000000000000000000001"
_LAKE = BucketKey(account_id=_ACCOUNT_ID, bucket="lake")
_BOTS_OWN = "cfat_MADEUPBOTSOWN0000000000000000000000000000000000000"
_PASTED = make_token(Behaviour.GOOD, number=1)
_FACTS = TokenFacts(id="made-up", owner=TokenKind.ACCOUNT, expires_at=None)
_KNOWN = Findings(token=_FACTS, unchecked=frozenset(), credential=CredentialStatus.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """One answer of Cloudflare's; without a `status` there is none."""

    label: str
    status: int | None
    body: Any = None
    headers: Mapping[str, str] | None = None

    def respond(self) -> httpx.Response:
        if self.status is None:
            raise httpx.ReadTimeout(self.label)
        if isinstance(self.body, str):
            return httpx.Response(self.status, text=self.body, headers=self.headers)
        return httpx.Response(self.status, json=self.body, headers=self.headers)


def _fault(label: str, status: int, code: int | None, message: str = "made up") -> _Sample:
    errors = [] if code is None else [{"code": code, "message": message}]
    return _Sample(label=label, status=status, body={"success": False, "errors": errors, "result": None})


def _result(label: str, result: object) -> _Sample:
    return _Sample(label=label, status=200, body={"success": True, "errors": [], "messages": [], "result": result})


_TOKEN = {"id": "0f" * 16, "status": "active"}
_CATALOG = {"id": "0", "name": "lake", "bucket": "lake", "status": "active", "credential_status": "present"}
_ACTIVE, _READS = _result("", _TOKEN), _result("", _CATALOG)
_NOT_OFFERED = _fault("", 403, 10001, "Method not allowed for token")


def list_samples() -> Iterator[_Sample]:
    """Yield an answer of each kind that Cloudflare may give."""
    for code in sorted({*ERROR_OF_CODE, *ERROR_OF_CLIENT_CODE}):
        yield _fault(f"code {code}", 400, code)
    yield _fault('code 9109, "from location"', 403, 9109, "Cannot use the access token from location: 192.0.2.1")
    yield _fault('code 10000, "Forbidden"', 403, 10000, "Forbidden")
    yield _fault('code 10001, "Method not allowed for token"', 403, 10001, "Method not allowed for token")
    yield _fault('code 10001, "internal error"', 500, 10001, "internal error")
    yield _fault("another code 1001 to 1999, HTTP 403", 403, 1020)
    yield _Sample(label="`error_code` 1001 to 1999 without an envelope", status=403, body={"error_code": 1020})
    yield _fault("a code in no table, HTTP 4xx", 400, 12345)
    yield _fault("a code in no table, HTTP 200", 200, 12345)
    for status in sorted(ERROR_OF_STATUS):
        yield _fault(f"HTTP {int(status)} without a code", status, None)
    yield _fault("HTTP 403 without a code", 403, None)
    yield _Sample(label="HTTP 401 and nothing else", status=401, body="")
    yield _Sample(label="HTTP 403 and nothing else", status=403, body="")
    yield _Sample(label="HTTP 403, a page", status=403, body="<html>made up</html>")
    yield _Sample(label='HTTP 403, "Just a moment..."', status=403, body="<title>Just a moment...</title>")
    yield _fault("HTTP 404 without a code", 404, None)
    yield _Sample(label="HTTP 422, plain text", status=422, body="Failed to deserialize the JSON body")
    yield _Sample(label="HTTP 5xx", status=502, body="<html>made up</html>")
    yield _Sample(label="a challenge page", status=403, body="made up", headers={"cf-mitigated": "challenge"})
    yield _Sample(label="HTTP 3xx", status=302, body="", headers={"location": "https://example.com"})
    yield _Sample(label="HTTP 200 that is no result", status=200, body="made up")
    yield _Sample(label="no answer", status=None)


def _told_samples() -> Iterator[_Sample]:
    yield _result("the token is `expired`", _TOKEN | {"status": "expired"})
    yield _result("its `expires_on` has passed", _TOKEN | {"expires_on": (_NOW - timedelta(days=1)).isoformat()})
    yield _result("its `not_before` is to come", _TOKEN | {"not_before": (_NOW + timedelta(days=1)).isoformat()})
    yield _result("the token is `disabled`", _TOKEN | {"status": "disabled"})
    yield _result("the token is `revoked (exposed)`", _TOKEN | {"status": "revoked (exposed)"})


def _quote(outcome: str) -> str:
    return outcome if " " in outcome else f"`{outcome}`"


def _both(usual: str, other: str, where: str) -> str:
    return _quote(usual) if usual == other else f"{_quote(usual)}; {where}: {_quote(other)}"


def _answer_of(response: httpx.Response) -> Answer:
    headers = response.headers.multi_items()
    return Answer.parse(status=response.status_code, headers=headers, body=response.content, echo=Echo())


def _meaning_for_a_write(sample: _Sample) -> str:
    if sample.status is None:
        return _quote(CloudflareUnreachable.code)
    try:
        read_result(_answer_of(sample.respond()), is_write=True)
    except CloudflareError as error:
        known = explain_refusal(error, _KNOWN)
        return _both(error.code, known.code, "of a token that was found active and able to read the catalog")
    return ""


def _verify(kind: TokenKind, *, told: _Sample = _ACTIVE, own: _Sample = _READS, reach: _Sample = _READS) -> str:
    """Return what the checks before a write make of these answers, when all patience is over."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tokens/verify"):
            return told.respond()
        return (own if request.headers["authorization"].endswith(_BOTS_OWN) else reach).respond()

    async def verify() -> str:
        client = CloudflareClient(
            account_id=_ACCOUNT_ID,
            base_url="https://api.cloudflare.invalid/client/v4",
            auth=ApiToken(token=Secret(_BOTS_OWN)),
            transport=httpx.MockTransport(answer),
        )
        try:
            answers = await Questions(client).ask(
                key=_LAKE,
                token=Secret(_PASTED),
                kind=kind,
                may_send=_yes,
                turn=Turn(None, Urgency.WRITE),
                is_before_write=False,
            )
            findings = judge(answers, _NOW, is_patient=False)
        except BotError as error:
            return error.code
        finally:
            await client.aclose()
        return "not checked" if findings.unchecked else ""

    return asyncio.run(verify())


async def _yes() -> bool:
    return True


def _by_kind(ask: Callable[[TokenKind], str]) -> str:
    of_account, of_user = ask(TokenKind.ACCOUNT), ask(TokenKind.USER)
    if of_account == of_user:
        return _quote(of_account)
    return f"account token: {_quote(of_account)}; user token: {_quote(of_user)}"


def _meaning_of_the_token(told: _Sample) -> str:
    def unless_it_reads(kind: TokenKind) -> str:
        unseen, seen = _verify(kind, told=told, reach=_NOT_OFFERED), _verify(kind, told=told)
        return unseen if unseen == seen else f"`{unseen}`, but where it reads the catalog: {_quote(seen)}"

    return _by_kind(unless_it_reads)


def _meaning_of_the_catalog(own: _Sample) -> str:
    unseen = _verify(TokenKind.ACCOUNT, own=own, reach=_NOT_OFFERED)
    return _both(unseen, _verify(TokenKind.ACCOUNT, own=own), "where the pasted token reads it as active")


def _meanings(sample: _Sample) -> tuple[str, str, str, str]:
    return (
        _meaning_for_a_write(sample),
        _meaning_of_the_catalog(sample),
        _meaning_of_the_token(sample),
        _by_kind(lambda kind: _verify(kind, reach=sample)),
    )


@cache
def ask_all() -> dict[tuple[str, str, str, str], list[str]]:
    """Return what answers mean, each with the answers that mean it."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for sample in list_samples():
        rows.setdefault(_meanings(sample), []).append(sample.label)
    for sample in _told_samples():
        rows.setdefault(("", "", _meaning_of_the_token(sample), ""), []).append(sample.label)
    off = _result("the catalog is `inactive`", _CATALOG | {"status": "inactive"})
    rows["", _meaning_of_the_catalog(off), "", ""] = [off.label]
    return rows


def list_minting_samples() -> Iterator[_Sample]:
    """Yield an answer of each kind that Cloudflare may give to the minting token."""
    yield _fault(f"code {PERMISSION_GROUP_CODE}", 400, PERMISSION_GROUP_CODE)
    yield _fault("HTTP 4xx with the quota in its text", 400, 12345, "The maximum number of tokens is reached")
    yield _fault('"name must have a length ..."', 400, None, "name must have a length between 1 and 120")
    yield from list_samples()


def _read_as_minter(answer: Answer) -> str:
    try:
        read_minting_result(answer, is_write=True)
    except CloudflareError as error:
        return f"`{error.code}`" + (": there may be a token" if error.possibly_landed else "")
    return "not understood: there may be a token"


@cache
def ask_minter() -> dict[str, list[str]]:
    """Return what answers to a create mean, each with the answers that mean it."""
    rows: dict[str, list[str]] = {}
    for sample in list_minting_samples():
        meaning = f"`{CloudflareUnreachable.code}`: there may be a token"
        if sample.status is not None:
            meaning = _read_as_minter(_answer_of(sample.respond()))
        rows.setdefault(meaning, []).append(sample.label)
    told = {
        "verified as `expired`, or its `expires_on` has passed": {"status": "expired"},
        "verified as `disabled` or `revoked (exposed)`": {"status": "disabled"},
    }
    for label, found in told.items():
        try:
            require_active(parse_verification(_answer_of(_ACTIVE.respond()), _TOKEN | found), _NOW)
        except CloudflareError as error:
            rows[f"`{error.code}`"] = [label]
    for pasted, minted in MEANING_FOR_MINTED.items():
        rows.setdefault(f"`{minted.code}`", []).append(f"what means `{pasted.code}` about a pasted token")
    rows[f"`{RevocationRefused.code}`"] = ["any other definite refusal of a change or a deletion"]
    rows[f"`{CreateUnanswered.code}`"] = ["two creates of which it is not known whether they happened"]
    return rows


_SECTIONS: tuple[tuple[str, str, tuple[type[BotError], ...]], ...] = (
    (
        "Your token",
        (
            "About the pasted token. Ends as *refused*; nothing was written. Cloudflare may answer the same to a token "
            "that was just created, so the bot asks again for `R2_CREDENTIAL_FRESH_TOKEN_PATIENCE`."
        ),
        (TokenRefusal, TokenLivesTooLong),
    ),
    ("The bucket", "About the bucket and its catalog. Ends as *refused*; nothing was written.", (CatalogRefusal,)),
    (
        "The bot's own access",
        "Never the fault of the pasted token. Ends as *failed*.",
        (OperatorError,),
    ),
    (
        "Tokens that the bot creates",
        (
            "While a credential is rotated. Ends as *failed* or *refused*, and nothing was written; or stands in the "
            "log and the metrics, where a token could not be revoked."
        ),
        (MintingError, MintedTokenError, RotationError),
    ),
    (
        "Without a reason",
        "The cause may be the token, the bot or something in between. Ends as *failed*; nothing was written.",
        (UnexplainedRefusal,),
    ),
    (
        "Transient errors",
        (
            "The bot retries, and the modal says what it waits for. After `R2_CREDENTIAL_TTL` the submission ends as "
            "*failed*, or as *uncertain* where a request may have been carried out."
        ),
        (CloudflareTrouble,),
    ),
    ("In the form", "Shown at the token field, judged by shape; never kept and never sent.", (NotStorable,)),
    (
        "Permissions",
        "Shown at once to the person. Checked again before each step; a refusal then ends as *denied*.",
        (AccessRefused,),
    ),
    (
        "Four eyes",
        "Ends as *not approved*, or *failed* where nobody could be asked; nothing is written.",
        (NotApproved, ApprovalNotAsked),
    ),
    (
        "Time and keys",
        "Ends as *expired* or *failed*; the token is erased.",
        (GivenUp, DatabaseRestored, SealedValueUnreadable),
    ),
)
ACTORS = {
    WhoActs.YOU: "you",
    WhoActs.OPERATOR: "the operator",
    WhoActs.CLOUDFLARE: "Cloudflare",
    WhoActs.NOBODY: "no one",
}


def _told(error: type[BotError]) -> str:
    """Return what a person reads; for a transient error, while the bot waits and at the end."""
    if not issubclass(error, CloudflareTrouble | CreateUnanswered):
        setting = f" ({error.setting})" if error.setting else ""
        return (
            f"{error.user_message} In the log: {error.operator_fix}{setting}."
            if error.operator_fix
            else error.user_message
        )
    return f"Waiting: {error.told.waiting} At the end: {error.told.lasted} {DeadlineReached.user_message}"


def _retried(error: type[BotError]) -> str:
    if issubclass(error, TokenRefusal) and error.passes:
        return "while it may be new"
    if issubclass(error, CloudflareError) and error.passes:
        return "before the write, while a token may be new"
    return "yes" if error.retryable else "no"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _table(*heads: str) -> list[str]:
    return [_row(*heads), f"|{'---|' * len(heads)}"]


def _cause(error: type[BotError], rows: Mapping[Any, list[str]]) -> str:
    """Return the condition, from the error's docstring, and the answers of Cloudflare that mean it."""
    condition = " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split())
    answers = [label for meanings, labels in rows.items() if f"`{error.code}`" in str(meanings) for label in labels]
    return f"{condition} *Answers: {'; '.join(answers)}.*" if answers else condition


def build_document() -> str:
    """Return the whole page."""
    rows = ask_all()
    lines = [
        "# Every cause, and what the bot says",
        "",
        f"Generated from the code by `{COMMAND}`; a test fails when it is out of date. In the channel, each text comes",
        "with *Try again*, a reference, our code, and Cloudflare's code, words and Ray ID. Where the operator acts,",
        "*Please ask* follows, with `R2_CREDENTIAL_CONTACT`.",
        "",
        "## What an answer of Cloudflare means",
        "",
        "The same answer means different things, depending on the credentials of the request. *Not checked*: the bot",
        "continues, and the result says what could not be checked. Unknown codes, pages and silence refuse no token.",
        "Before a write, the bot asks about the catalog with its own credentials only if the pasted token does not see",
        "an active one; in a dry run, always.",
        "",
        *_table(
            "Cloudflare answers",
            "to the write, or to enabling (the bot's own credentials)",
            "about the catalog (the bot's own credentials)",
            "whether the pasted token is active (that token)",
            "whether it reaches the catalog (that token)",
        ),
        *(_row("; ".join(labels), *(_blank(meaning) for meaning in meanings)) for meanings, labels in rows.items()),
    ]
    lines += [
        "",
        "## What an answer to the minting token means",
        "",
        "The endpoints of the account's tokens have codes of their own. Where there may be a token, its name is never",
        "sent again: the bot looks for it.",
        "",
        *_table("Cloudflare answers", "to the creation of a token"),
        *(_row("; ".join(labels), meaning) for meaning, labels in ask_minter().items()),
    ]
    for title, introduction, kinds in _SECTIONS:
        lines += ["", f"## {title}", "", introduction, ""]
        lines += _table("cause", "code", "who acts", "what the bot says", "retried")
        for error in (leaf for kind in kinds for leaf in leaves(kind)):
            cause = _cause(error, ask_minter() if _is_minters(error) else rows)
            lines.append(_row(cause, f"`{error.code}`", ACTORS[error.who_acts], _told(error), _retried(error)))
    return "\n".join(lines) + "\n"


def _is_minters(error: type[BotError]) -> bool:
    return issubclass(error, MintingError | MintedTokenError | CreateUnanswered)


def _blank(meaning: str) -> str:
    return "" if meaning == "``" else meaning


if __name__ == "__main__":
    DOCUMENT.write_text(build_document(), encoding="utf-8")
