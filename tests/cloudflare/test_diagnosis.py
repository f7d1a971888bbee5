"""The table of Cloudflare's answers, row by row, and unusual ones."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cloudflare.diagnosis import LONGEST_MESSAGE, LONGEST_WAIT, Answer, not_understood, read_result
from bot.cloudflare.echo import Echo
from bot.cloudflare.errors import (
    AnswerNotUnderstood,
    BlockedOnTheWay,
    CallerLacksPermission,
    CallerNotAllowed,
    CallerRejected,
    CatalogInactive,
    CatalogNotEnabled,
    ChallengePage,
    CloudflareError,
    CloudflareUnavailable,
    CredentialRefused,
    EdgeRefused,
    NoSuchBucket,
    R2NotEnabled,
    RequestRejected,
    RouteGone,
    Throttled,
)

# Made up; they have the shapes of real ones.
TOKENS = {
    "account token": "cfat_MADEUP" + "0" * 34 + "deadbeef",
    "user token": "cfut_MADEUP" + "0" * 34 + "deadbeef",
    "older token": "MADEUP" + "0" * 34,
    "s3 secret": "5a4db0c0" * 8,
    "short but prefixed": "cfat_MADEUP",
}


def _answer(status: int, body: object = b"", **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [(name.replace("_", "-"), text) for name, text in headers.items()]
    return Answer.parse(status=status, headers=sent, body=content, echo=Echo())


def _envelope(*codes: object, message: str = "made up", success: object = False) -> dict[str, object]:
    return {"success": success, "errors": [{"code": code, "message": message} for code in codes], "messages": []}


def _fail(answer: Answer, *, is_write: bool = True) -> CloudflareError:
    with pytest.raises(CloudflareError) as caught:
        read_result(answer, is_write=is_write)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(_answer(200, {"success": True, "errors": [], "result": {"a": 1}}), {"a": 1}, id="usual"),
        pytest.param(_answer(200, {"success": True, "result": None}), None, id="without errors"),
        pytest.param(_answer(200, {"success": True, "errors": None}), None, id="without result"),
        pytest.param(_answer(201, {"success": True, "errors": []}), None, id="another 2xx"),
        pytest.param(_answer(204), None, id="204"),
        pytest.param(_answer(205, b" \r\n"), None, id="205 with blanks"),
        pytest.param(_answer(204, {"success": True}), None, id="204 with an envelope"),
        pytest.param(
            _answer(200, {"success": True, "errors": [], "messages": [{"code": 10000, "message": "This is fine"}]}),
            None,
            id="code 10000 in messages",
        ),
    ],
)
def test_successes(answer: Answer, result: object) -> None:
    """Only `success` and `errors` make a success."""
    assert read_result(answer, is_write=True) == result


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        *[(status, code, CredentialRefused) for code in (30004, 30005) for status in (200, 400, 401, 403, 422, 500)],
        *[(status, 40401, CatalogNotEnabled) for status in (200, 400, 404)],
        *[(status, 40402, CatalogInactive) for status in (400, 403, 404, 409)],
        *[(404, code, NoSuchBucket) for code in (40406, 10006)],
        *[(status, code, RouteGone) for code in (7003, 7000) for status in (400, 404)],
        *[(status, code, CallerRejected) for code in (10000, 9109, 9106, 9103, 6003) for status in (400, 401, 403)],
        *[(400, code, CallerRejected) for code in (6111, 6103)],
        *[(status, 1000, CallerRejected) for status in (401, 403)],
        *[(status, 10042, R2NotEnabled) for status in (400, 403)],
        *[(status, 971, Throttled) for status in (200, 400, 403, 429, 503)],
        *[(status, 1015, Throttled) for status in (403, 429)],
        *[(status, code, RequestRejected) for code in (1001, 1003, 1010, 1020, 1038) for status in (400, 403, 404)],
        *[(503, code, CloudflareUnavailable) for code in (10000, 7003, 99999)],
        *[(status, 99999, RequestRejected) for status in (200, 400, 403, 404, 409, 422)],
        *[(status, 99999, RouteGone) for status in (405, 410)],
    ],
)
def test_codes(status: int, code: int, kind: type[CloudflareError]) -> None:
    """Each code means the same at each status at which it was observed."""
    error = _fail(_answer(status, _envelope(code)))
    assert type(error) is kind
    assert (error.status, error.cloudflare_code, error.cloudflare_message) == (status, code, "made up")


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "Method not allowed for token", CallerNotAllowed),
        (500, "Method not allowed for token", CallerNotAllowed),
        (500, "We encountered an internal error. Please try again.", CloudflareUnavailable),
        (403, "Internal error", CloudflareUnavailable),
        (500, "", CloudflareUnavailable),
        (403, "", CallerNotAllowed),
        (200, "internal error", CloudflareUnavailable),
    ],
)
def test_code_10001_goes_by_its_text(status: int, message: str, kind: type[CloudflareError]) -> None:
    """One code, two meanings."""
    assert type(_fail(_answer(status, _envelope(10001, message=message)))) is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(_answer(401), CallerRejected, id="bare 401"),
        pytest.param(_answer(403, {"success": False, "errors": []}), CallerRejected, id="403 of the API without code"),
        pytest.param(_answer(403, b"<html>Blocked</html>"), BlockedOnTheWay, id="403 page of something else"),
        pytest.param(_answer(403, b"<html>", cf_mitigated="challenge"), ChallengePage, id="challenge"),
        pytest.param(_answer(503, b"<html>", cf_mitigated="challenge"), ChallengePage, id="challenge with 503"),
        pytest.param(_answer(404), RouteGone, id="bare 404"),
        pytest.param(_answer(404, b"404 page not found"), RouteGone, id="404 in plain text"),
        pytest.param(_answer(404, {"success": False, "errors": [{"message": "?"}]}), RouteGone, id="404 without code"),
        pytest.param(_answer(405), RouteGone, id="405"),
        pytest.param(_answer(410), RouteGone, id="410"),
        pytest.param(_answer(408), CloudflareUnavailable, id="408"),
        pytest.param(_answer(422, b"Failed to deserialize the JSON body"), RequestRejected, id="plain-text 422"),
        pytest.param(_answer(400, b"<html>"), RequestRejected, id="400 page"),
        pytest.param(_answer(429), Throttled, id="429 without body"),
        pytest.param(_answer(429, b"null"), Throttled, id="429 null"),
        pytest.param(_answer(429, b"error code: 1015"), Throttled, id="edge rate limit in plain text"),
        pytest.param(_answer(403, b"error code: 1020"), EdgeRefused, id="edge in plain text"),
        pytest.param(_answer(530, b"<p>Error code: 1016</p>"), EdgeRefused, id="edge in a page"),
        pytest.param(_answer(403, {"error_code": 1010, "title": "..."}), EdgeRefused, id="edge in JSON"),
        pytest.param(_answer(403, b"<title>Attention Required! | Cloudflare</title>"), BlockedOnTheWay, id="firewall"),
        pytest.param(_answer(403, b"<title>Just a moment...</title>"), ChallengePage, id="challenge without a header"),
        pytest.param(_answer(503, b"<title>Just a moment...</title>"), ChallengePage, id="the same with 503"),
        pytest.param(_answer(403, b"Access denied by policy"), BlockedOnTheWay, id="a filter's 403"),
        pytest.param(_answer(451, b"<html>"), BlockedOnTheWay, id="a filter's 451"),
        pytest.param(_answer(407), BlockedOnTheWay, id="a proxy's 407"),
        pytest.param(_answer(500, b"<html>"), CloudflareUnavailable, id="500 page"),
        pytest.param(_answer(522, b"<html>"), CloudflareUnavailable, id="522 page"),
        pytest.param(_answer(599), CloudflareUnavailable, id="599"),
        pytest.param(_answer(500, {"success": True}), CloudflareUnavailable, id="500 that says success"),
        pytest.param(_answer(400, {"success": True}), RequestRejected, id="400 that says success"),
        pytest.param(_answer(200), AnswerNotUnderstood, id="200 without body"),
        pytest.param(_answer(200, b"<html>Welcome to the hotel</html>"), AnswerNotUnderstood, id="captive portal"),
        pytest.param(_answer(200, b"\xff\xfe"), AnswerNotUnderstood, id="no UTF-8"),
        pytest.param(_answer(200, b"[" * 100_000), AnswerNotUnderstood, id="nested too deep"),
        pytest.param(_answer(200, b"9" * 5_000), AnswerNotUnderstood, id="a number too long"),
        pytest.param(_answer(200, []), AnswerNotUnderstood, id="a list"),
        pytest.param(_answer(200, {}), AnswerNotUnderstood, id="no success"),
        pytest.param(_answer(200, {"success": "true"}), AnswerNotUnderstood, id="success as text"),
        pytest.param(_answer(200, {"success": 1}), AnswerNotUnderstood, id="success as number"),
        pytest.param(_answer(200, {"success": False}), AnswerNotUnderstood, id="a no without a reason"),
        pytest.param(_answer(200, _envelope(30004, success=True)), AnswerNotUnderstood, id="yes and no at once"),
        pytest.param(_answer(200, _envelope(971, success=True)), Throttled, id="yes, but throttled"),
        pytest.param(_answer(200, {"errors": [{"code": 30004}]}), AnswerNotUnderstood, id="a code without success"),
        pytest.param(_answer(204, b"?"), AnswerNotUnderstood, id="204 with something"),
        pytest.param(_answer(302, location="https://example.com"), AnswerNotUnderstood, id="redirect"),
        pytest.param(_answer(101), AnswerNotUnderstood, id="101"),
    ],
)
def test_odd_answers(answer: Answer, kind: type[CloudflareError]) -> None:
    """An unknown code is judged by its status, and a doubtful success is none."""
    assert type(_fail(answer)) is kind


@pytest.mark.parametrize(
    ("errors", "code", "kind"),
    [
        pytest.param(
            [{"code": 6003, "error_chain": [{"code": 6111}]}], 6003, CallerRejected, id="chain of a known code"
        ),
        pytest.param([{"code": 99, "error_chain": [{"code": 6103}]}], 6103, CallerRejected, id="known code in a chain"),
        pytest.param([{"code": 99}, {"code": 40401}], 40401, CatalogNotEnabled, id="the known one of two"),
        pytest.param([{"code": "30005"}], 30005, CredentialRefused, id="digits"),
        pytest.param([{"code": "x"}], None, RequestRejected, id="no digits"),
        pytest.param([{"code": True}], None, RequestRejected, id="a boolean"),
        pytest.param([{"code": -1}], None, RequestRejected, id="negative"),
        pytest.param([{"code": 10**30}], None, RequestRejected, id="far too large"),
        pytest.param([{"code": 1.5}], None, RequestRejected, id="a fraction"),
        pytest.param([None, 7, "30004", {"code": 30004}], 30004, CredentialRefused, id="junk before it"),
        pytest.param({"code": 30004}, None, RequestRejected, id="no list"),
        pytest.param([{"code": 40401, "message": {"no": "text"}}], 40401, CatalogNotEnabled, id="message is no text"),
    ],
)
def test_how_a_code_is_found(errors: object, code: int | None, kind: type[CloudflareError]) -> None:
    """In any entry and its chain, as a number or a string of digits, and nowhere else."""
    error = _fail(_answer(400, {"success": False, "errors": errors}))
    assert (type(error), error.cloudflare_code) == (kind, code)


@pytest.mark.parametrize(
    ("answer", "possibly_landed"),
    [
        pytest.param(_answer(500), True, id="500"),
        pytest.param(_answer(522, b"<html>"), True, id="522"),
        pytest.param(_answer(408), True, id="408"),
        pytest.param(_answer(200, b"<html>"), True, id="2xx not understood"),
        pytest.param(_answer(302), True, id="redirect"),
        pytest.param(_answer(520, b"error code: 1101"), True, id="edge, after it took the request"),
        pytest.param(_answer(403, _envelope(10001, message="internal error")), True, id="internal error"),
        pytest.param(_answer(403, b"error code: 1020"), False, id="edge, at the door"),
        pytest.param(_answer(429), False, id="429"),
        pytest.param(_answer(200, _envelope(971)), False, id="971"),
        pytest.param(_answer(500, _envelope(30004)), False, id="refused with 500"),
        pytest.param(_answer(400, _envelope(99999)), False, id="unknown no"),
        pytest.param(_answer(200, _envelope(99999)), False, id="unknown no in a 200"),
        pytest.param(_answer(401), False, id="401"),
        pytest.param(_answer(404), False, id="404"),
        pytest.param(_answer(403, b"", cf_mitigated="challenge"), False, id="challenge"),
    ],
)
def test_whether_a_write_may_have_landed(answer: Answer, *, possibly_landed: bool) -> None:
    """Only after a write, and only if the answer leaves it open."""
    assert _fail(answer).possibly_landed is possibly_landed
    assert _fail(answer, is_write=False).possibly_landed is False


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param(_answer(429, retry_after="30"), 30, id="seconds"),
        pytest.param(_answer(429, retry_after=" 1.5 "), 1.5, id="fraction"),
        pytest.param(_answer(429, retry_after="0"), 0, id="zero"),
        pytest.param(_answer(503, retry_after="120"), 120, id="of a 503"),
        pytest.param(_answer(200, _envelope(971), retry_after="300"), 300, id="of a 200"),
        pytest.param(_answer(429, retry_after="9" * 15), LONGEST_WAIT.total_seconds(), id="forever"),
        pytest.param(_answer(429, retry_after="9" * 400), None, id="longer than a number"),
        pytest.param(_answer(429, retry_after="-5"), None, id="negative"),
        pytest.param(_answer(429, retry_after="soon"), None, id="a word"),
        pytest.param(_answer(429, retry_after="٣"), None, id="another script's digit"),
        pytest.param(
            _answer(429, retry_after="Wed, 21 Oct 2026 07:28:30 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT"),
            30,
            id="date",
        ),
        pytest.param(
            _answer(429, retry_after="Wed, 21 Oct 2026 07:27:00 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT"),
            0,
            id="date that has passed",
        ),
        pytest.param(_answer(429, retry_after="Wed, 21 Oct 2026 07:28:30 GMT"), None, id="date without Date"),
        pytest.param(
            _answer(429, retry_after="Wed, 21 Oct 2026 07:28:30 GMT", date="Wed, 21 Oct 2026 07:28:00 -0000"),
            None,
            id="dates that cannot be compared",
        ),
        pytest.param(_answer(429, {"error_code": 1015, "retry_after": 60}), 60, id="in the body"),
        pytest.param(_answer(429, {"retry_after": 60}, retry_after="30"), 30, id="the header wins"),
        pytest.param(_answer(429, {"retry_after": "60"}), 60, id="text in the body"),
        pytest.param(_answer(429, {"retry_after": True}), None, id="a boolean in the body"),
        pytest.param(_answer(429, {"retry_after": -1}), None, id="negative in the body"),
        pytest.param(_answer(429, b'{"retry_after": NaN}'), None, id="NaN in the body"),
        pytest.param(
            _answer(429, b'{"retry_after": Infinity}'), LONGEST_WAIT.total_seconds(), id="infinity in the body"
        ),
        pytest.param(_answer(429, {"retry_after": 10**400}), LONGEST_WAIT.total_seconds(), id="huge in the body"),
        pytest.param(_answer(429), None, id="none"),
    ],
)
def test_retry_after(answer: Answer, seconds: float | None) -> None:
    """In seconds or as a date against the answer's own clock, in the header or in an edge error's body."""
    assert _fail(answer).retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("place", ["start", "cut off by the limit", "in quotes", "next to a control character"])
def test_no_token_stays_in_a_message(token: str, place: str) -> None:
    """Wherever Cloudflare quotes one."""
    texts = {
        "start": f"{token} is not good",
        "cut off by the limit": "x " * 95 + token,
        "in quotes": f'invalid value: "{token}"',
        "next to a control character": f"bad:\n\x00{token}\x1b[0m",
    }
    error = _fail(_answer(400, _envelope(30005, message=texts[place])))
    assert token[:12] not in error.cloudflare_message
    assert "[rem" in error.cloudflare_message


_DOCS = "https://developers.cloudflare.com"


@pytest.mark.parametrize(
    ("url", "is_kept"),
    [
        pytest.param(f"{_DOCS}/fundamentals/api/troubleshooting/", True, id="a page"),
        pytest.param(f"{_DOCS}/r2/api/tokens/#permissions", True, id="a part of a page"),
        pytest.param("http://developers.cloudflare.com/r2/", False, id="not https"),
        pytest.param("https://developers.cloudflare.com.example.com/r2/", False, id="a longer host"),
        pytest.param("https://evil.developers.cloudflare.com/r2/", False, id="a host below it"),
        pytest.param("https://developers.cloudflare.com@example.com/", False, id="a user name"),
        pytest.param("https://developers.cloudflare.com:8443/r2/", False, id="a port"),
        pytest.param("https://developers.cloudflare.com\\.example.com/", False, id="a backslash"),
        pytest.param(f"{_DOCS}/r2/|click>", False, id="markup"),
        pytest.param(f"{_DOCS}/?to=https://example.com", False, id="a query"),
        pytest.param(f"{_DOCS}/{'a' * 40}/", False, id="token-shaped"),
        pytest.param(f"{_DOCS}/{'page/' * 40}", False, id="too long"),
        pytest.param(f"{_DOCS}/r2/\n", False, id="a line break"),
        pytest.param(["x"], False, id="no text"),
        pytest.param(None, False, id="none"),
    ],
)
def test_a_missing_permission_links_cloudflares_page_or_none(url: object, *, is_kept: bool) -> None:
    """Code 10000 "Forbidden" means a missing permission; its link is trusted only for one host."""
    fault = {"code": 10000, "message": "Forbidden", "documentation_url": url}
    error = _fail(_answer(403, {"success": False, "errors": [fault]}))
    assert type(error) is CallerLacksPermission
    assert error.cloudflare_message == (f"Forbidden {url}" if is_kept else "Forbidden")


def test_a_page_never_makes_a_message_too_long() -> None:
    """The text is truncated, not the page."""
    fault = {"code": 30005, "message": "é" * 300, "documentation_url": f"{_DOCS}/r2/"}
    message = _fail(_answer(403, {"success": False, "errors": [fault]})).cloudflare_message
    assert len(message) == LONGEST_MESSAGE
    assert message.endswith(f"é {_DOCS}/r2/")


def test_a_message_is_short_and_printable() -> None:
    """Control characters and direction marks are removed, the rest is kept."""
    message = _fail(_answer(400, _envelope(1, message="a\r\nb\x00\u202e<b>&amp; " + "é " * 300))).cloudflare_message
    assert message.startswith("a b <b>&amp; é é")
    assert len(message) <= 200
    assert message.isprintable()


def test_a_message_without_end_is_read_as_far_as_it_is_kept() -> None:
    """No truncated word remains, since it may be half a token; and the rest costs no time."""
    for rest in ("x" * 31, " cfat_" + "a" * 31):
        text = "a" * (10_000 - len(rest)) + rest + "b" * 40
        assert _fail(_answer(400, _envelope(1, message=text))).cloudflare_message in ("", "[removed]")


@pytest.mark.parametrize(
    ("ray", "kept"),
    [
        ("8f0a1b2c3d4e5f60-LHR", True),
        ("8f0a1b2c3d4e5f60", True),
        ("8f0a1b2c3d4e5f60-ABCD", True),
        ("", False),
        ("a b", False),
        ("<script>", False),
        ("a" * 32, False),
        ("8f0a1b2c3d4e5f60-lhr", False),
        ("8f0a1b2c3d4e5f6-LHR", False),
        ("8f0a1b2c3d4e5f60-LHR\n", False),
        ("cfut_MADEUP-LHR", False),
        ("MADEUPq7Rk2Zt9Wv4Xb1Nc8Lp3Hs6Jd", False),
    ],
)
def test_the_ray_is_kept_when_it_looks_like_one(ray: str, *, kept: bool) -> None:
    """Support asks for it; nothing else may enter through that header."""
    assert _fail(_answer(500, cf_ray=ray)).cf_ray == (ray if kept else None)


def test_not_understood_keeps_what_is_known() -> None:
    """For a success with an unexpected result."""
    error = not_understood(_answer(200, cf_ray="8f00a1b2c3d4e5f6-BOX"), is_write=True)
    assert (error.status, error.cf_ray, error.possibly_landed) == (200, "8f00a1b2c3d4e5f6-BOX", True)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([971, 1015, 10001, 30004, 40401, 7003])
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["success", "errors", "code", "message", "error_chain", "retry_after", "error_code"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "cf-ray", "cf-mitigated", "content-type"]),
    st.text(max_size=40) | st.sampled_from(["challenge", "5", "Wed, 21 Oct 2026 07:28:30 GMT"]),
)


@given(
    status=st.integers(100, 599),
    headers=_headers,
    body=st.binary() | _json.map(lambda document: json.dumps(document).encode()),
    is_write=st.booleans(),
)
def test_whatever_comes_in_only_our_errors_come_out(
    status: int, headers: dict[str, str], body: bytes, *, is_write: bool
) -> None:
    """No answer can raise anything else, and no refusal of a read has landed."""
    try:
        read_result(Answer.parse(status=status, headers=headers.items(), body=body, echo=Echo()), is_write=is_write)
    except CloudflareError as error:
        assert is_write or not error.possibly_landed  # noqa: PT017 - a success is fine as well
        assert error.retry_after is None or timedelta(0) <= error.retry_after <= LONGEST_WAIT  # noqa: PT017 - same


@given(status=st.sampled_from([*range(300, 600)]), body=st.binary() | st.just(b'{"success": true}'))
def test_nothing_but_a_2xx_is_a_success(status: int, body: bytes) -> None:
    """Whatever the body claims."""
    with pytest.raises(CloudflareError):
        read_result(_answer(status, body), is_write=True)
