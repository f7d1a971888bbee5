"""The baseline: a Bolt app in Bolt's default mode whose only listener does nothing but `ack()`."""

import sys

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

port, slack_api_url, bot_token, signing_secret = sys.argv[1:]
app = AsyncApp(
    client=AsyncWebClient(token=bot_token, base_url=slack_api_url),
    signing_secret=signing_secret,
)


@app.view("store_credential")
async def acknowledge(ack: AsyncAck) -> None:
    """Do nothing else."""
    await ack()


app.start(port=int(port), host="127.0.0.1")
