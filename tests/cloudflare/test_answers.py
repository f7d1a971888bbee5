"""Cloudflare's results become our types or raise AnswerNotUnderstood; no input causes anything else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from cloudflare.types.user import TokenVerifyResponse
from hypothesis import example, given
from hypothesis import strategies as st

from bot.cloudflare.answers import (
    TokenStatus,
    TokenVerification,
    parse_catalog,
    parse_list,
    parse_test,
    parse_verification,
    parse_write_right,
)
from bot.cloudflare.diagnosis import Answer
from bot.cloudflare.echo import Echo
from bot.cloudflare.errors import AnswerNotUnderstood, CloudflareError
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, is_bucket_name

LAKE = BucketKey(account_id="0f" * 16, bucket="lake")
TOKEN_ID = "ed17574386854bf78a67040be0a770b0"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _answer(**headers: str) -> Answer:
    sent = {"cf-ray": "8f00a1b2c3d4e5f6-BOX", **headers}
    return Answer.parse(status=200, headers=sent.items(), body=b"", echo=Echo())


def _verification(**changes: object) -> dict[str, object]:
    return {"id": TOKEN_ID, "status": "active", **changes}


# Policies.

ACCOUNT = LAKE.account_id
WRITE = {"id": "d229766a2f7f4d299f20eaa8c9b1fde9", "name": "Workers R2 Data Catalog Write"}
RENAMED = {"id": "0" * 32, "name": "Basin Catalog Write"}
READ = {"id": "1" * 32, "name": "Workers R2 Data Catalog Read"}
STORAGE = {"id": "bf7481a1826f439697cb59a20b22293e", "name": "Workers R2 Storage Write"}


def _policy(*groups: object, effect: str = "allow", account: str = ACCOUNT) -> dict[str, object]:
    resources = {f"com.cloudflare.api.account.{account}": "*"}
    return {"effect": effect, "permission_groups": list(groups), "resources": resources}


POLICIES: dict[str, tuple[list[object], bool]] = {
    "it may write": ([_policy(READ, STORAGE, WRITE)], True),
    "in one of several policies": ([_policy(READ), _policy(WRITE)], True),
    "under the product's new name": ([_policy(RENAMED)], True),
    "in all accounts": ([_policy(WRITE, account="*")], True),
    "it may only read": ([_policy(READ, STORAGE)], False),
    "in another account": ([_policy(WRITE, account="1" * 32)], False),
    "allowed and denied": ([_policy(WRITE), _policy(WRITE, effect="deny")], False),
    "nothing": ([], False),
    "groups of another shape": ([{"effect": "allow", "permission_groups": None, "resources": {}}], False),
    "a group of another shape": ([_policy("write", None)], False),
    "resources of another shape": ([_policy(WRITE) | {"resources": ["*"]}], False),
}


@pytest.mark.parametrize(("policies", "may_write"), POLICIES.values(), ids=POLICIES)
def test_policies_say_whether_a_token_may_write(policies: list[object], *, may_write: bool) -> None:
    """The right to write catalogs, for the account or for all accounts, and not denied."""
    assert parse_write_right(_answer(), {"policies": policies}, ACCOUNT) is may_write


@pytest.mark.parametrize("result", [None, [], {}, {"policies": None}, {"policies": ["*"]}], ids=repr)
def test_policies_of_another_shape_say_nothing(result: object) -> None:
    """No one is told that a token may not write because of that."""
    with pytest.raises(AnswerNotUnderstood):
        parse_write_right(_answer(), result, ACCOUNT)


# Verifications.


@pytest.mark.parametrize("status", TokenStatus)
@pytest.mark.parametrize(
    ("text", "time"),
    [
        pytest.param("2026-11-20T12:00:00Z", NOW, id="as Cloudflare writes it"),
        pytest.param("2026-11-20T12:00:00.250Z", NOW + timedelta(milliseconds=250), id="with a fraction"),
        pytest.param("2026-11-20T12:00:00.123456789Z", NOW + timedelta(microseconds=123456), id="with nanoseconds"),
        pytest.param("2026-11-20T14:30:00+02:30", NOW, id="in another zone"),
        pytest.param("2026-11-20T12:00:00", NOW, id="without a zone"),
        pytest.param(None, None, id="null"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_verification_is_read(status: TokenStatus, text: str | None, time: datetime | None) -> None:
    """Its times are in UTC, or None if missing."""
    answer = _answer(date=format_datetime(NOW, usegmt=True))
    result = _verification(status=status.value, expires_on=text, not_before=text)
    assert parse_verification(answer, result) == TokenVerification(
        id=TOKEN_ID, status=status, expires_at=time, not_before=time, answered_at=NOW, cf_ray="8f00a1b2c3d4e5f6-BOX"
    )


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param("active", id="a text"),
        pytest.param({}, id="nothing in it"),
        pytest.param({"status": "active"}, id="no id"),
        pytest.param({"id": TOKEN_ID}, id="no status"),
        pytest.param(_verification(status="Active"), id="another spelling"),
        pytest.param(_verification(status="paused"), id="a status that is new"),
        pytest.param(_verification(status=["active"]), id="status as a list"),
        pytest.param(_verification(status=True), id="status as a boolean"),
        pytest.param(_verification(id=7), id="id as a number"),
        pytest.param(_verification(id=""), id="empty id"),
        pytest.param(_verification(id="a" * 65), id="long id"),
        pytest.param(_verification(id="[removed]"), id="an id that was the token"),
        pytest.param(_verification(id=f"{TOKEN_ID}\n"), id="id with a line break"),
        pytest.param(_verification(id=TOKEN_ID[:-1]), id="id that is too short"),
        pytest.param(_verification(id="cfut_MADEUPq7Rk2Zt9Wv4Xb1Nc8Lp3"), id="id that is a piece of a token"),
        pytest.param(_verification(id="<b>id</b>"), id="id with markup"),
        pytest.param(_verification(expires_on=1795176000), id="a time as a number"),
        pytest.param(_verification(expires_on="soon"), id="a time as a word"),
        pytest.param(_verification(expires_on=[]), id="a time as a list"),
        pytest.param(_verification(expires_on=False), id="a time as a boolean"),
        pytest.param(_verification(not_before="2026-13-01T00:00:00Z"), id="a month too many"),
        pytest.param(_verification(expires_on="9999-12-31T23:59:59-23:59"), id="after all time"),
        pytest.param(_verification(not_before="0001-01-01T00:00:00+23:59"), id="before all time"),
    ],
)
def test_an_invalid_verification_is_not_understood(result: object) -> None:
    """It counts neither as a good token nor as a bad one."""
    with pytest.raises(AnswerNotUnderstood) as caught:
        parse_verification(_answer(), result)
    assert (caught.value.cf_ray, caught.value.possibly_landed) == ("8f00a1b2c3d4e5f6-BOX", False)


@pytest.mark.parametrize(
    ("date", "time"),
    [
        pytest.param("Fri, 20 Nov 2026 12:00:00 GMT", NOW, id="as HTTP says"),
        pytest.param("Fri, 20 Nov 2026 12:00:00 -0000", NOW, id="of no known zone"),
        pytest.param("Fri, 20 Nov 2026 14:00:00 +0200", NOW, id="of another zone"),
        pytest.param("", None, id="empty"),
        pytest.param(" ", None, id="blank"),
        pytest.param("yesterday", None, id="a word"),
        pytest.param("Fri, 99 Nov 2026 12:00:00 GMT", None, id="a day too many"),
        pytest.param("Fri, 20 Nov 2026 12:00:00 +9999", None, id="a zone that is none"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", None, id="after all time"),
    ],
)
def test_cloudflares_own_time_is_read(date: str, time: datetime | None) -> None:
    """From the Date header, if it holds a date."""
    assert parse_verification(_answer(date=date), _verification()).answered_at == time


_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    expires_on=st.none() | st.datetimes(timezones=_ZONES),
    not_before=st.none() | st.datetimes(timezones=st.just(UTC)),
    status=st.sampled_from([status for status in TokenStatus if status is not TokenStatus.REVOKED]),  # not in the SDK
)
def test_times_are_those_of_the_official_sdk(
    expires_on: datetime | None, not_before: datetime | None, status: TokenStatus
) -> None:
    """The SDK reads the same times from the same JSON."""
    times = {"expires_on": expires_on, "not_before": not_before}
    written = {name: time.isoformat() for name, time in times.items() if time is not None}
    result = json.loads(json.dumps(_verification(status=status.value, **written)))
    sdk = TokenVerifyResponse.model_validate(result)
    try:
        ours = parse_verification(_answer(), result)
    except AnswerNotUnderstood:
        assert expires_on is not None
        assert expires_on.year in (1, 9999)
        return
    assert (ours.id, ours.status) == (sdk.id, sdk.status)
    assert (ours.expires_at, ours.not_before) == (sdk.expires_on, sdk.not_before)


# Tests of stored credentials.


@pytest.mark.parametrize("status", [CredentialStatus.VALID, CredentialStatus.INVALID, CredentialStatus.ABSENT])
def test_a_test_is_read(status: CredentialStatus) -> None:
    """Its three results."""
    assert parse_test(_answer(), {"status": status.value, "more": 1}) is status


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "valid",
        {},
        {"status": None},
        {"status": "present"},
        {"status": "unknown"},
        {"status": "Valid"},
        {"status": 1},
        {"status": ["valid"]},
        {"credential_status": "valid"},
    ],
    ids=repr,
)
def test_an_invalid_test_is_not_understood(result: object) -> None:
    """Also a status that a catalog's description can have but a test cannot."""
    with pytest.raises(AnswerNotUnderstood):
        parse_test(_answer(), result)


# Anything at all.

_NAMES = st.sampled_from(
    ["id", "status", "expires_on", "not_before", "warehouses", "bucket", "credential_status", "name", "result"]
)
_WORDS = st.sampled_from(
    ["active", "inactive", "expired", "valid", "absent", "present", "lake", TOKEN_ID, "2026-11-20T12:00:00Z", "24:00"]
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | _WORDS
    | st.text()
    | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=15,
)
_HEADERS = st.dictionaries(
    st.sampled_from(["date", "cf-ray"]),
    st.text() | st.sampled_from(["Fri, 20 Nov 2026 12:00:00 GMT", "Fri, 20 Nov 2026 12:00:00 +99999999"]),
)
_PARSERS: dict[str, Callable[[Answer, object], object]] = {
    "list": lambda answer, result: parse_list(answer, result, LAKE.account_id),
    "catalog": lambda answer, result: parse_catalog(answer, result, LAKE),
    "test": parse_test,
    "verification": parse_verification,
}


@pytest.mark.parametrize("parse", _PARSERS.values(), ids=_PARSERS)
@given(result=_JSON, headers=_HEADERS)
@example(result={"id": TOKEN_ID, "status": "active", "expires_on": "\ud800"}, headers={})
@example(result={"id": TOKEN_ID, "status": "active", "expires_on": "9" * 5000}, headers={"date": "9" * 5000})
@example(result={"warehouses": [{"bucket": "lake", "status": {}, "credential_status": []}]}, headers={})
@example(result={"id": TOKEN_ID, "status": float("nan")}, headers={"date": "\ud800"})
def test_whatever_comes_in_only_our_errors_come_out(
    parse: Callable[[Answer, object], object], result: object, headers: dict[str, str]
) -> None:
    """Any JSON and any header give one of our values or a CloudflareError."""
    answer = Answer.parse(status=200, headers=headers.items(), body=b"", echo=Echo())
    try:
        parse(answer, result)
    except CloudflareError as error:
        assert error.possibly_landed is False  # noqa: PT017 - a value is fine as well


@given(
    text=st.text(max_size=40)
    | st.builds(
        " ".join, st.lists(st.sampled_from(["Fri,", "20", "Nov", "2026", "12:00:00", "GMT", "+0200", "-", ":", "."]))
    )
)
def test_no_date_header_breaks_anything(text: str) -> None:
    """Cloudflare's time is either in UTC or missing."""
    answer = Answer.parse(status=200, headers=[("date", text)], body=b"", echo=Echo())
    answered_at = parse_verification(answer, _verification()).answered_at
    assert answered_at is None or answered_at.tzinfo is UTC


@given(
    entries=st.lists(_JSON | st.fixed_dictionaries({"bucket": st.sampled_from(["lake", "swamp", "-no", "", "LAKE"])}))
)
def test_a_list_holds_possible_buckets_only(entries: list[object]) -> None:
    """Each can be part of a path, and the good ones are all there, in order."""
    listed = parse_list(_answer(), {"warehouses": entries}, LAKE.account_id)
    assert all(is_bucket_name(catalog.bucket) for catalog in listed)
    assert {catalog.key.account_id for catalog in listed} <= {LAKE.account_id}
    good = [each["bucket"] for each in entries if isinstance(each, dict) and each.get("bucket") in ("lake", "swamp")]
    assert [catalog.bucket for catalog in listed if catalog.bucket in ("lake", "swamp")] == good


@given(result=_JSON)
def test_a_catalog_is_always_the_one_that_was_asked_for(result: object) -> None:
    """Or it is not understood."""
    try:
        catalog = parse_catalog(_answer(), result, LAKE)
    except AnswerNotUnderstood:
        return
    assert catalog.key == LAKE


def test_a_new_status_is_unknown_and_hides_nothing() -> None:
    """A catalog with a future status is still listed."""
    result = {"bucket": "lake", "status": "frozen", "credential_status": {"is": "valid"}, "new": 1}
    assert parse_catalog(_answer(), result, LAKE) == Catalog(
        key=LAKE, status=CatalogStatus.UNKNOWN, credential_status=CredentialStatus.UNKNOWN
    )
