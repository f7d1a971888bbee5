"""The limit: verifies that a request comes from Slack, answers it, and does nothing else."""

import os

from aiohttp import web
from slack_sdk.signature import SignatureVerifier

verifier = SignatureVerifier(os.environ["SLACK_SIGNING_SECRET"])


async def acknowledge(request: web.Request) -> web.Response:
    """Verify and answer."""
    is_from_slack = verifier.is_valid_request(await request.read(), dict(request.headers))
    return web.Response(status=200 if is_from_slack else 401)


app = web.Application()
app.add_routes([web.post("/slack/events", acknowledge)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
