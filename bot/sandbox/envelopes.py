"""What the fake Cloudflare answers with: the API's envelope, and the pages that come in its place."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

_PAGE: Final = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
_VERIFIED: Final = {"code": 10000, "message": "This API Token is valid and active", "type": None}


def accept(result: object, *, result_info: Mapping[str, int] | None = None) -> web.Response:
    """Return a success with this result; `result_info` says which page of a list it is."""
    envelope = {"success": True, "errors": [], "messages": [], "result": result}
    return web.json_response(envelope if result_info is None else {**envelope, "result_info": result_info})


def accept_token(description: Mapping[str, str]) -> web.Response:
    """Return the success of a verification.

    That of an active token carries a message with the code of an authentication error, as the real one does.
    """
    messages = [_VERIFIED] if description["status"] == "active" else []
    return web.json_response({"success": True, "errors": [], "messages": messages, "result": description})


def refuse(status: int, code: int | None, message: str, cause: tuple[int, str] | None = None) -> web.Response:
    """Return a refusal with one error; `cause` is the code and the message in its chain."""
    error: dict[str, object] = {"message": message} if code is None else {"code": code, "message": message}
    if cause is not None:
        error["error_chain"] = [{"code": cause[0], "message": cause[1]}]
    return web.json_response({"success": False, "errors": [error], "messages": [], "result": None}, status=status)


def show_page(status: int, title: str) -> web.Response:
    """Return a page for humans."""
    return web.Response(status=status, text=_PAGE.format(title=title), content_type="text/html")


def throttle(seconds: int) -> web.Response:
    """Return the refusal of one request too many, and when to come back."""
    response = refuse(web.HTTPTooManyRequests.status_code, 971, "Too many requests.")
    response.headers["Retry-After"] = str(seconds)
    return response
