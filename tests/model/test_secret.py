"""A Secret is not shown by accident, and only a few modules call `reveal()`."""

import ast
import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot
from bot.model.secret import Secret

PLAIN = "cfut_MADEUPmarked000000000000000000000000000000d41d8c"  # made up
ANY_TEXT = st.lists(st.text() | st.text(st.characters(categories=["Cs"])), max_size=4).map("".join)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """An object of ours that holds a secret."""

    name: str
    token: Secret


SHOWN: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "f-string": lambda secret: f"{secret}",
    "f-string with repr": lambda secret: f"{secret!r}",
    "f-string with a width": lambda secret: f"{secret:>80}",
    "format": "{}".format,
    "percent s": lambda secret: "%s" % secret,  # noqa: UP031 - another way in
    "percent r": lambda secret: "%r" % secret,  # noqa: UP031 - another way in
    "print of a list": lambda secret: str([secret, {"token": secret}]),
    "pprint": lambda secret: pprint.pformat({"token": secret}),
    "repr of a dataclass": lambda secret: repr(Holder(name="x", token=secret)),
    "an exception's argument": lambda secret: f"{ValueError(secret)} {ValueError(secret)!r}",
    "a log record": lambda secret: logging.LogRecord("x", 10, "", 1, "%s %r", (secret, secret), None).getMessage(),
    "json with default=str": lambda secret: json.dumps({"token": secret}, default=str),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_showing_a_secret_shows_a_mask(show: Callable[[Secret], str]) -> None:
    """Any conversion to text gives the mask and no part of the value."""
    shown = show(Secret(PLAIN))
    assert "****" in shown
    assert "MADEUP" not in shown


@given(ANY_TEXT)
def test_the_mask_reveals_nothing_of_the_value(value: str) -> None:
    """All secrets look the same, whatever their length."""
    assert (repr(Secret(value)), str(Secret(value))) == (repr(Secret("")), str(Secret("")))


REFUSED: dict[str, Callable[[Any], object]] = {
    **{f"pickle protocol {n}": partial(pickle.dumps, protocol=n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "pickle inside a dataclass": lambda secret: pickle.dumps(Holder(name="x", token=secret)),
    "pickle inside an exception": lambda secret: pickle.dumps(ValueError(secret)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy of its holder": lambda secret: copy.deepcopy({"token": secret}),
    "asdict of its holder": lambda secret: asdict(Holder(name="x", token=secret)),
    "json": json.dumps,
    "vars": vars,
    "hash": hash,
    "as a key": lambda secret: {secret: 1},
    "iteration": list,
    "length": len,
    "joining": lambda secret: " ".join(["Bearer", *[secret]]),
    "adding": lambda secret: "Bearer " + secret,
    "encoding": bytes,
}


@pytest.mark.parametrize("leave", REFUSED.values(), ids=REFUSED.keys())
def test_every_other_way_out_is_refused(leave: Callable[[Secret], object]) -> None:
    """Pickling, copying, hashing and use as a string raise a TypeError that does not quote the value."""
    with pytest.raises(TypeError) as refusal:
        leave(Secret(PLAIN))
    assert "MADEUP" not in f"{refusal.value} {refusal.value!r}"


def _fail_with(token: Secret) -> None:
    holder = Holder(name="x", token=token)
    message = f"could not send {holder}"
    raise ValueError(message)


def test_a_traceback_with_local_variables_does_not_show_it() -> None:
    """Even a tool that prints the local variables of each frame finds only the mask."""
    try:
        _fail_with(Secret(PLAIN))
    except ValueError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "token = Secret(" in text
    assert "MADEUP" not in text


@given(ANY_TEXT)
def test_reveal_returns_the_value(value: str) -> None:
    """The value is unchanged, and equal values make equal secrets."""
    assert Secret(value).reveal() == value
    assert Secret(value) == Secret(value)
    assert Secret(value) != Secret(value + "x")


@pytest.mark.parametrize("other", [PLAIN, PLAIN.encode(), None, 7, object()], ids=lambda other: type(other).__name__)
def test_a_secret_equals_nothing_but_a_secret(other: object) -> None:
    """A value of another type is never equal, not even the plain text."""
    assert Secret(PLAIN) != other


REVEALING_MODULES = {
    "roles/worker.py",
    "clients.py",
    "settings.py",
    "network.py",
    "cloudflare/auth.py",
    "sealing/hpke.py",
    "storage/chain_start.py",
    "storage/records.py",
    "storage/ring.py",
    "slack/response_url.py",
}
PACKAGE = Path(bot.__file__).parent


def _uses_reveal(module: Path) -> bool:
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    return any(isinstance(node, ast.Attribute) and node.attr == "reveal" for node in nodes)


def test_few_modules_reveal_secrets() -> None:
    """Only the code that opens clients, the database and the keys, or sends a secret, calls it."""
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    revealing = {name for name, path in modules.items() if _uses_reveal(path) and name.partition("/")[0] != "sandbox"}
    assert revealing == REVEALING_MODULES


def test_no_module_reaches_around_reveal() -> None:
    """No code but the Secret's own uses the attribute behind it, or names it in a string."""
    for module in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert "reveal" not in strings, module.name
        if module.name != "secret.py":
            assert "_value" not in names | strings, module.name
