"""What the value of a single setting may look like, and the fix for one that does not. No message quotes a value."""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from bot.model import slack_ids
from bot.model.secret import Secret
from bot.model.slack_ids import SlackId
from bot.model.written_settings import plain_value

_DURATION_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_TTL: Final = timedelta(days=7)
_LONGEST_LIFETIME: Final = timedelta(days=3650)
_SHORTEST_INTERVAL: Final = timedelta(days=1)
_SHORTEST_HISTORY: Final = _LONGEST_TTL + timedelta(days=1)
"""Longer than any submission waits, and than a clock can be set back: what is deleted has no say in any order."""


def _matching(pattern: str, fix: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return check


def secret_like(pattern: str, fix: str) -> BeforeValidator:
    """Make a Secret of a text that the whole pattern matches; for any other text, report `fix`."""
    check = _matching(pattern, fix)
    return BeforeValidator(
        lambda value: value if value is None or isinstance(value, Secret) else Secret(str(check(value)))
    )


def text_like(pattern: str, fix: str) -> BeforeValidator:
    """Accept a text that the whole pattern matches; for any other text, report `fix`."""
    return BeforeValidator(_matching(pattern, fix))


def list_of(find_slip: Callable[[Sequence[str]], str | None], *, any_without: str = "") -> BeforeValidator:
    """Split at commas. An empty text has no entries: "" allows no one, not the user called "".

    `any_without`: what is not restricted without this list. A list of commas alone was meant to restrict it.
    """

    def split(value: object) -> object:
        if not isinstance(value, str):
            return value
        entries = tuple(_parts(value))
        slip = find_slip(entries)
        if any_without and value.strip() and not entries:
            slip = f"lists nothing but commas: list something, or leave it out to allow any {any_without}"
        if slip is not None:
            raise ValueError(slip)
        return entries

    return BeforeValidator(split)


def _parts(value: str) -> list[str]:
    """Return the parts between commas, without the quotes and blanks around each."""
    return [plain for part in value.split(",") if (plain := plain_value(part))]


_WHOSE_LIST: Final = {
    SlackId.USER: "R2_CREDENTIAL_ALLOWED_USERS",
    SlackId.USERGROUP: "R2_CREDENTIAL_ALLOWED_USERGROUPS",
    SlackId.CHANNEL: "R2_CREDENTIAL_ALLOWED_CHANNELS",
}


def ids_of(kind: SlackId, *, any_without: str = "") -> BeforeValidator:
    """Split a list of Slack ids of one type; for an id of another type, name the setting that takes it."""
    return list_of(lambda entries: slack_ids.find_slip(entries, kind, _WHOSE_LIST), any_without=any_without)


def parse_duration(value: object) -> object:
    """Read a duration with its unit, up to 7 days."""
    if not isinstance(value, str):
        return value
    return _read_duration(value, _LONGEST_TTL, "write a number and a unit: 90s, 15m, 1h or 1d; at most 7d")


def parse_lifetime(value: object) -> object:
    """Read a duration of up to 3650 days, or `off`, which is None."""
    if not isinstance(value, str):
        return value
    if value == "off":
        return None
    return _read_duration(value, _LONGEST_LIFETIME, "write off, or a number and a unit: 90d or 12h; at most 3650d")


def parse_interval(value: object) -> object:
    """Read a duration from 1 to 3650 days, or `off`, which is None."""
    if not isinstance(value, str):
        return value
    if value == "off":
        return None
    fix = "write off, or a number and a unit from 1d to 3650d, such as 30d"
    interval = _read_duration(value, _LONGEST_LIFETIME, fix)
    if interval < _SHORTEST_INTERVAL:
        raise ValueError(fix)
    return interval


def parse_history(value: object) -> object:
    """Read a duration from 8 to 3650 days."""
    if not isinstance(value, str):
        return value
    fix = "write a number of days from 8d to 3650d, such as 365d"
    history = _read_duration(value, _LONGEST_LIFETIME, fix)
    if history < _SHORTEST_HISTORY:
        raise ValueError(fix)
    return history


def _read_duration(text: str, longest: timedelta, fix: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    duration = timedelta(seconds=int(match[1]) * _DURATION_UNITS[match[2]]) if match else timedelta(0)
    if not timedelta(0) < duration <= longest:
        raise ValueError(fix)
    return duration


def parse_reminders(value: object) -> object:
    """Read the days before an expiry on which to remind, the earliest reminder first."""
    if not isinstance(value, str):
        return value
    days = _parts(value)
    if not all(re.fullmatch(r"\d{1,3}d", day) for day in days):
        message = 'write numbers of days before the expiry, separated by commas: 14d,3d,0d; "," for no reminder'
        raise ValueError(message)
    return tuple(sorted({timedelta(days=int(day[:-1])) for day in days}, reverse=True))


def parse_signing_secrets(value: object) -> object:
    """Read one signing secret, or both of a rotation."""
    if not isinstance(value, str):
        return value
    secrets = _parts(value)
    if not 1 <= len(secrets) <= 2:  # noqa: PLR2004 - the old one and the new one of a rotation
        message = "give one signing secret, or two separated by a comma during a rotation"
        raise ValueError(message)
    if not all(re.fullmatch(r"[0-9a-f]{32}", part) for part in secrets):
        message = "is 32 hexadecimal digits: copy the Signing Secret from the Slack app's page Basic Information"
        raise ValueError(message)
    return tuple(Secret(part) for part in secrets)


_SHORTEST_AUDIT_KEY: Final = 32


def parse_audit_keys(value: object) -> object:
    """Read one key, or both of a rotation, the newer one first."""
    if not isinstance(value, str):
        return value
    keys = _parts(value)
    is_number_right = 1 <= len(keys) <= 2  # noqa: PLR2004 - the new one and the old one of a rotation
    if not is_number_right or not all(re.fullmatch(PRINTABLE, key) and len(key) >= _SHORTEST_AUDIT_KEY for key in keys):
        message = (
            f"is a random text of at least {_SHORTEST_AUDIT_KEY} characters, the same for every process "
            "(`keygen --audit PATH` makes one); two of them separated by a comma during a rotation, the new one first"
        )
        raise ValueError(message)
    return tuple(Secret(key) for key in keys)


_LONGEST_NAME: Final = 253
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL: Final = re.compile(
    rf"(https://{_LABEL}(\.{_LABEL})*\.?|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{{1,5}})?(/[!\"$-.0->@-~/]*)?"
)


def check_url(value: object) -> object:
    """Refuse a URL that would make a client raise later, and one that would send a token in the clear."""
    fault = "is https://HOST/PATH; http:// is for this machine only (127.0.0.1, localhost)"
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise ValueError(fault)
    try:
        url = urlsplit(value)
        is_port = url.port != 0
        if (url.hostname or "").rpartition(".")[2].isdigit():
            ip_address(url.hostname or "")
    except ValueError:  # 99999, 999.1.1.1
        is_port = False
    if not is_port:
        message = "has a port or an address that cannot exist"
        raise ValueError(message)
    return value


PRINTABLE: Final = r"[!#-&(-~]+"
"""Printable ASCII without quotation marks: one would be sent as part of the token, and refused."""


DEFAULT_HTTP_PORT: Final = 3000

HOST_FIX: Final = "is an address of this machine without a port: 127.0.0.1, 0.0.0.0 for IPv4, :: for IPv6 and IPv4"


def parse_host(value: object) -> object:
    """Return an address in its shortest form and without brackets, or a name unchanged."""
    if not isinstance(value, str):
        return value
    address = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return str(ip_address(address))
    except ValueError:
        pass
    if address != value or len(value) > _LONGEST_NAME or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value):
        raise ValueError(HOST_FIX)
    return value


def parse_port_or_off(value: object) -> object:
    """Read `off` as None; pydantic reads the number of a port."""
    return None if value == "off" else value


def check_path(value: object) -> object:
    """Refuse `~`, `$` and comments: no shell reads them here, so they would become names of directories."""
    if isinstance(value, str) and (value.startswith("~") or "$" in value):
        message = "is taken literally, so ~ and $ are not expanded: write the path in full"
        raise ValueError(message)
    if has_comment(value):
        message = "is a path with a comment behind it"
        raise ValueError(message)
    return value


def check_policy_path(value: object) -> object:
    """Refuse the text of a policy in the place of its path: NAME_FILE holds a value, and here that is the path."""
    if isinstance(value, str) and ("\n" in value or "[[" in value):
        message = "is the path of the policy file, not its text"
        raise ValueError(message)
    return check_path(value)


def has_comment(value: object) -> bool:
    """Return whether a value seems to end with a comment, as in `1h # one hour`."""
    return isinstance(value, str) and re.search(r"\s#", value) is not None


def unescape_pem(value: object) -> object:
    r"""Read `\n` as a line end: an env file cannot say it otherwise, and PEM has no backslash."""
    return value.replace("\\n", "\n") if isinstance(value, str) else value
