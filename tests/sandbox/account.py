"""Does with the fake Cloudflare's account what a bot would, over plain requests and in virtual time."""

from typing import Any

import httpx

from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, SANDBOX_MINTING_TOKEN, FakeCloudflare
from bot.sandbox.policies import BUCKET_ITEM_WRITE, CATALOG_WRITE
from tests.in_memory import InMemory

INSTALLATION = "r2-credential-bot 4f3a9c1e"


class Account:
    """Answers with a code for each refusal, None for a success, and -1 where the connection breaks."""

    def __init__(self, server: FakeCloudflare) -> None:
        self.server = server

    async def create(self, bucket: str, tail: str = "9k2m4p7q1x") -> int | None:
        """Create a token for a bucket."""
        account = SANDBOX_ACCOUNT_ID
        resources = {
            CATALOG_WRITE.id: f"com.cloudflare.api.account.{account}",
            BUCKET_ITEM_WRITE.id: f"com.cloudflare.edge.r2.bucket.{account}_default_{bucket}",
        }
        policies = [
            {"effect": "allow", "permission_groups": [{"id": group}], "resources": {resource: "*"}}
            for group, resource in resources.items()
        ]
        name = f"{INSTALLATION} {bucket} {tail}"
        return (await self._send("POST", "/tokens", {"name": name, "policies": policies}))[0]

    async def disable(self) -> int | None:
        """Disable the first token."""
        token = next(iter(self.server.tokens.tokens.values()))
        changed = {"name": token.name, "policies": token.policies, "status": "disabled"}
        return (await self._send("PUT", f"/tokens/{token.id}", changed))[0]

    async def store(self, bucket: str) -> int | None:
        """Store the token that was created last."""
        token = list(self.server.tokens.tokens.values())[-1]
        path = f"/basin-catalog/{bucket}/credential"
        return (await self._send("POST", path, {"token": token.value}, SANDBOX_API_TOKEN))[0]

    async def verify(self) -> int | None:
        """Have the token that was created last ask about itself."""
        token = list(self.server.tokens.tokens.values())[-1]
        return (await self._send("GET", "/tokens/verify", None, token.value))[0]

    async def probe(self, bucket: str) -> str:
        """Return what the test of a slot says."""
        path = f"/basin-catalog/{bucket}/credential/status"
        code, result = await self._send("GET", path, None, SANDBOX_API_TOKEN)
        return str(code or result["status"])

    async def _send(
        self, method: str, path: str, body: object = None, token: str = SANDBOX_MINTING_TOKEN
    ) -> tuple[int | None, Any]:
        url = f"{self.server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}{path}"
        async with httpx.AsyncClient(transport=InMemory(self.server)) as client:
            try:
                answer = await client.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"})
            except httpx.ReadError:
                return -1, None
        envelope = answer.json()
        return (None if envelope["success"] else envelope["errors"][0]["code"]), envelope["result"]
