"""Explains to the operator why a call to Slack had no usable answer: reads the errors of aiohttp and of Slack's SDK."""

from typing import Final

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.model.no_answer import (
    NoAnswer,
    explain_error,
    explain_proxy_error,
    explain_proxy_status,
    explain_status,
    explain_stranger,
)
from bot.slack.session import AnswerRefused, Redirected

_SLACK: Final = "Slack"
_ADDRESS: Final = "SLACK_API_URL"


def explain_silence(error: BaseException) -> NoAnswer:
    """Return the cause and the fix. Quotes nothing that the other side sent but its status."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return explain_proxy_error(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return explain_proxy_status(error.status, _SLACK)
    if isinstance(error, AnswerRefused):
        what = "a redirect" if isinstance(error, Redirected) else "not Slack's format"
        return explain_stranger(what, _SLACK, _ADDRESS)
    status = _status_of(error)
    if status is not None:
        return explain_status(status, _SLACK, _ADDRESS)
    if isinstance(error, (OSError, aiohttp.ClientError)):
        return explain_error(error, _SLACK)
    return explain_stranger("no JSON object", _SLACK, _ADDRESS)


def _status_of(error: BaseException) -> int | None:
    if isinstance(error, SlackApiError):
        answer = error.response  # an AsyncSlackResponse, or aiohttp's own if the body was not JSON
        return answer.status_code if isinstance(answer, AsyncSlackResponse) else getattr(answer, "status", None)
    return error.status or None if isinstance(error, aiohttp.ClientResponseError) else None
