"""Examines the public URL of HTTP mode: sends a signed request there, as Slack does when it verifies the URL."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import aiohttp
from slack_sdk.signature import SignatureVerifier
from yarl import URL

from bot.model.finding import Check, Finding, Mark, Part
from bot.model.no_answer import NoAnswer, explain_error, explain_proxy_error, explain_proxy_status
from bot.network import Network
from bot.slack.manifest import events_url

_SECRET: Final = "SLACK_SIGNING_SECRET"  # noqa: S105 - the setting's name
_TIMEOUT: Final = aiohttp.ClientTimeout(total=timedelta(seconds=5).total_seconds())
_LONGEST_ANSWER: Final = 4096
_ELSEWHERE: Final = "if this network cannot reach its own public address, run this check on another machine"
_LISTEN: Final = "check that its name leads to a reverse proxy that listens there, with a valid certificate"
_ROUTE: Final = "let the reverse proxy pass /slack/events on to R2_CREDENTIAL_HTTP_HOST and R2_CREDENTIAL_HTTP_PORT"

_JUDGED: Final = {
    "bad_signature": (
        "the bot there has another signing secret",
        "copy the Signing Secret from Basic Information in the app's settings, and restart",
    ),
    "stale_timestamp": ("the clock of the bot there, or of this machine, is off", "set the clocks, with NTP or chrony"),
    "not ready": ("the bot there is not ready", "see `/readyz` on its metrics port, or its log"),
    "not found": ("the bot there uses Socket Mode", "unset SLACK_APP_TOKEN there, and restart"),
}
"""By the bot's own words, which `bot.slack.inbound.http` and `bot.operations.server` answer with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    text: str


def public_url_check(url: str, signer: SignatureVerifier | None, network: Network) -> Check:
    """Return the check of a public URL, with or without the path; without a `signer`, the bot uses Socket Mode."""

    async def examine() -> Sequence[Finding]:
        if signer is None:
            text = "in Socket Mode, Slack uses no public URL"
            return [_say(text, "omit --url; for HTTP, set SLACK_SIGNING_SECRET and unset SLACK_APP_TOKEN")]
        try:
            return [await _ask(URL(events_url(url)), signer, network)]
        except ValueError as error:
            return [_say(str(error), "write it as https://HOST, as in the app's settings")]

    return Check(part=Part.TRANSPORT, examine=examine)


async def _ask(url: URL, signer: SignatureVerifier, network: Network) -> Finding:
    challenge = secrets.token_hex(16)
    try:
        answer = await _post(url, {"type": "url_verification", "challenge": challenge}, signer, network)
    except aiohttp.ClientHttpProxyError as error:
        return _not_reached(explain_proxy_status(error.status, "the bot"))
    except aiohttp.ClientProxyConnectionError as error:
        return _not_reached(explain_proxy_error(error))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return _not_reached(explain_error(error, "the bot"))
    return _judge(answer, challenge)


async def _post(url: URL, payload: dict[str, str], signer: SignatureVerifier, network: Network) -> _Answer:
    """Send what Slack would send. Follows no redirect, unpacks nothing, and reads no more than a short answer."""
    body, stamp = json.dumps(payload), str(int(time.time()))
    signature = signer.generate_signature(timestamp=stamp, body=body)
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature or "",
    }
    proxy = network.proxy_for(url.scheme, url.raw_host or "", url.port)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=network.tls_context()),
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # anyone may answer there, and 1 KB of gzip can expand to 1 GB
        ) as http,
        http.post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=proxy.address if proxy else None,
            proxy_headers=proxy.headers() if proxy else None,
        ) as answer,
    ):
        start = await answer.content.read(_LONGEST_ANSWER)
        return _Answer(status=answer.status, text=start.decode("utf-8", "replace"))


def _judge(answer: _Answer, challenge: str) -> Finding:
    if answer.status == HTTPStatus.OK and _challenge_in(answer.text) == challenge:
        text = "the bot answers at its public URL, with this signing secret"
        return Finding(part=Part.TRANSPORT, event="public_url_answers", text=text)
    known = _JUDGED.get(answer.text.strip())
    if known is not None and answer.status != HTTPStatus.OK:
        text, fix = known
        return _say(f"{text} (HTTP {answer.status})", fix, setting=_SECRET if "signing secret" in text else "")
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        text = f"the public URL redirects (HTTP {answer.status}), which Slack does not follow for every request"
        return _say(text, "give Slack the address that it leads to")
    return _say(f"something other than the bot answers at the public URL (HTTP {answer.status})", _ROUTE)


def _challenge_in(text: str) -> object:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed.get("challenge") if isinstance(parsed, dict) else None


def _not_reached(why: NoAnswer) -> Finding:
    return Finding(
        part=Part.TRANSPORT,
        event="public_url_not_reached",
        text=f"the public URL is not reached: {why.because}",
        mark=Mark.FAILED,
        setting=why.setting,
        fix=f"{why.fix if why.setting else _LISTEN}; {_ELSEWHERE}",
        blocks=True,
    )


def _say(text: str, fix: str, *, setting: str = "") -> Finding:
    return Finding(
        part=Part.TRANSPORT,
        event="public_url_wrong",
        text=text,
        mark=Mark.FAILED,
        setting=setting,
        fix=fix,
        blocks=True,
    )
