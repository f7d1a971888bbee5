"""What one would write with Bolt for Python and Cloudflare's SDK: store the credential, then acknowledge."""

import os
from typing import Any

from cloudflare import AsyncCloudflare, CloudflareError
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

slack = AsyncWebClient(token=os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API_URL"])
app = AsyncApp(client=slack, signing_secret=os.environ["SLACK_SIGNING_SECRET"])
cloudflare = AsyncCloudflare()  # reads CLOUDFLARE_API_TOKEN and CLOUDFLARE_BASE_URL


@app.view("store_credential")
async def store(ack: AsyncAck, view: dict[str, Any], client: AsyncWebClient) -> None:
    """Store the credential, acknowledge, and post what came of it."""
    values = view["state"]["values"]
    bucket = values["bucket"]["bucket"]["selected_option"]["value"]
    token = values["token"]["token"]["value"]
    channel = values["channel"]["channel"]["selected_conversation"]
    account_id = os.environ["CLOUDFLARE_ACCOUNT_ID"]
    try:
        await cloudflare.basin_catalog.credentials.create(bucket, account_id=account_id, token=token)
        result = f"The credential of `{bucket}` is stored."
    except CloudflareError as error:
        result = f"The credential of `{bucket}` was not stored: {type(error).__name__}"
    await ack()
    await client.chat_postMessage(channel=channel, text=result)


if __name__ == "__main__":
    app.start(port=int(os.environ["PORT"]), host="127.0.0.1")
