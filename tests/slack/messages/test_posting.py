"""Posting the final message: to the channel, by its response URL, or as a direct message; it is never lost."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from slack_sdk.web.async_client import AsyncWebClient
from structlog.testing import capture_logs

from bot.model.approval import Request, digest_of
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import (
    AccessRefused,
    ApprovalChannelUnfit,
    ApprovalUnposted,
    MembershipUnknown,
    PersonUnknown,
    SlackTrouble,
    SlackUnavailable,
)
from bot.model.origin import id_of_healing, id_of_scheduled
from bot.model.place import DIRECT
from bot.model.predecessor import Fate, Predecessor
from bot.model.submission import RESPONSE_URL_LIFETIME, Pending, Sealed, SealedResponseUrl, State, Submission, Task, Way
from bot.policy.scheduled import Overdue
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig, Message, dm_id
from bot.sealing.hpke import RESPONSE_URL, TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.slack.api import CHANNEL_LIFETIME, TIMEOUT, SlackWeb
from bot.slack.blocks import date
from bot.slack.channels import Channels
from bot.slack.messages.posting import Poster
from bot.slack.response_url import ResponseUrls, SlackPost
from bot.slack.session import open_session
from tests.make import FINDINGS, NOW, make_ended_submission, make_submission

ADA = "U0ADA0001"
MEMBER, NOT_MEMBER, PRIVATE, ARCHIVED, NOWHERE = "C0DATAPLT", "C0ANALYTX", "G0INCID42", "C0OLDWARE", "C0NOWHERE"
WHY_RESPONSE_URL = "because the bot itself may not post in this channel"
WHY_DIRECT = "because the bot could not post in"
STORED = make_ended_submission(
    id="V1", user_id=ADA, channel_id=MEMBER, findings=None, confirm_until=NOW, confirmation=CredentialStatus.PRESENT
)


def pending(submission: Submission = STORED, response_url: SealedResponseUrl | None = None) -> Pending:
    """Return the submission as a delivery has it."""
    return Pending(submission=submission, sealed=Sealed(response_url=response_url))


@dataclass(slots=True, kw_only=True)
class Scene:
    """A poster, its workspace and its keys."""

    slack: FakeSlack
    http: aiohttp.ClientSession
    key_ring: KeyRing
    now: datetime = NOW
    contact: str = ""
    may_enable: bool = False
    may_rotate: bool = False
    predecessor: Predecessor | None = None
    allowed: tuple[str, ...] | None = None
    host_of_urls: str = ""
    is_seen: bool = True
    unknown: type[AccessRefused] | None = None
    seers: list[tuple[str, BucketKey]] = field(default_factory=list)

    def clock(self) -> datetime:
        """Return the time of the scene."""
        return self.now

    @property
    def poster(self) -> Poster:
        """Return a new poster, which remembers nothing."""
        client = AsyncWebClient(
            token=self.slack.config.bot_tokens[0], base_url=self.slack.api_url, session=self.http, retry_handlers=[]
        )
        client.proxy = None
        web = SlackWeb(client, self.clock)
        api_url = self.host_of_urls or self.slack.api_url

        async def may_rotate(_: BucketKey, __: str) -> bool:
            return self.may_rotate

        async def find_predecessor(_: Submission) -> Predecessor | None:
            return self.predecessor

        async def sees(user_id: str, key: BucketKey) -> bool:
            self.seers.append((user_id, key))
            if self.unknown is not None:
                raise self.unknown
            return self.is_seen

        return Poster(
            web=web,
            post_by_response_url=ResponseUrls(SlackPost(self.http, api_url), self.key_ring, self.clock).post,
            clock=self.clock,
            contact=self.contact,
            may_enable=lambda _, __: self.may_enable,
            may_rotate=may_rotate,
            find_predecessor=find_predecessor,
            channels=Channels(web, lambda channel_id: self.allowed is None or channel_id in self.allowed, self.clock),
            sees=sees,
        )

    def seal(self, url: str, channel_id: str = NOT_MEMBER, **changes: str) -> SealedResponseUrl:
        """Seal a response URL as the ingress does, or, with `changes`, in another context."""
        context = SealingContext.of(replace(STORED, channel_id=channel_id), RESPONSE_URL)
        return SealedResponseUrl(self.key_ring.sealing_key.seal(url, replace(context, **changes)))

    def issue(self, channel_id: str) -> str:
        """Return a response URL issued by the fake Slack."""
        return self.slack.response_urls.issue(ADA, channel_id)

    def submission(self, channel_id: str, sealed: SealedResponseUrl | None = None) -> Pending:
        """Return a submission that ended, with its result for this channel."""
        return pending(replace(STORED, channel_id=channel_id), sealed)

    def allow(self, *channels: str) -> None:
        """Restrict the allowed channels."""
        self.allowed = channels

    def change(self, channel_id: str, *, is_mpim: bool) -> None:
        """Turn a channel into a group message."""
        self.slack.workspace.change_channel(replace(self.slack.workspace.channels[channel_id], is_mpim=is_mpim))

    @property
    def messages(self) -> list[Message]:
        """Return everything that was posted anywhere."""
        return self.slack.workspace.messages

    @property
    def places(self) -> list[str]:
        """Return the channels of what was posted."""
        return [message.channel_id for message in self.messages]

    @property
    def asked(self) -> list[str]:
        """Return the channels to which the bot tried to post by the Web API."""
        return [call.arguments["channel"] for call in self.slack.calls_of("chat.postMessage")]


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    """Open the workspace."""
    key_ring = KeyRing(*load_private_keys(generate_private_key()))
    async with FakeSlack(FakeSlackConfig()) as slack, open_session(TIMEOUT) as http:
        yield Scene(slack=slack, http=http, key_ring=key_ring)


async def test_the_result_is_posted_in_the_chosen_channel(scene: Scene) -> None:
    """Once, for everyone, unchanged, with no link previews and the same id at each try."""
    for _ in range(2):
        await scene.poster.post_result(pending())
    await scene.poster.post_result(pending(replace(STORED, id="V2")))
    assert scene.places == [MEMBER] * 3
    first, again, other = scene.slack.calls_of("chat.postMessage")
    assert first.arguments["client_msg_id"] == again.arguments["client_msg_id"] != other.arguments["client_msg_id"]
    assert str(first.arguments["unfurl_links"]) == str(first.arguments["unfurl_media"]) == "False"
    assert scene.messages[0].ephemeral_to is None
    assert "stored a new credential" in scene.messages[0].text
    assert "because the bot" not in scene.messages[0].shown_text
    assert scene.slack.problems == []


@pytest.mark.parametrize(
    "channel_id",
    [pytest.param(NOT_MEMBER, id="not_in_channel"), pytest.param(PRIVATE, id="channel_not_found")],
)
async def test_where_the_bot_may_not_post_the_response_url_is_used(scene: Scene, channel_id: str) -> None:
    """Everyone in the channel sees it, it says why it came this way, and no one gets a direct message."""
    await scene.poster.post_result(scene.submission(channel_id, scene.seal(scene.issue(channel_id), channel_id)))
    [message] = scene.messages
    assert (message.channel_id, message.ephemeral_to) == (channel_id, None)
    assert WHY_RESPONSE_URL in message.text
    assert WHY_RESPONSE_URL in message.shown_text
    assert scene.asked == [channel_id]


@pytest.mark.parametrize("channel_id", [NOT_MEMBER, PRIVATE, NOWHERE])
async def test_without_a_response_url_it_is_a_direct_message(scene: Scene, channel_id: str) -> None:
    """To the submitter, with the reason."""
    await scene.poster.post_result(scene.submission(channel_id))
    [message] = scene.messages
    assert message.channel_id == dm_id(ADA)
    assert f"{WHY_DIRECT} <#{channel_id}>" in message.text
    assert f"{WHY_DIRECT} <#{channel_id}>" in message.shown_text
    assert scene.asked == [channel_id, ADA]


Change = Callable[[Scene], None]
UNFIT: dict[str, tuple[Change, str]] = {
    "shared outside": (
        lambda scene: scene.slack.change_channel(MEMBER, is_ext_shared=True),
        "it is shared with another",
    ),
    "archived": (lambda scene: scene.slack.change_channel(MEMBER, is_archived=True), "it is archived"),
    "not listed": (lambda scene: scene.allow(NOT_MEMBER), "the bot may not be used in that channel"),
    "a group message": (lambda scene: scene.change(MEMBER, is_mpim=True), "it is a group message"),
    "invisible to the bot": (
        lambda scene: scene.slack.fail_next("conversations.info", error="a_new_word"),
        "Slack does not let the bot look it up",
    ),
}


@pytest.mark.parametrize(("change", "because"), UNFIT.values(), ids=UNFIT)
async def test_a_result_is_not_posted_where_it_could_no_longer_be_chosen(
    scene: Scene, change: Change, because: str
) -> None:
    """It may come hours after Submit; the response URL is not used either, and the person reads why."""
    change(scene)
    await scene.poster.post_result(scene.submission(MEMBER, scene.seal(scene.issue(MEMBER))))
    [message] = scene.messages
    assert message.channel_id == dm_id(ADA)
    assert f"{WHY_DIRECT} <#{MEMBER}>: {because}" in message.text
    assert f"{WHY_DIRECT} <#{MEMBER}>: {because}" in message.shown_text


@pytest.mark.parametrize("channel_id", [DIRECT, "D0PARTNER", "U0MALLORY", "W0MALLORY", "", "c0dataplt"])
async def test_a_conversation_that_is_no_channel_is_never_posted_to(scene: Scene, channel_id: str) -> None:
    """A chosen direct message needs no reason; older submissions may name other people's conversations."""
    sealed = scene.seal(scene.issue(MEMBER))
    posted = await scene.poster.post_result(scene.submission(channel_id, sealed))
    assert (posted.place, scene.asked) == (ADA, [ADA])
    assert scene.places == [dm_id(ADA)]
    assert WHY_DIRECT not in scene.messages[0].shown_text


async def test_a_channel_is_checked_again_after_a_minute(scene: Scene) -> None:
    """What Slack said of it at Submit expires soon; within a minute, many results cost one lookup."""
    poster = scene.poster
    for _ in range(3):
        await poster.post_result(pending())
    assert len(scene.slack.calls_of("conversations.info")) == 1
    scene.slack.change_channel(MEMBER, is_ext_shared=True)
    scene.now += CHANNEL_LIFETIME
    await poster.post_result(pending())
    assert scene.places == [MEMBER] * 3 + [dm_id(ADA)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"purpose": TOKEN}, id="sealed as a token"),
        pytest.param({"team_id": "T2"}, id="of another workspace"),
        pytest.param({"user_id": "U2"}, id="of another person"),
        pytest.param({"view_id": "V2"}, id="of another submission"),
        pytest.param({"account_id": "other"}, id="of another account"),
        pytest.param({"bucket": "pond"}, id="of another bucket"),
        pytest.param({"channel_id": MEMBER}, id="of another channel"),
        pytest.param({"task": "check"}, id="of another task"),
    ],
)
async def test_a_moved_response_url_is_not_used(scene: Scene, changes: dict[str, str]) -> None:
    """It opens only in the context it was sealed for; otherwise the message goes to the submitter."""
    sealed = scene.seal(scene.issue(MEMBER), **changes)
    await scene.poster.post_result(scene.submission(NOT_MEMBER, sealed))
    assert scene.places == [dm_id(ADA)]


async def test_a_response_url_whose_key_is_gone_is_not_used(scene: Scene) -> None:
    """No error is raised, and the message takes another way."""
    sealed = scene.seal(scene.issue(NOT_MEMBER))
    scene.key_ring.forget(scene.key_ring.sealing_key.key_id)
    with capture_logs() as logs:
        await scene.poster.post_result(scene.submission(NOT_MEMBER, sealed))
    assert scene.places == [dm_id(ADA)]
    assert [(line["event"], line["log_level"]) for line in logs][-1] == ("response_url_unreadable", "error")


@pytest.mark.parametrize(
    ("age", "place"),
    [
        pytest.param(RESPONSE_URL_LIFETIME - timedelta(seconds=1), NOT_MEMBER, id="just alive"),
        pytest.param(RESPONSE_URL_LIFETIME, dm_id(ADA), id="just dead"),
    ],
)
async def test_a_response_url_is_used_while_it_is_valid(scene: Scene, age: timedelta, place: str) -> None:
    """Slack keeps it for half an hour; after that it is not even opened."""
    scene.now += age
    await scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(scene.issue(NOT_MEMBER))))
    assert scene.places == [place]


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(302, id="a redirect"),
        pytest.param(400, id="refused"),
        pytest.param(404, id="expired or used up"),
        pytest.param(410, id="archived"),
        pytest.param(429, id="throttled"),
        pytest.param(500, id="broken"),
    ],
)
async def test_a_response_url_that_is_refused_is_followed_by_a_direct_message(scene: Scene, status: int) -> None:
    """Anything but Slack's plain "ok" is a refusal."""
    scene.slack.fail_next("response_url", status=status)
    with capture_logs() as logs:
        await scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(scene.issue(NOT_MEMBER))))
    assert scene.places == [dm_id(ADA)]
    assert status in [line.get("status") for line in logs]


async def test_a_redirect_of_a_response_url_is_not_followed(scene: Scene) -> None:
    """The message goes to the URL that Slack issued, or to the submitter."""
    elsewhere = scene.issue(MEMBER)

    async def move_on(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": elsewhere})

    app = web.Application()
    app.router.add_post("/response", move_on)
    async with TestServer(app) as server:
        sealed = scene.seal(str(server.make_url("/response")))
        scene.host_of_urls = str(server.make_url("/"))
        await scene.poster.post_result(scene.submission(NOT_MEMBER, sealed))
    assert scene.places == [dm_id(ADA)]


async def test_a_response_url_that_is_used_up_is_followed_by_a_direct_message(scene: Scene) -> None:
    """Slack accepts five messages, and refuses the sixth."""
    submission = scene.submission(NOT_MEMBER, scene.seal(scene.issue(NOT_MEMBER)))
    for _ in range(6):
        await scene.poster.post_result(submission)
    assert scene.places[-1] == dm_id(ADA)


async def test_a_lost_answer_of_a_response_url_is_followed_by_a_direct_message(scene: Scene) -> None:
    """It may have been posted: the direct message says so. The log does not have the URL."""
    scene.slack.fail_next("response_url", drop_connection=True, after_effect=True)
    url = scene.issue(NOT_MEMBER)
    with capture_logs() as logs:
        await scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(url)))
    assert scene.places == [NOT_MEMBER, dm_id(ADA)]
    assert "it may be there too" in scene.slack.workspace.messages[-1].text
    assert [line["event"] for line in logs] == ["channel_refused", "slack_not_heard", "response_url_unanswered"]
    assert url not in str(logs)


async def test_a_response_url_that_never_answers_is_abandoned(
    scene: Scene, pass_time: Callable[[timedelta], None]
) -> None:
    """It may have been posted: one message too many is better than none."""
    scene.slack.fail_next("response_url", delay=timedelta(seconds=7))
    posting = asyncio.create_task(
        scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(scene.issue(NOT_MEMBER))))
    )
    async with asyncio.timeout(5):
        while b"/response/" not in scene.slack.traffic_received():  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0)
    with capture_logs() as logs:
        pass_time(timedelta(seconds=6))
        await posting
    pass_time(timedelta(seconds=2))
    assert [line["event"] for line in logs] == ["slack_not_heard", "response_url_unanswered"]
    assert scene.places == [dm_id(ADA)]


@contextmanager
def _deaf_host() -> Iterator[str]:
    """Listen without ever accepting, with a full backlog: connecting to it hangs, as behind a firewall."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as deaf, closing(socket.socket()) as filler:
        address = deaf.getsockname()
        filler.settimeout(0)
        filler.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/response/made-up"


def _closed_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/response/made-up"


_CLOSED_PORT = _closed_port()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("made up", id="no URL"),
        pytest.param("http://", id="no host"),
        pytest.param("http://127.0.0.1:made-up/", id="no port"),
        pytest.param(_CLOSED_PORT, id="a closed port"),
    ],
)
async def test_a_response_url_that_leads_nowhere_is_followed_by_a_direct_message(scene: Scene, url: str) -> None:
    """Nothing was sent, so nothing can be posted twice."""
    scene.host_of_urls = _CLOSED_PORT
    await scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(url)))
    assert scene.places == [dm_id(ADA)]


async def test_a_response_url_behind_a_firewall_is_followed_by_a_direct_message(
    scene: Scene, pass_time: Callable[[timedelta], None]
) -> None:
    """The API and response URLs have different hosts: a network may let the bot reach only one of them."""
    with _deaf_host() as url, capture_logs() as logs:
        scene.host_of_urls = url
        posting = asyncio.create_task(scene.poster.post_result(scene.submission(NOT_MEMBER, scene.seal(url))))
        while not any(line["event"] == "channel_refused" for line in logs):  # noqa: ASYNC110 - a log sets no event
            await asyncio.sleep(0)
        for _ in range(4):
            await asyncio.sleep(0.01)
            pass_time(timedelta(seconds=1))
        await posting
    assert scene.places == [dm_id(ADA)]


TROUBLES = [
    pytest.param({"retry_after": 30}, timedelta(seconds=30), id="429"),
    pytest.param({"status": 429}, None, id="429 without Retry-After"),
    pytest.param({"error": "ratelimited"}, None, id="ratelimited"),
    pytest.param({"error": "internal_error"}, None, id="internal_error"),
    pytest.param({"error": "service_unavailable"}, None, id="service_unavailable"),
    pytest.param({"status": 500}, None, id="500"),
    pytest.param({"status": 503, "error": "not_in_channel"}, None, id="503, whatever it says"),
    pytest.param({"drop_connection": True}, None, id="a broken connection"),
    pytest.param({"delay": timedelta(seconds=0.15)}, None, id="no answer"),
]


@pytest.mark.parametrize("is_direct", [False, True], ids=["the channel", "the direct message"])
@pytest.mark.parametrize(("fault", "retry_after"), TROUBLES)
async def test_slacks_trouble_is_raised_and_no_other_place_is_tried(
    scene: Scene, fault: dict[str, object], retry_after: timedelta | None, *, is_direct: bool
) -> None:
    """The message waits until Slack is back: another place would have the same trouble, or get a second message."""
    scene.http._timeout = aiohttp.ClientTimeout(total=0.1)
    if is_direct:
        scene.slack.fail_next("chat.postMessage", error="not_in_channel")
    scene.slack.fail_next("chat.postMessage", **fault)  # type: ignore[arg-type]  # a table of keyword arguments
    with pytest.raises(SlackTrouble) as caught:
        await scene.poster.post_result(pending())
    assert caught.value.retry_after == retry_after
    assert scene.places == []
    assert scene.asked == ([MEMBER, ADA] if is_direct else [MEMBER])


@pytest.mark.parametrize("is_direct", [False, True], ids=["the channel", "the direct message"])
@pytest.mark.parametrize(
    "error", ["invalid_auth", "account_inactive", "token_revoked", "missing_scope", "team_added_to_org"]
)
async def test_a_revoked_bot_token_makes_the_message_wait(scene: Scene, error: str, *, is_direct: bool) -> None:
    """No other place would help; the log asks the operator, and the message is posted once there is a new token."""
    if is_direct:
        scene.slack.fail_next("chat.postMessage", error="not_in_channel")
    scene.slack.fail_next("chat.postMessage", error=error)
    with capture_logs() as logs, pytest.raises(SlackUnavailable):
        await scene.poster.post_result(pending())
    place = ADA if is_direct else MEMBER
    assert logs[-1] == {"event": "posting_refused", "log_level": "error", "channel": place, "slack_error": error}
    await scene.poster.post_result(pending())
    assert scene.places == [MEMBER]


async def test_a_throttled_channel_is_called_once_for_all_waiting_messages(scene: Scene) -> None:
    """Otherwise each of a hundred messages would get a 429 at each try."""
    scene.slack.fail_next("chat.postMessage", status=429, retry_after=30)
    poster = scene.poster
    for _ in range(3):
        with pytest.raises(SlackUnavailable) as unavailable:
            await poster.post_result(pending())
        assert unavailable.value.retry_after == timedelta(seconds=30)
    assert len(scene.slack.calls_of("chat.postMessage")) == 1
    scene.now += timedelta(seconds=31)
    await poster.post_result(pending())
    assert scene.places == [MEMBER]


@pytest.mark.parametrize("error", ["duplicate_message_not_found", "duplicate_channel_not_found"])
async def test_a_message_that_slack_knows_is_not_posted_elsewhere(scene: Scene, error: str) -> None:
    """Its `client_msg_id` was seen before: the answer to an earlier try was lost, and the message since removed."""
    scene.slack.fail_next("chat.postMessage", error=error)
    await scene.poster.post_result(pending())
    assert scene.places == []


@pytest.mark.parametrize("error", ["is_archived", "not_in_channel", "restricted_action", "msg_too_long", "a_new_word"])
async def test_any_other_refusal_by_the_channel_leads_to_the_next_place(scene: Scene, error: str) -> None:
    """Slack has more errors than our list, and adds new ones."""
    scene.slack.fail_next("chat.postMessage", error=error)
    await scene.poster.post_result(pending())
    assert scene.places == [dm_id(ADA)]


@pytest.mark.parametrize("error", ["user_not_found", "user_disabled", "messages_tab_disabled", "restricted_action"])
async def test_a_message_that_cannot_be_delivered_is_logged(scene: Scene, error: str) -> None:
    """No error is raised: the modal shows the result to the person, and the log informs the operator."""
    scene.slack.fail_next("chat.postMessage", error="is_archived")
    scene.slack.fail_next("chat.postMessage", error=error)
    with capture_logs() as logs:
        await scene.poster.post_result(pending())
    assert logs[-1] == {
        "event": "result_not_posted",
        "log_level": "error",
        "slack_error": error,
    }
    assert scene.places == []


async def test_the_contact_of_the_settings_is_named(scene: Scene) -> None:
    """If someone else has to act, the message names the contact."""
    scene.contact = "S0PLATFORM"
    await scene.poster.post_result(pending(replace(STORED, state=State.DENIED, error_code="not_allowed")))
    assert "<!subteam^S0PLATFORM>" in scene.messages[0].text


@pytest.mark.parametrize("may_enable", [False, True])
async def test_a_catalog_can_be_enabled_if_the_settings_allow_it(scene: Scene, *, may_enable: bool) -> None:
    """Even if the message took another way."""
    scene.may_enable = may_enable
    refused = replace(STORED, state=State.REFUSED, error_code="catalog_not_enabled", possibly_written=False)
    for channel_id, sealed in (
        (MEMBER, None),
        (NOT_MEMBER, scene.seal(scene.issue(NOT_MEMBER))),
        (ARCHIVED, None),
    ):
        await scene.poster.post_result(pending(replace(refused, channel_id=channel_id), sealed))
    assert scene.places == [MEMBER, NOT_MEMBER, dm_id(ADA)]
    assert ["Enable the catalog" in message.shown_text for message in scene.messages] == [may_enable] * 3


async def test_the_result_of_a_rotation_says_when_the_previous_token_is_revoked(scene: Scene) -> None:
    """On each way that the message can take."""
    scene.predecessor = Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=NOW)
    rotated = replace(STORED, task=Task.ROTATE, last_four="", confirmation=CredentialStatus.VALID)
    url = SealingContext.of(replace(rotated, channel_id=NOT_MEMBER), RESPONSE_URL)
    sealed = SealedResponseUrl(scene.key_ring.sealing_key.seal(scene.issue(NOT_MEMBER), url))
    for channel_id, response_url in ((MEMBER, None), (NOT_MEMBER, sealed), (ARCHIVED, None)):
        await scene.poster.post_result(pending(replace(rotated, channel_id=channel_id), response_url))
    assert scene.places == [MEMBER, NOT_MEMBER, dm_id(ADA)]
    assert [f"The previous one is revoked on {date(NOW)}." in message.text for message in scene.messages] == [True] * 3


LAKE = StoredCredential(
    key=BucketKey(account_id="0f" * 16, bucket="lake"),
    submission_id="V1",
    stored_by=ADA,
    stored_at=NOW - timedelta(days=60),
    channel_id=MEMBER,
    token_id="0f" * 16,
    expires_at=NOW + timedelta(days=3),
    reminded_at=None,
    broken_at=NOW,
)
Say = Callable[[Poster, StoredCredential], Awaitable[None]]
NOTICES: dict[str, tuple[Say, str]] = {
    "a reminder": (lambda poster, credential: poster.remind_of_expiry(credential, NOW), "expires soon"),
    "an overdue rotation": (
        lambda poster, credential: poster.announce_overdue(
            Overdue(credential=credential, since=NOW, failure=None), NOW
        ),
        "is overdue since",
    ),
    "a broken credential": (lambda poster, credential: poster.announce_broken(credential), "no longer works"),
}


@pytest.mark.parametrize("may_rotate", [False, True])
@pytest.mark.parametrize(("say", "words"), [NOTICES["a reminder"], NOTICES["a broken credential"]])
async def test_a_notice_offers_a_rotation_where_someone_may_rotate(
    scene: Scene, say: Say, words: str, *, may_rotate: bool
) -> None:
    """First, and in its words; the other way stays."""
    scene.may_rotate = may_rotate
    await say(scene.poster, LAKE)
    [message] = scene.messages
    buttons = [one["text"]["text"] for block in message.blocks for one in block.get("elements", []) if "value" in one]
    assert buttons == (["Rotate", "Store a new one"] if may_rotate else ["Store a new one"])
    assert (re.search(r"[Rr]otate", message.text) is not None) is may_rotate
    assert scene.slack.problems == []


@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_goes_where_the_result_went(scene: Scene, say: Say, words: str) -> None:
    """To the channel of the result, and nowhere else."""
    await say(scene.poster, LAKE)
    assert scene.places == [MEMBER]
    assert words in scene.messages[0].text
    assert f"<@{ADA}>" in scene.messages[0].text
    assert re.search("Store a new one|Paste a token instead", scene.messages[0].shown_text)
    assert scene.slack.problems == []


@pytest.mark.parametrize("channel_id", [NOT_MEMBER, PRIVATE, NOWHERE])
@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_refused_by_the_channel_goes_to_the_submitter(
    scene: Scene, say: Say, words: str, channel_id: str
) -> None:
    """Its response URL expired long ago; the log names the channel, not the text."""
    with capture_logs() as logs:
        await say(scene.poster, replace(LAKE, channel_id=channel_id))
    assert scene.places == [dm_id(ADA)]
    assert words in scene.messages[0].text
    assert f"because the bot could not post in <#{channel_id}>" in scene.messages[0].text
    assert f"because the bot could not post in <#{channel_id}>" in scene.messages[0].shown_text
    assert [line["event"] for line in logs] == ["channel_refused"]
    assert scene.seers == [(ADA, LAKE.key)]


@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_that_cannot_be_delivered_is_logged(scene: Scene, say: Say, words: str) -> None:
    """The submitter may have left: it must not be retried forever."""
    scene.slack.fail_next("chat.postMessage", error="is_archived")
    scene.slack.fail_next("chat.postMessage", error="user_disabled")
    with capture_logs() as logs:
        await say(scene.poster, LAKE)
    assert [line["slack_error"] for line in logs] == ["is_archived", "user_disabled"]
    assert scene.places == []


@pytest.mark.parametrize("is_direct", [False, True], ids=["the channel", "the direct message"])
@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_waits_for_slack(scene: Scene, say: Say, words: str, *, is_direct: bool) -> None:
    """Trouble is raised, so that it is retried, and no other place is tried."""
    if is_direct:
        scene.slack.fail_next("chat.postMessage", error="not_in_channel")
    scene.slack.fail_next("chat.postMessage", status=429, retry_after=30)
    with pytest.raises(SlackUnavailable) as caught:
        await say(scene.poster, LAKE)
    assert caught.value.retry_after == timedelta(seconds=30)
    assert scene.asked == ([MEMBER, ADA] if is_direct else [MEMBER])
    assert scene.places == []


@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
@pytest.mark.parametrize(("change", "because"), UNFIT.values(), ids=UNFIT)
async def test_a_notice_does_not_go_where_a_result_would_not(
    scene: Scene, say: Say, words: str, change: Change, because: str
) -> None:
    """Weeks may have passed since the result."""
    change(scene)
    await say(scene.poster, LAKE)
    [message] = scene.messages
    assert message.channel_id == dm_id(ADA)
    assert words in message.text
    assert f"{WHY_DIRECT} <#{MEMBER}>: {because}" in message.text


@pytest.mark.parametrize("channel_id", [MEMBER, DIRECT, "D0PARTNER"])
@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_is_not_sent_to_a_person_who_may_no_longer_see_the_bucket(
    scene: Scene, say: Say, words: str, channel_id: str
) -> None:
    """Unlike a result, it is about the slot since they left; the log informs the operator."""
    scene.slack.change_channel(MEMBER, is_archived=True)
    scene.is_seen = False
    with capture_logs() as logs:
        await say(scene.poster, replace(LAKE, channel_id=channel_id))
    assert (scene.places, words in str(logs)) == ([], False)
    assert logs[-1]["event"] == "notice_not_posted"


BY_ITSELF = [id_of_scheduled("lake", 7), id_of_healing("r2-credential-bot 0a0a0a0a lake 0123456789", 1)]


@pytest.mark.parametrize("submission_id", BY_ITSELF)
@pytest.mark.parametrize("channel_id", [MEMBER, DIRECT])
async def test_what_the_bot_did_by_itself_is_not_told_to_a_person_who_may_no_longer_see_the_bucket(
    scene: Scene, submission_id: str, channel_id: str
) -> None:
    """They asked for nothing: it would tell them of each rotation for ever."""
    scene.slack.change_channel(MEMBER, is_archived=True)
    ended = replace(STORED, id=submission_id, channel_id=channel_id)
    await scene.poster.post_result(pending(ended))
    assert scene.places == [dm_id(ADA)]
    scene.is_seen = False
    with capture_logs() as logs:
        posted = await scene.poster.post_result(pending(replace(ended, id=f"{submission_id}0")))
    assert (scene.places, posted.way) == ([dm_id(ADA)], Way.NONE)
    assert logs[-1]["event"] == "result_not_posted"


@pytest.mark.parametrize("unknown", [MembershipUnknown, PersonUnknown])
async def test_what_the_bot_did_by_itself_waits_until_slack_says_who_a_person_is(
    scene: Scene, unknown: type[AccessRefused]
) -> None:
    """It is told later, or not at all."""
    scene.unknown = unknown
    with pytest.raises(SlackUnavailable):
        await scene.poster.post_result(pending(replace(STORED, id=BY_ITSELF[0], channel_id=DIRECT)))
    assert scene.places == []


@pytest.mark.parametrize(("say", "words"), NOTICES.values(), ids=NOTICES)
async def test_a_notice_of_a_direct_result_is_direct(scene: Scene, say: Say, words: str) -> None:
    """It needs no reason: no channel was chosen."""
    await say(scene.poster, replace(LAKE, channel_id=DIRECT))
    [message] = scene.messages
    assert (message.channel_id, words in message.text) == (dm_id(ADA), True)
    assert WHY_DIRECT not in message.shown_text


Send = Callable[[Poster], Awaitable[object]]
SENDERS: dict[str, Send] = {
    "a result": lambda poster: poster.post_result(pending()),
    **{name: partial(lambda say, poster: say(poster, LAKE), say) for name, (say, _) in NOTICES.items()},
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_an_unknown_channel_is_waited_for(scene: Scene, send: Send) -> None:
    """Nothing is posted while it is not known who would read it."""
    scene.slack.fail_next("conversations.info", status=429, retry_after=30)
    with pytest.raises(SlackUnavailable) as caught:
        await send(scene.poster)
    assert caught.value.retry_after == timedelta(seconds=30)
    assert scene.places == []
    await send(scene.poster)
    assert scene.places == [MEMBER]


async def test_slack_deduplicates_a_repeated_notice_and_no_other(scene: Scene) -> None:
    """Each reminder and each breaking has an id that is the same at each try: Slack then shows it once."""
    poster, later = scene.poster, NOW + timedelta(days=3)
    await poster.post_result(pending())
    for _ in range(2):
        await poster.remind_of_expiry(LAKE, NOW)
    await poster.remind_of_expiry(LAKE, later)
    await poster.remind_of_expiry(replace(LAKE, submission_id="V2"), NOW)
    for _ in range(2):
        await poster.announce_broken(LAKE)
    await poster.announce_broken(replace(LAKE, broken_at=later))
    result, reminder, again, *others = [
        call.arguments["client_msg_id"] for call in scene.slack.calls_of("chat.postMessage")
    ]
    assert reminder == again
    assert others[2] == others[3]
    assert len({result, reminder, *others}) == 6


WAITING = replace(
    make_submission(id="V0123ABCDEF", user_id=ADA, channel_id=MEMBER, findings=FINDINGS, reason="ticket 42"),
    state=State.AWAITING_APPROVAL,
    approval_channel=MEMBER,
)
DENIED = replace(WAITING, state=State.DENIED, error_code="approval_denied", decided_by="U0GRACE01", ended_at=NOW)


async def test_a_request_is_posted_and_closed_in_the_same_message(scene: Scene) -> None:
    """With buttons for what was asked, and without them at the end."""
    ts = await scene.poster.post_request(pending(WAITING))
    [message] = scene.messages
    assert (message.ts, message.channel_id) == (ts, MEMBER)
    assert {each["value"] for each in message.blocks[-1]["elements"]} == {f"V0123ABCDEF {digest_of(pending(WAITING))}"}
    request = Request(submission_id=WAITING.id, channel_id=MEMBER, message_ts=ts, asked_at=NOW)
    await scene.poster.close_request(DENIED, request)
    [message] = scene.messages
    assert "Not approved, nothing changed" in message.shown_text
    assert "Denied by <@U0GRACE01>" in message.shown_text
    assert message.blocks[-1]["type"] == "context"


async def test_a_request_is_posted_only_once(scene: Scene) -> None:
    """By Slack's memory of the id, however often it is tried; the id is not that of the result."""
    for _ in range(2):
        await scene.poster.post_request(pending(WAITING))
    await scene.poster.post_result(pending(replace(STORED, id=WAITING.id)))
    assert [len({message.client_msg_id for message in scene.messages}), len(scene.messages)] == [2, 3]


@pytest.mark.parametrize("channel", [NOT_MEMBER, PRIVATE, ARCHIVED, NOWHERE, "C0PARTNER", DIRECT])
async def test_approvers_are_asked_in_no_other_place(scene: Scene, channel: str) -> None:
    """Not where others read it, nor where the bot may not post: it waits, and the log says why."""
    with capture_logs() as log, pytest.raises(ApprovalChannelUnfit):
        await scene.poster.post_request(pending(replace(WAITING, approval_channel=channel)))
    assert scene.messages == []
    assert [line["event"] for line in log].count("approval_not_asked") == 1


async def test_trouble_of_slacks_delays_a_request(scene: Scene) -> None:
    """As long as Slack asks."""
    scene.slack.fail_next("chat.postMessage", retry_after=30)
    with pytest.raises(ApprovalUnposted) as trouble:
        await scene.poster.post_request(pending(WAITING))
    assert trouble.value.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize("error", ["message_not_found", "cant_update_message", "edit_window_closed"])
async def test_a_message_that_cannot_be_changed_holds_up_nothing(scene: Scene, error: str) -> None:
    """Its buttons decide nothing any more; the log says it."""
    scene.slack.fail_next("chat.update", error=error)
    request = Request(submission_id=WAITING.id, channel_id=MEMBER, message_ts="1764000000.000100", asked_at=NOW)
    with capture_logs() as log:
        await scene.poster.close_request(DENIED, request)
    assert [line["event"] for line in log] == ["approval_message_not_updated"]


@pytest.mark.parametrize(
    ("channel", "ts"),
    [
        pytest.param("C0PARTNER", "1764000000.000100", id="now shared with another company"),
        pytest.param(MEMBER, None, id="Slack did not say which"),
    ],
)
async def test_a_message_that_may_not_be_changed_is_left(scene: Scene, channel: str, ts: str | None) -> None:
    """Nothing is said where others could read it."""
    request = Request(submission_id=WAITING.id, channel_id=channel, message_ts=ts, asked_at=NOW)
    await scene.poster.close_request(DENIED, request)
    assert scene.slack.calls_of("chat.update") == []
