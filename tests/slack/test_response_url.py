"""Only Slack's URLs are posted to, whatever a payload or a database row says."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs
from yarl import URL

from bot.model.secret import Secret
from bot.slack.response_url import SlackPost, _slacks_url

SLACK_API = "https://slack.com/api/"

SLACKS = {
    "the usual one": "https://hooks.slack.com/commands/T0/1/madeup",
    "with its port": "https://hooks.slack.com:443/app/T0/1/madeup",
    "of Slack for government": "https://hooks.slack-gov.com/app/T0/1/madeup",
    "of the API's own host": "https://slack.com/response",
    "in capitals": "HTTPS://HOOKS.SLACK.COM/app",
}

STRANGERS = {
    "empty": "",
    "no URL": "made up",
    "no host": "https:///app",
    "without a scheme": "//hooks.slack.com/app",
    "without slashes": "https:hooks.slack.com/app",
    "in plain": "http://hooks.slack.com/app",
    "of a file": "file:///etc/passwd",
    "of another host": "https://evil.example/app",
    "ends like it": "https://evilslack.com/app",
    "begins like it": "https://hooks.slack.com.evil.example/app",
    "ends in a dot": "https://hooks.slack.com./app",
    "nothing before the dot": "https://.slack.com/app",
    "of another port": "https://hooks.slack.com:8443/app",
    "port 0": "https://hooks.slack.com:0/app",
    "with a user": "https://user@hooks.slack.com/app",
    "with a password": "https://:word@hooks.slack.com/app",
    "a user like it": "https://hooks.slack.com@evil.example/app",
    "a user and a password like it": "https://hooks.slack.com:443@evil.example/app",
    "a path like it": "https://evil.example/.slack.com",
    "a query like it": "https://evil.example?.slack.com",
    "a fragment like it": "https://evil.example#.slack.com",
    "a backslash": "https://evil.example\\.slack.com/app",
    "an escaped slash": "https://evil.example%2f.slack.com/app",
    "an escaped NUL": "https://evil.example%00.slack.com/app",
    "a blank": "https://evil.example .slack.com/app",
    "a semicolon": "https://evil.example;.slack.com/app",
    "an address": "https://127.0.0.1/app",
    "a loopback address": "http://127.0.0.1:8080/.slack.com",
    "an address in brackets": "https://[::1].slack.com/app",
    "the cloud's metadata": "http://169.254.169.254/latest/meta-data",
}


@pytest.mark.parametrize("url", SLACKS.values(), ids=SLACKS)
def test_slacks_url_is_posted_to(url: str) -> None:
    """Slack uses hosts in two domains."""
    assert _slacks_url(Secret(url), URL(SLACK_API)) == URL(url)


@pytest.mark.parametrize("url", STRANGERS.values(), ids=STRANGERS)
async def test_no_other_url_is_posted_to(url: str) -> None:
    """It is refused before any connection is made, and the log does not have it."""
    async with aiohttp.ClientSession() as http:
        with capture_logs() as logs:
            assert await SlackPost(http, SLACK_API).post(Secret(url), {"text": "made up"}) is False
    assert logs == [{"event": "response_url_is_not_slacks", "log_level": "error"}]


@pytest.mark.parametrize(
    ("api_path", "expected"),
    [
        pytest.param("", [{"text": "made up"}], id="the same host and port"),
        pytest.param("/anything/api/", [{"text": "made up"}], id="whatever its path"),
        pytest.param(None, [], id="another port of the host"),
    ],
)
async def test_the_host_of_the_api_is_posted_to(api_path: str | None, expected: list[object]) -> None:
    """If Slack is reached through a host of the operator's, response URLs may use it too, but not its other ports."""
    heard = []

    async def take(request: web.Request) -> web.Response:
        heard.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/response", take)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        api_url = "http://127.0.0.1:9/api/" if api_path is None else str(server.make_url("/")).rstrip("/") + api_path
        answer = await SlackPost(http, api_url).post(Secret(str(server.make_url("/response"))), {"text": "made up"})
    assert (answer, heard) == (bool(expected), expected)
