"""Bolt, which routes the payloads to the stories. It holds no secret: the ingress verifies, `SlackWeb` calls Slack."""

import logging
import os

from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult

from bot.policy.gate import Home
from bot.slack.inbound.routes import Routes
from bot.slack.session import SlackClient


def build_bolt_app(routes: Routes, home: Home) -> AsyncApp:
    """Build a Bolt app for one workspace, with every listener attached and every check of Bolt's switched off."""
    for trap in ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET"):
        os.environ.pop(trap, None)  # both together would switch Bolt to OAuth, which keeps tokens in files

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id=home.team_id, enterprise_id=home.enterprise_id)

    app = AsyncApp(
        name="r2-credential-bot",
        client=SlackClient(token=None, logger=logging.getLogger("slack_sdk")),
        authorize=authorize,
        request_verification_enabled=False,  # the ingress does these, or no one
        ssl_check_enabled=False,
        url_verification_enabled=False,
        ignoring_self_events_enabled=False,
        attaching_function_token_enabled=False,
        process_before_response=True,
        logger=logging.getLogger("slack_bolt"),
    )
    routes.attach(app)
    return app
