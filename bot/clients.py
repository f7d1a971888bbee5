"""Builds the clients from the settings: the same for the running bot and for the command `check`."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.cloudflare.auth import ApiKey, ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.pace import SharedPace
from bot.metrics import Metrics
from bot.model.catalog import BucketKey
from bot.model.clock_comparison import ClockComparison
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.settings import Settings, SlackSettings
from bot.slack.api import PATIENT_TIMEOUT, TIMEOUT, SlackWeb
from bot.slack.session import SlackClient, open_session
from bot.slack.traffic import SlackTraffic


def cloudflare_client(
    settings: Settings,
    pace: SharedPace,
    comparison: ClockComparison,
    metrics: Metrics,
    right_of_way: RightOfWay | None = None,
) -> CloudflareClient:
    """Return a client with the bot's own credentials.

    A minter has none: its client asks only with other tokens, such as one that it has just created.
    """
    has_own = has_own_credentials(settings)
    token = settings.cloudflare_api_token if has_own else settings.cloudflare_minting_token
    if token is not None:
        auth: ApiToken | ApiKey = ApiToken(token=token)
    else:
        auth = ApiKey(email=settings.cloudflare_email or "", key=settings.cloudflare_api_key or Secret(""))
    return CloudflareClient(
        account_id=settings.cloudflare_account_id,
        base_url=settings.cloudflare_base_url,
        auth=auth,
        catalog_api=settings.catalog_api,
        pace=pace,
        network=settings.network,
        comparison=comparison,
        metrics=metrics,
        right_of_way=right_of_way,
    )


def has_own_credentials(settings: Settings) -> bool:
    """Return whether this process may write catalogs, with credentials of the bot's own."""
    return settings.cloudflare_api_token is not None or settings.cloudflare_api_key is not None


def minting_client(  # noqa: PLR0913 - all by name
    settings: Settings,
    *,
    installation: str,
    serves: Callable[[BucketKey], bool],
    pace: SharedPace,
    comparison: ClockComparison,
    metrics: Metrics,
) -> MintingClient:
    """Return a client with the token that makes tokens; raises ValueError if there is none."""
    if settings.cloudflare_minting_token is None:
        message = "without CLOUDFLARE_MINTING_TOKEN, no token is made"
        raise ValueError(message)
    return MintingClient(
        account_id=settings.cloudflare_account_id,
        base_url=settings.cloudflare_base_url,
        token=settings.cloudflare_minting_token,
        installation=installation,
        serves=serves,
        pace=pace,
        network=settings.network,
        comparison=comparison,
        metrics=metrics,
    )


def services(settings: Settings) -> list[str]:
    """Return the services that the role hears from."""
    slack, cloudflare = settings.role.speaks_to_slack, settings.role.calls_cloudflare
    return [*(["Slack"] if slack else []), *(["Cloudflare"] if cloudflare else [])]


async def open_slack(
    settings: SlackSettings, stack: AsyncExitStack, traffic: SlackTraffic, metrics: Metrics
) -> tuple[SlackWeb, AsyncWebClient, aiohttp.ClientSession]:
    """Open sessions to Slack; return our client, and the SDK's client and session for what no person waits for."""
    http = await stack.enter_async_context(open_session(TIMEOUT, settings.network, traffic))
    patient_http = await stack.enter_async_context(
        open_session(PATIENT_TIMEOUT, settings.network, traffic, keeps_connections=False)
    )
    patient_kept_http = await stack.enter_async_context(open_session(PATIENT_TIMEOUT, settings.network, traffic))
    patient_client = _web_client(settings, patient_http, metrics)
    web = SlackWeb(
        _web_client(settings, http, metrics),
        patient_client=patient_client,
        patient_kept_client=_web_client(settings, patient_kept_http, metrics),
    )
    return web, patient_client, patient_http


def slack_app_token(settings: SlackSettings) -> str | None:
    """Return the app-level token, in plain text, if Slack is reached by Socket Mode."""
    return None if settings.slack_app_token is None else settings.slack_app_token.reveal()


def slack_signers(settings: SlackSettings) -> list[SignatureVerifier]:
    """Return what signs and verifies requests of HTTP mode, one for each signing secret."""
    return [SignatureVerifier(secret.reveal()) for secret in settings.slack_signing_secrets]


def _web_client(settings: SlackSettings, http: aiohttp.ClientSession, metrics: Metrics) -> AsyncWebClient:
    return SlackClient(
        metrics=metrics,
        token=settings.slack_bot_token.reveal(),
        base_url=settings.slack_api_url.rstrip("/") + "/",
        session=http,
        retry_handlers=[],  # the SDK would repeat a message that may have been posted
        logger=logging.getLogger("slack_sdk"),
    )
