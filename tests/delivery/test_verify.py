"""The checks before a write: every answer to each question, alone and combined with every answer to the others."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from types import MappingProxyType

import httpx
import pytest
import pytest_asyncio

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import (
    AnswerNotUnderstood,
    CallerRejected,
    CatalogNotEnabled,
    CloudflareError,
    CloudflareTrouble,
    CredentialRefused,
    LacksStorageRights,
    OperatorError,
    Refusal,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
    TokenRefusal,
    UnexplainedRefusal,
)
from bot.cloudflare.exchange import Turn
from bot.delivery.judge import Answers, explain_refusal, is_from_elsewhere, judge
from bot.delivery.verify import TEST_PATIENCE, Questions
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.errors import BotError, DatabaseUnavailable, LeaseLost, error_of_code
from bot.model.secret import Secret
from bot.model.submission import Check, Findings, TokenFacts, TokenKind
from bot.sandbox.tokens import Behaviour, make_token
from tests.leaks import find_leaks

ACCOUNT_ID = "5a4db0c0000000000000000000000001"
LAKE = BucketKey(account_id=ACCOUNT_ID, bucket="lake")
BOTS_OWN = "cfat_MADEUPBOTSOWN0000000000000000000000000000000000000"
TOKEN = make_token(Behaviour.GOOD, 77)
TOKEN_ID = "ed17574386854bf78a67040be0a770b0"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
Reply = httpx.Response | Exception
Reaction = Callable[[], Awaitable[None]]


def _ok(result: object, date: datetime | None = NOW) -> httpx.Response:
    headers = {"date": format_datetime(date, usegmt=True)} if date else {}
    envelope = {"success": True, "errors": [], "messages": [{"code": 10000, "message": "fine"}], "result": result}
    return httpx.Response(200, json=envelope, headers=headers)


def _no(status: int, code: int | None, message: str = "made up", **headers: str) -> httpx.Response:
    errors = [] if code is None else [{"code": code, "message": message}]
    envelope = {"success": False, "errors": errors, "messages": [], "result": None}
    return httpx.Response(
        status, json=envelope, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def _page(status: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, html="<html>Something stands between</html>", headers=named)


def _token(status: str = "active", *, date: datetime | None = NOW, **times: datetime | str | None) -> httpx.Response:
    fields = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in times.items()}
    return _ok({"id": TOKEN_ID, "status": status, **fields}, date)


def _catalog(status: str = "active", credential: str = "present") -> httpx.Response:
    return _ok({"id": "1", "bucket": "lake", "name": "x", "status": status, "credential_status": credential})


GOOD: Mapping[str, Reply] = {
    "user": _no(401, 1000, "Invalid API Token"),
    "account": _token(),
    "own": _catalog(),
    "reach": _catalog(),
    "test": _ok({"status": "valid"}),
}


@dataclass(slots=True)
class Replies:
    """Answers each question as ordered, and records which were asked; `meanwhile` runs before an answer."""

    replies: dict[str, Reply] = field(default_factory=lambda: dict(GOOD))
    asked: list[str] = field(default_factory=list)
    meanwhile: dict[str, Reaction] = field(default_factory=dict)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        question = _name_question(request)
        self.asked.append(question)
        if question in self.meanwhile:
            await self.meanwhile[question]()
        reply = self.replies[question]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


def _name_question(request: httpx.Request) -> str:
    """Distinguish the five questions; each must be asked with the right credentials."""
    path, is_own = request.url.path, request.headers["authorization"] == f"Bearer {BOTS_OWN}"
    if path.endswith("/credential/status"):
        assert is_own
        return "test"
    if path.endswith("/tokens/verify"):
        assert not is_own
        return "user" if path.endswith("/user/tokens/verify") else "account"
    return "own" if is_own else "reach"


@dataclass(slots=True, kw_only=True)
class Office:
    """A verification with the scripted Cloudflare that it asks."""

    questions: Replies
    client: CloudflareClient
    now: datetime = NOW

    async def verify(
        self,
        replies: Mapping[str, Reply] = MappingProxyType({}),
        kind: TokenKind = TokenKind.ACCOUNT,
        *,
        token: str = TOKEN,
        is_patient: bool = False,
    ) -> Findings:
        """Ask everything again, and judge."""
        return judge(await self.ask(replies, kind, token=token), self.now, is_patient=is_patient)

    async def ask(
        self,
        replies: Mapping[str, Reply] = MappingProxyType({}),
        kind: TokenKind = TokenKind.ACCOUNT,
        *,
        token: str = TOKEN,
        is_before_write: bool = False,
    ) -> Answers:
        """Ask everything again, with these replies instead of good ones."""

        async def yes() -> bool:
            return True

        self.questions.replies = {**GOOD, **replies}
        self.questions.asked.clear()
        return await Questions(self.client).ask(
            key=LAKE,
            token=Secret(token),
            kind=kind,
            may_send=yes,
            turn=Turn(None, Urgency.WRITE),
            is_before_write=is_before_write,
        )

    async def fail(
        self, replies: Mapping[str, Reply], kind: TokenKind = TokenKind.ACCOUNT, *, is_patient: bool = False
    ) -> BotError:
        """Return the resulting error."""
        with pytest.raises(BotError) as caught:
            await self.verify(replies, kind, is_patient=is_patient)
        return caught.value


@pytest_asyncio.fixture
async def office() -> AsyncIterator[Office]:
    """Open an office without replies."""
    questions = Replies()
    client = CloudflareClient(
        account_id=ACCOUNT_ID,
        base_url="https://api.example.com/client/v4",
        auth=ApiToken(token=Secret(BOTS_OWN)),
        transport=httpx.MockTransport(questions.handle),
        timer=iter(range(0, 10**9, 10**4)).__next__,  # hours between verifications, so that tests are tried again
    )
    yield Office(questions=questions, client=client)
    await client.aclose()


def _found(owner: TokenKind | None = TokenKind.ACCOUNT, *unchecked: Check) -> Findings:
    facts = TokenFacts(id=TOKEN_ID, owner=owner, expires_at=None) if owner else None
    return Findings(token=facts, unchecked=frozenset(unchecked), credential=CredentialStatus.VALID)


# All answers to each question, and their meaning: "yes"; "mute", the question is not offered to this token; "no CODE";
# "wait CODE", a no that passes for a token created a moment ago; "bare CODE", a no without a reason, which is final
# if it lasts; "trouble CODE", to be asked again; "operator CODE". After a bar: the meaning without patience.

ADDRESSES = "Cannot use the access token from location: 203.0.113.7"
TROUBLES: Mapping[str, tuple[Reply, str]] = {
    "503": (_page(503), "trouble cloudflare_unavailable"),
    "500 with a code of a refusal": (_no(500, 10000), "trouble cloudflare_unavailable"),
    "internal error": (_no(500, 10001, "internal error"), "trouble cloudflare_unavailable"),
    "429": (_no(429, 971, retry_after="7"), "trouble throttled"),
    "throttled with 200": (_no(200, 971), "trouble throttled"),
    "edge": (httpx.Response(403, text="error code: 1020"), "trouble edge_refused"),
    "no answer": (httpx.ReadError("x"), "trouble cloudflare_unreachable"),
    "no connection": (httpx.ConnectError("x"), "trouble cloudflare_unreachable"),
    "a page with 200": (_page(200), "trouble answer_not_understood"),
    "a page with 403": (_page(403), "operator blocked_on_the_way"),
    "a redirect": (_page(302, location="https://example.com"), "trouble answer_not_understood"),
    "no result": (_ok(None), "trouble answer_not_understood"),
    "unknown code": (_no(400, 123456), "operator request_rejected"),
    "a code like the edge's, in an envelope": (_no(400, 1038), "operator request_rejected"),
    "unknown code with 200": (_no(200, 123456), "operator request_rejected"),
    "a page with 400": (_page(400), "trouble answer_not_understood"),
    "unknown code with 403": (_no(403, 123456), "bare unexplained_refusal"),
    "nothing with 403": (httpx.Response(403), "bare unexplained_refusal"),
    "challenge": (_page(403, cf_mitigated="challenge"), "operator challenge_page"),
}
VERIFY: Mapping[str, tuple[Reply, str]] = {
    **TROUBLES,
    "active": (_token(), "yes"),
    "disabled": (_token("disabled"), "no token_disabled"),
    "exposed": (_token("revoked (exposed)"), "no token_exposed"),
    "revoked for another reason": (_token("revoked"), "no token_exposed"),
    "expired": (_token("expired"), "no token_expired"),
    "expired, says its date": (_token(expires_on=NOW), "no token_expired"),
    "not valid yet": (_token(not_before=NOW + DAY), "no token_not_yet_valid"),
    "a status that is new": (_token("paused"), "trouble answer_not_understood"),
    "1000": (_no(401, 1000, "Invalid API Token"), "wait token_invalid"),
    "1000 with 403": (_no(403, 1000), "wait token_invalid"),
    "9109": (_no(403, 9109, "Unauthorized to access requested resource"), "wait token_invalid"),
    "9109 from elsewhere": (_no(403, 9109, ADDRESSES), "no token_limited_to_addresses"),
    "10000": (_no(403, 10000, "Authentication error"), "wait token_of_another_account"),
    "10000 Forbidden": (_no(403, 10000, "Forbidden"), "wait token_of_another_account"),
    "6003": (_no(400, 6003, "Invalid request headers"), "no token_malformed"),
    "403 without a code": (_no(403, None), "wait token_invalid|mute"),
    "401 without a code": (_no(401, None), "wait token_invalid|bare unexplained_refusal"),
    "a page with 401": (_page(401), "wait token_invalid|bare unexplained_refusal"),
    "nothing with 401": (httpx.Response(401), "wait token_invalid|bare unexplained_refusal"),
    "unknown code with 401": (_no(401, 123456), "wait token_invalid|bare unexplained_refusal"),
    "not allowed": (_no(403, 10001, "Method not allowed for token"), "mute"),
    "no such route": (_no(404, 7003), "mute"),
    "no such method": (httpx.Response(405), "mute"),
    "a code of the catalog": (_no(404, 40401), "trouble answer_not_understood"),
    "a code of the slot": (_no(400, 30005), "trouble answer_not_understood"),
    "no R2": (_no(403, 10042), "trouble answer_not_understood"),
}
BARE = {name for name, (_, says) in VERIFY.items() if "|" in says or says.startswith("bare ")}
"""Those that refuse, and do not say that it is for the token."""

OWN: Mapping[str, tuple[Reply, str]] = {
    **TROUBLES,
    "active": (_catalog(), "yes"),
    "inactive": (_catalog("inactive"), "no catalog_inactive"),
    "a status that is new": (_catalog("frozen"), "trouble answer_not_understood"),
    "never enabled": (_no(404, 40401), "no catalog_not_enabled"),
    "switched off": (_no(409, 40402), "no catalog_inactive"),
    "no such bucket": (_no(404, 40406), "no no_such_bucket"),
    "unknown to the bot": (_no(403, 10000), "operator caller_rejected"),
    "401": (_no(401, None), "operator caller_rejected"),
    "10000 Forbidden": (_no(403, 10000, "Forbidden"), "operator caller_lacks_permission"),
    "may not look": (_no(403, 10001, "Method not allowed for token"), "operator caller_not_allowed"),
    "no such route": (_no(404, 7003), "operator route_gone"),
    "no R2": (_no(403, 10042), "operator r2_not_enabled"),
    "a code of the slot": (_no(400, 30005), "trouble answer_not_understood"),
}
REACH: Mapping[str, tuple[Reply, str]] = {
    **TROUBLES,
    "active": (_catalog(), "yes"),
    "inactive": (_catalog("inactive"), "trouble answer_not_understood"),
    "a status that is new": (_catalog("frozen"), "trouble answer_not_understood"),
    "10000": (_no(403, 10000), "wait forbidden"),
    "9109": (_no(403, 9109), "wait forbidden"),
    "30004": (_no(403, 30004), "wait forbidden"),
    "10000 Forbidden": (_no(403, 10000, "Forbidden"), "wait forbidden"),
    "never enabled": (_no(404, 40401), "catalog catalog_not_enabled"),
    "no such bucket": (_no(404, 40406), "catalog no_such_bucket"),
    "switched off": (_no(409, 40402), "switched off"),
    "9109 from elsewhere": (_no(403, 9109, ADDRESSES), "no token_limited_to_addresses"),
    "6003": (_no(400, 6003), "no token_malformed"),
    "403 without a code": (_no(403, None), "wait forbidden|mute"),
    "401 without a code": (_no(401, None), "wait forbidden|bare 401"),
    "a page with 401": (_page(401), "wait forbidden|bare 401"),
    "not allowed": (_no(403, 10001, "Method not allowed for token"), "mute"),
    "no such route": (_no(404, 7003), "mute"),
    "no R2": (_no(403, 10042), "trouble answer_not_understood"),
}
READ = {"active", "inactive", "a status that is new"}
"""Those by which the token is shown the catalog."""

_DOUBT = "trouble answer_not_understood"


def _said(meaning: str, *, is_patient: bool) -> str:
    patient, _, impatient = meaning.partition("|")
    return patient if is_patient or not impatient else impatient


def _combine(names: tuple[str, str, str], *, is_patient: bool) -> tuple[str, str, list[str]]:
    """Return what the token's answer and its reach amount to with the others, and everything against a write."""
    verify = _said(VERIFY[names[0]][1], is_patient=is_patient)
    own = _said(OWN[names[1]][1], is_patient=is_patient)
    reach = _said(REACH[names[2]][1], is_patient=is_patient)
    if names[2] in READ and names[0] in BARE:
        verify = "wait token_invalid" if is_patient else "mute"  # only a valid token reads a catalog
    if own.startswith("no ") and names[2] == "active":
        own = _DOUBT  # the token sees what the bot does not
    if names[2] == "no such route" and own == "yes":
        reach = _DOUBT  # it answers the bot
    if reach.startswith(("catalog ", "switched off")):
        reach = _find_meaning_of_no_catalog(reach, own)
    if reach == "bare 401":  # if the bot gets an answer there, the token is refused
        reach = "wait forbidden" if own == "yes" else "bare unexplained_refusal"
    if reach == "wait forbidden":
        reach = "wait lacks_catalog_rights" if verify == "yes" else "wait credential_refused"
    against = [each for each in (verify, own, reach) if each not in ("yes", "mute")]
    if (verify, reach) == ("mute", "mute"):
        is_gone = {"no such route", "no such method"} & {names[0], names[2]}
        against.append(_DOUBT if is_gone else "wait credential_refused")
    return verify, reach, against


def _find_meaning_of_no_catalog(reach: str, own: str) -> str:
    """If the catalog exists, it is about the token; if that is unknown, it is unclear."""
    if own == "yes":
        return _DOUBT if reach == "switched off" else "wait forbidden"
    if own.startswith("no "):
        return "no " + {"switched off": "catalog_inactive"}.get(reach, reach.removeprefix("catalog "))
    return _DOUBT


def _expect(against: list[str], names: tuple[str, str, str]) -> str:
    """Choose the most specific: a definite no about the token, about the catalog or bot, what passes, trouble."""
    ranks: list[Callable[[str], bool]] = [
        lambda each: each.startswith("no ") and issubclass(error_of_code(each[3:]), TokenRefusal),
        lambda each: each.startswith(("no ", "operator ")),
        lambda each: each.startswith("wait "),
        lambda each: each == "trouble throttled" and "429" in names,  # only it says when to come back
        lambda each: each.startswith("trouble ") and each != _DOUBT,
        lambda each: each.startswith("bare "),
        lambda each: True,
    ]
    return next(each for rank in ranks for each in against if rank(each)).partition(" ")[2]


_SORTS = {"503", "429", "unknown code", "nothing with 403", "challenge"}


def _thin_out(answers: Iterable[str]) -> list[str]:
    """Leave out those that resemble others."""
    return [name for name in answers if name not in TROUBLES or name in _SORTS]


@pytest.mark.parametrize("is_patient", [True, False], ids=["patient", "not patient"])
@pytest.mark.parametrize("thin_out", [_thin_out, pytest.param(list, marks=pytest.mark.thorough)], ids=["sorts", "all"])
async def test_every_answer_with_every_other(
    office: Office, thin_out: Callable[[Iterable[str]], list[str]], *, is_patient: bool
) -> None:
    """The result is the combination of all three, or the most specific error."""
    verified = {name: (await office.ask({"account": reply})).verified for name, (reply, _) in VERIFY.items()}
    catalogs = {name: (await office.ask({"own": reply})).catalog for name, (reply, _) in OWN.items()}
    reached = {name: (await office.ask({"reach": reply})).reached for name, (reply, _) in REACH.items()}
    good = await office.ask()
    for names in product(thin_out(VERIFY), thin_out(OWN), thin_out(REACH)):
        verify, own, reach = names
        answers = replace(good, verified=verified[verify], catalog=catalogs[own], reached=reached[reach])
        token_says, reach_says, against = _combine(names, is_patient=is_patient)
        try:
            found = judge(answers, NOW, is_patient=is_patient)
        except BotError as error:
            assert error.code == _expect(against, names), names  # noqa: PT017 - ten thousands of them
            continue
        assert against == [], names
        unchecked = [check for check, said in ((Check.TOKEN, token_says), (Check.REACH, reach_says)) if said == "mute"]
        assert found == _found(None if token_says == "mute" else TokenKind.ACCOUNT, *unchecked), names


@pytest.mark.parametrize("is_patient", [True, False], ids=["patient", "not patient"])
async def test_trouble_is_never_taken_for_a_no(office: Office, *, is_patient: bool) -> None:
    """Servers that are down, pages, unknown codes and challenges neither refuse a token nor accept one."""
    verified = {name: (await office.ask({"account": reply})).verified for name, (reply, _) in TROUBLES.items()}
    reached = {name: (await office.ask({"reach": reply})).reached for name, (reply, _) in TROUBLES.items()}
    good = await office.ask()
    for verify, reach in product(TROUBLES, TROUBLES):
        with pytest.raises((CloudflareTrouble, OperatorError, UnexplainedRefusal)) as caught:
            judge(replace(good, verified=verified[verify], reached=reached[reach]), NOW, is_patient=is_patient)
        assert not isinstance(caught.value, Refusal), (verify, reach)


@pytest.mark.parametrize("name", OWN)
async def test_a_refusal_of_the_bot_blames_no_token(office: Office, name: str) -> None:
    """A bot without permissions, or a bucket without a catalog, is not the token's fault."""
    reply, says = OWN[name]
    if says == "yes":
        assert await office.verify({"own": reply}) == _found()
    else:
        assert not isinstance(await office.fail({"own": reply}), TokenRefusal)


Q = TokenKind.UNPREFIXED
UNKNOWN_TOKEN, OF_NOBODY = _no(401, 1000), _no(403, 10000)


@pytest.mark.parametrize(
    ("kind", "user", "account", "asked", "owner"),
    [
        pytest.param(TokenKind.USER, _token(), OF_NOBODY, ["user"], TokenKind.USER, id="cfut_: the user's only"),
        pytest.param(TokenKind.ACCOUNT, OF_NOBODY, _token(), ["account"], TokenKind.ACCOUNT, id="cfat_: the account's"),
        pytest.param(Q, _token(), OF_NOBODY, ["user"], TokenKind.USER, id="older, of a user"),
        pytest.param(Q, UNKNOWN_TOKEN, _token(), ["user", "account"], TokenKind.ACCOUNT, id="older, of the account"),
        pytest.param(Q, _no(403, 1000), _token(), ["user", "account"], TokenKind.ACCOUNT, id="unknown with 403"),
        pytest.param(Q, _no(403, None), _token(), ["user", "account"], TokenKind.ACCOUNT, id="forbidden first"),
        pytest.param(Q, _no(403, 10001, "not allowed"), _token(), ["user", "account"], TokenKind.ACCOUNT, id="10001"),
        pytest.param(Q, _no(400, 1038), _token(), ["user", "account"], TokenKind.ACCOUNT, id="a code nobody knows"),
        pytest.param(Q, _no(404, 7003), _token(), ["user", "account"], TokenKind.ACCOUNT, id="no such route"),
        pytest.param(
            Q, httpx.Response(403), _token(), ["user", "account"], TokenKind.ACCOUNT, id="refused without a word first"
        ),
        pytest.param(
            TokenKind.UNKNOWN, UNKNOWN_TOKEN, _token(), ["user", "account"], TokenKind.ACCOUNT, id="of a kind to come"
        ),
    ],
)
async def test_which_endpoint_is_asked(
    office: Office, kind: TokenKind, *, user: Reply, account: Reply, asked: list[str], owner: TokenKind
) -> None:
    """That of the token's kind; for an unknown kind the user's and, after a no, the account's."""
    findings = await office.verify({"user": user, "account": account}, kind)
    assert findings == _found(owner)
    assert [each for each in office.questions.asked if each in ("user", "account")] == asked


FORBIDDEN = _no(403, 10000)


@pytest.mark.parametrize(
    ("kind", "user", "account", "is_patient", "code", "asked"),
    [
        pytest.param(TokenKind.USER, UNKNOWN_TOKEN, _token(), False, "token_invalid", ["user"], id="cfut_: no second"),
        pytest.param(TokenKind.ACCOUNT, _token(), UNKNOWN_TOKEN, False, "token_invalid", ["account"], id="cfat_"),
        pytest.param(TokenKind.USER, OF_NOBODY, _token(), False, "token_invalid", ["user"], id="10000 of the user's"),
        pytest.param(
            Q, UNKNOWN_TOKEN, UNKNOWN_TOKEN, False, "token_invalid", ["user", "account"], id="older, unknown to both"
        ),
        pytest.param(
            Q, UNKNOWN_TOKEN, OF_NOBODY, False, "token_of_another_account", ["user", "account"], id="older, elsewhere"
        ),
        pytest.param(Q, _token("disabled"), _token(), False, "token_disabled", ["user"], id="older, disabled"),
        pytest.param(Q, _page(503), _token(), False, "credential_refused", ["user"], id="the user's endpoint is down"),
        pytest.param(
            Q, UNKNOWN_TOKEN, _page(503), False, "credential_refused", ["user", "account"], id="the account's is down"
        ),
        pytest.param(
            Q,
            _no(403, 9109, ADDRESSES),
            UNKNOWN_TOKEN,
            False,
            "token_limited_to_addresses",
            ["user"],
            id="older, of a user, limited to addresses",
        ),
        pytest.param(
            Q, _no(403, None), UNKNOWN_TOKEN, True, "token_invalid", ["user", "account"], id="one does not tell"
        ),
        pytest.param(
            Q, _no(403, None), UNKNOWN_TOKEN, False, "credential_refused", ["user", "account"], id="nor later"
        ),
    ],
)
async def test_a_token_that_no_endpoint_knows(
    office: Office, kind: TokenKind, *, user: Reply, account: Reply, is_patient: bool, code: str, asked: list[str]
) -> None:
    """Both must say no if both may know it; it does not reach the catalog either."""
    error = await office.fail({"user": user, "account": account, "reach": FORBIDDEN}, kind, is_patient=is_patient)
    assert error.code == code
    assert [each for each in office.questions.asked if each in ("user", "account")] == asked


@pytest.mark.parametrize(
    "user",
    [_no(403, None), _no(401, None), _no(403, 10001, "not allowed"), _no(404, 7003)],
    ids=["403", "401", "10001", "7003"],
)
async def test_half_a_no_is_none(office: Office, user: Reply) -> None:
    """The account's endpoint does not know a user's token: without the user's answer, nothing is known."""
    assert await office.verify({"user": user, "account": UNKNOWN_TOKEN}, Q) == _found(None, Check.TOKEN)


@pytest.mark.parametrize(
    ("owner", "code"),
    [(TokenKind.ACCOUNT, "lacks_catalog_rights"), (TokenKind.USER, "catalog_out_of_reach")],
)
async def test_a_known_token_that_reaches_nothing_is_named_by_its_owner(
    office: Office, owner: TokenKind, code: str
) -> None:
    """A user's token may belong to another account; one of this account lacks a permission."""
    assert (await office.fail({"user": _token(), "reach": FORBIDDEN}, owner)).code == code


async def test_a_known_token_that_lacks_a_permission_is_named_so(office: Office) -> None:
    """Code 10000 "Forbidden" says so, also for a user's token."""
    forbidden = _no(403, 10000, "Forbidden")
    error = await office.fail({"user": _token(), "reach": forbidden}, TokenKind.USER)
    assert error.code == "lacks_catalog_rights"


@pytest.mark.parametrize("reply", [_no(401, 1000), _no(403, 1000), _no(403, None), _no(401, None)])
async def test_the_answers_to_a_fresh_token_pass(office: Office, reply: Reply) -> None:
    """A 401 or 403 in its first minute passes, even if the token already reads the catalog."""
    for reach in (reply, GOOD["reach"]):
        error = await office.fail({"account": reply, "reach": reach}, is_patient=True)
        assert isinstance(error, TokenRefusal)
        assert error.passes


BARE_REPLIES = {
    "401": _no(401, None),
    "403 with a code that is new": _no(403, 123456),
    "401 without a word": httpx.Response(401),
    "403 without a word": httpx.Response(403),
    "a page with 401": _page(401),
}


@pytest.mark.parametrize("is_patient", [True, False], ids=["patient", "not patient"])
@pytest.mark.parametrize("reply", BARE_REPLIES.values(), ids=BARE_REPLIES)
async def test_a_bare_no_is_nothing_to_wait_for_until_the_deadline(
    office: Office, reply: Reply, *, is_patient: bool
) -> None:
    """It passes during the patience, and is final afterwards; during an outage it counts as part of that."""
    down = {"own": _page(503)}
    error = await office.fail({"account": reply, "reach": reply}, is_patient=is_patient)
    assert isinstance(error, CloudflareError)
    assert (error.passes, error.retryable) == (True, False)
    during_an_outage = await office.fail({"account": reply, "reach": reply, **down})
    assert during_an_outage.code == "cloudflare_unavailable"


@pytest.mark.parametrize("verify", sorted(BARE))
async def test_a_token_that_reads_the_catalog_is_not_called_unknown(office: Office, verify: str) -> None:
    """A bare refusal: the token has read the catalog, so it is only unchecked."""
    findings = await office.verify({"account": VERIFY[verify][0]})
    assert findings == _found(None, Check.TOKEN)


@pytest.mark.parametrize("verify", ["1000", "1000 with 403", "9109", "10000", "6003", "9109 from elsewhere"])
async def test_a_clear_no_refuses_although_the_catalog_is_shown(office: Office, verify: str) -> None:
    """An unknown or revoked token is never written: the catalog's answer may be outdated."""
    error = await office.fail({"account": VERIFY[verify][0]}, is_patient=False)
    assert isinstance(error, TokenRefusal)
    assert error.code == VERIFY[verify][1].partition(" ")[2]


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("times", "kind"),
    [
        pytest.param({}, None, id="no times"),
        pytest.param({"expires_on": None, "not_before": ""}, None, id="empty times"),
        pytest.param({"expires_on": NOW + SECOND}, None, id="a second left"),
        pytest.param({"expires_on": NOW}, TokenExpired, id="expires now"),
        pytest.param({"expires_on": NOW - SECOND}, TokenExpired, id="expired a second ago"),
        pytest.param({"expires_on": "2026-11-20T12:00:00.000001Z"}, None, id="a moment left"),
        pytest.param({"expires_on": "2026-11-20T13:59:59+02:00"}, TokenExpired, id="in another zone"),
        pytest.param({"expires_on": "2026-11-20T12:00:01"}, None, id="without a zone"),
        pytest.param({"expires_on": "2026-11-20"}, TokenExpired, id="a day"),
        pytest.param({"not_before": NOW - SECOND}, None, id="valid for a second"),
        pytest.param({"not_before": NOW}, None, id="valid from now on"),
        pytest.param({"not_before": NOW + SECOND}, TokenNotYetValid, id="valid in a second"),
        pytest.param({"not_before": NOW + DAY, "expires_on": NOW - DAY}, TokenExpired, id="ends before it begins"),
        pytest.param({"expires_on": "soon"}, AnswerNotUnderstood, id="no time"),
        pytest.param({"not_before": "0001-01-01T00:00:00+23:59"}, AnswerNotUnderstood, id="before all time"),
    ],
)
async def test_the_edges_of_a_tokens_time(
    office: Office, times: dict[str, datetime | str | None], kind: type[CloudflareError] | None
) -> None:
    """Valid from `not_before` on, and no longer at `expires_on`; an invalid time is not understood."""
    reply = _token(**times)  # type: ignore[arg-type]  # no date among them
    if kind is None:
        assert (await office.verify({"account": reply})).token is not None
    else:
        assert type(await office.fail({"account": reply})) is kind


@pytest.mark.parametrize("skew", [-DAY, -SECOND, SECOND, DAY], ids=str)
async def test_cloudflares_clock_decides(office: Office, skew: timedelta) -> None:
    """A wrong clock here neither refuses a token nor accepts one."""
    office.now = NOW + skew
    assert (await office.verify({"account": _token(expires_on=NOW + SECOND, not_before=NOW)})).token is not None
    assert type(await office.fail({"account": _token(expires_on=NOW)})) is TokenExpired
    assert type(await office.fail({"account": _token(not_before=NOW + SECOND)})) is TokenNotYetValid


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Nov 2026 12:00:00 GMT", "9" * 400], ids=repr)
async def test_without_cloudflares_clock_ours_decides(office: Office, date: str) -> None:
    """If Date is missing or invalid."""
    reply = _token(date=None, expires_on=NOW)
    reply.headers["date"] = date
    assert type(await office.fail({"account": reply})) is TokenExpired
    office.now = NOW - SECOND
    assert (await office.verify({"account": reply})).token is not None


@pytest.mark.parametrize(
    ("reply", "described", "credential"),
    [
        pytest.param(_ok({"status": "valid"}), "present", CredentialStatus.VALID, id="it works"),
        pytest.param(_ok({"status": "invalid"}), "present", CredentialStatus.INVALID, id="it does not"),
        pytest.param(_ok({"status": "absent"}), "absent", CredentialStatus.ABSENT, id="there is none"),
        pytest.param(_no(404, 7003), "present", CredentialStatus.PRESENT, id="no test is offered"),
        pytest.param(_page(503), "absent", CredentialStatus.ABSENT, id="the test is down"),
        pytest.param(_no(403, 10000), "present", CredentialStatus.PRESENT, id="may not test"),
        pytest.param(_page(403, cf_mitigated="challenge"), "present", CredentialStatus.PRESENT, id="a challenge"),
        pytest.param(httpx.ReadError("x"), "odd", CredentialStatus.UNKNOWN, id="unknown"),
    ],
)
async def test_the_test_of_the_present_credential_decides_nothing(
    office: Office, reply: Reply, described: str, credential: CredentialStatus
) -> None:
    """It is shown if available; else the catalog's description is."""
    assert (await office.verify({"test": reply, "own": _catalog(credential=described)})).credential is credential


async def test_a_test_that_takes_long_is_not_waited_for(office: Office, pass_time: Callable[[timedelta], None]) -> None:
    """After two seconds the write goes on without it."""
    answered = asyncio.Event()

    async def linger() -> None:
        pass_time(TEST_PATIENCE)
        await answered.wait()

    office.questions.meanwhile["test"] = linger
    assert (await office.verify()).credential is CredentialStatus.PRESENT


@pytest.mark.parametrize(
    ("is_before_write", "questions"),
    [(True, ["account", "reach", "test"]), (False, ["account", "own", "reach", "test"])],
    ids=["store", "dry run"],
)
async def test_all_are_asked_at_the_same_time(office: Office, questions: list[str], *, is_before_write: bool) -> None:
    """None is answered before all of them were asked; for a store, an active catalog need not be asked about twice."""
    all_asked = asyncio.Barrier(len(questions))

    async def wait_for_the_others() -> None:
        await all_asked.wait()

    office.questions.meanwhile = dict.fromkeys(questions, wait_for_the_others)
    async with asyncio.timeout(10):
        answers = await office.ask(is_before_write=is_before_write)
    assert judge(answers, NOW, is_patient=False) == _found()
    assert sorted(office.questions.asked) == questions


@pytest.mark.parametrize("reach", [name for name in REACH if name != "active"])
async def test_before_a_write_the_bot_asks_about_a_catalog_that_the_token_does_not_see(
    office: Office, reach: str
) -> None:
    """Then all answers together mean what they mean for a dry run."""
    for own in _thin_out(OWN):
        replies = {"reach": REACH[reach][0], "own": OWN[own][0]}
        dry_run, before_write = [await office.ask(replies, is_before_write=each) for each in (False, True)]
        assert set(office.questions.asked) == {"account", "own", "reach", "test"}
        for is_patient in (True, False):
            meanings = [_meaning(answers, is_patient=is_patient) for answers in (before_write, dry_run)]
            assert meanings[0] == meanings[1], own


def _meaning(answers: Answers, *, is_patient: bool) -> Findings | str:
    try:
        return judge(answers, NOW, is_patient=is_patient)
    except BotError as error:
        return error.code


@pytest.mark.parametrize("kind", [TokenKind.USER, TokenKind.ACCOUNT, TokenKind.UNPREFIXED])
@pytest.mark.parametrize("stop", [LeaseLost, DatabaseUnavailable])
@pytest.mark.parametrize("is_before_write", [True, False], ids=["store", "dry run"])
async def test_without_the_lease_nothing_is_asked_with_the_token(
    office: Office, kind: TokenKind, stop: type[BotError], *, is_before_write: bool
) -> None:
    """And nothing is judged: the process that took over does that."""

    async def may_send() -> bool:
        if stop is LeaseLost:
            return False
        raise stop

    small = _Socket(office.questions)
    client = CloudflareClient(
        account_id=ACCOUNT_ID,
        base_url="https://api.example.com/client/v4",
        auth=ApiToken(token=Secret(BOTS_OWN)),
        transport=small,
    )
    answers = await Questions(client).ask(
        key=LAKE,
        token=Secret(TOKEN),
        kind=kind,
        may_send=may_send,
        turn=Turn(None, Urgency.WRITE),
        is_before_write=is_before_write,
    )
    with pytest.raises(stop):
        judge(answers, NOW, is_patient=True)
    assert sorted(office.questions.asked) == (["test"] if is_before_write else ["own", "test"])
    await client.aclose()


class _Socket(httpx.AsyncBaseTransport):
    """Passes the event "headers are about to be sent" to the request's "trace", as httpcore does."""

    def __init__(self, questions: Replies) -> None:
        self._questions = questions

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "trace" in request.extensions:
            await request.extensions["trace"]("http11.send_request_headers.started", {})
        return await self._questions.handle(request)


@pytest.mark.parametrize("kind", [TokenKind.USER, TokenKind.ACCOUNT, TokenKind.UNPREFIXED, TokenKind.UNKNOWN])
@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "nul\0", "na\u00efve", "\ud800"], ids=ascii)
async def test_a_token_that_no_header_can_carry_is_never_sent(office: Office, kind: TokenKind, token: str) -> None:
    """A form does not accept it; if it arrives here all the same, it ends as a refusal."""
    with pytest.raises(TokenMalformed):
        await office.verify(kind=kind, token=token)
    assert sorted(office.questions.asked) == ["own", "test"]


ENDINGS: Mapping[str, dict[str, Reply]] = {
    "refused": {"account": _no(401, 1000, f"no such token: {TOKEN}"), "reach": _no(403, 10000, TOKEN)},
    "expired": {"account": _token("expired")},
    "down": {"account": httpx.Response(503, text=TOKEN)},
    "not understood": {"account": _ok({"id": TOKEN, "status": "active"})},
    "out of reach": {"reach": _no(403, 10000, TOKEN)},
    "no answer": {"account": httpx.ReadError(TOKEN), "reach": httpx.ConnectError(TOKEN)},
    "unseen": {"account": _no(403, 10001, "not allowed"), "reach": _no(403, 10001, "not allowed")},
}


@pytest.mark.parametrize("replies", ENDINGS.values(), ids=ENDINGS)
async def test_no_error_holds_the_token(office: Office, replies: dict[str, Reply]) -> None:
    """Neither its text nor its causes nor the variables of its frames."""
    error = await office.fail(replies)
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [f"{frame.name} {frame.locals}" for frame in trace.stack if not frame.filename.endswith("test_verify.py")]
    assert frames != []
    assert find_leaks("\n".join([repr(vars(error)), str(error), *frames]).encode(), TOKEN) == []
    assert list(_causes(error)) == []


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield from (cause for cause in (error.__cause__, error.__context__) if cause is not None)


async def test_the_findings_hold_no_token_although_cloudflare_quotes_it(office: Office) -> None:
    """An id that is the token itself is not an id."""
    quoting = _ok({"id": TOKEN_ID, "status": "active", "token": TOKEN, "name": TOKEN})
    assert find_leaks(repr(await office.verify({"account": quoting})).encode(), TOKEN) == []


@pytest.mark.parametrize(
    ("error", "findings", "kind"),
    [
        pytest.param(CredentialRefused(), _found(), LacksStorageRights, id="all is known"),
        pytest.param(CredentialRefused(), None, CredentialRefused, id="nothing is known"),
        pytest.param(CredentialRefused(), _found(None, Check.TOKEN), CredentialRefused, id="the token is not known"),
        pytest.param(
            CredentialRefused(), _found(TokenKind.USER, Check.REACH), CredentialRefused, id="its reach is not known"
        ),
        pytest.param(CatalogNotEnabled(), _found(), CatalogNotEnabled, id="about the catalog"),
        pytest.param(CallerRejected(), _found(), CallerRejected, id="about the bot"),
    ],
)
def test_what_a_refused_write_means(
    error: CloudflareError, findings: Findings | None, kind: type[CloudflareError]
) -> None:
    """A known token that reaches the catalog can only lack write permissions; otherwise the cause is unknown."""
    assert type(explain_refusal(error, findings)) is kind


def test_an_explained_refusal_keeps_what_cloudflare_said() -> None:
    """Support asks for it."""
    answer = CredentialRefused(status=400, cloudflare_code=30004, cloudflare_message="weak", cf_ray="8f00-BOX")
    explained = explain_refusal(answer, _found())
    assert vars(explained) == vars(answer)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CloudflareError(status=403, cloudflare_code=9109, cloudflare_message=ADDRESSES), True),
        (CloudflareError(status=403, cloudflare_code=9109, cloudflare_message="Unauthorized"), False),
        (CloudflareError(status=403, cloudflare_code=10000, cloudflare_message=ADDRESSES), False),
        (None, False),
    ],
    ids=["said", "another message", "another code", "no error"],
)
def test_addresses_are_meant_by_code_and_message(error: CloudflareError | None, *, says: bool) -> None:
    """Neither alone is enough: the code is used for any denial, and a message is only text."""
    assert is_from_elsewhere(error) is says


def test_every_refusal_of_a_token_is_met_here() -> None:
    """Each leaf below TokenRefusal has a row that leads to it."""
    met = {says.split("|")[0].partition(" ")[2] for _, says in [*VERIFY.values(), *REACH.values()]}
    met |= {"lacks_catalog_rights", "catalog_out_of_reach", "credential_refused", "lacks_storage_rights"}
    assert {leaf.code for leaf in TokenRefusal.__subclasses__()} <= met
