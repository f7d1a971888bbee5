"""The environment, `.env` and `NAME_FILE` become one frozen Settings; nothing else reads the environment.

All problems are told at once, by name and with the fix, never with a value.
"""

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, InstanceOf, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from bot.model import bucket_globs, slack_ids
from bot.model.catalog import CatalogApi
from bot.model.foreign_text import one_line
from bot.model.secret import Secret
from bot.model.slack_ids import SlackId
from bot.model.written_settings import find_near_names, has_stray_quote, plain_value
from bot.network import DIRECT, Network, NetworkUnusable, find_unused, read_network

_DURATION_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_TTL: Final = timedelta(days=7)
_LONGEST_LIFETIME: Final = timedelta(days=3650)
_OWN_PREFIX: Final = "R2_CREDENTIAL_"
_FILE_SUFFIX: Final = "_FILE"
_MEANT: Final = "; did you mean "
_NETWORK_FIELD: Final = "network"
_NETWORK: Final = "proxy and authorities"
"""No name of a variable: several make this one, see bot/network.py."""


class Role(StrEnum):
    """Which part of the bot a process is."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"


_OTHERS: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.ALL: (),
    Role.GATEWAY: (
        "CLOUDFLARE_API_TOKEN",
        "CLOUDFLARE_EMAIL",
        "CLOUDFLARE_API_KEY",
        "R2_CREDENTIAL_SEALING_KEY",
    ),
    Role.WORKER: ("SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"),
}
"""Secrets that a role must not know: where they are set all the same, they are not kept, and the operator is warned."""


class SettingsError(Exception):
    """The settings are not usable: `problems` holds one line for each, by name and with the fix."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _matching(pattern: str, fix: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return check


def _secret(pattern: str, fix: str) -> BeforeValidator:
    check = _matching(pattern, fix)
    return BeforeValidator(
        lambda value: value if value is None or isinstance(value, Secret) else Secret(str(check(value)))
    )


def _text(pattern: str, fix: str) -> BeforeValidator:
    return BeforeValidator(_matching(pattern, fix))


def _entries(find_slip: Callable[[Sequence[str]], str | None], *, any_without: str = "") -> BeforeValidator:
    """Split at commas; no entry is made from an empty text, since "" allows nobody, not the user called "".

    `any_without`: what a list that is left out allows all of. One of commas alone was meant to allow less than that.
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
    """Return what stands between the commas, as plain as a value of its own."""
    return [plain for part in value.split(",") if (plain := plain_value(part))]


_WHOSE_LIST: Final = {
    SlackId.USER: "R2_CREDENTIAL_ALLOWED_USERS",
    SlackId.USERGROUP: "R2_CREDENTIAL_ALLOWED_USERGROUPS",
    SlackId.CHANNEL: "R2_CREDENTIAL_ALLOWED_CHANNELS",
}


def _ids(kind: SlackId, *, any_without: str = "") -> BeforeValidator:
    return _entries(lambda entries: slack_ids.find_slip(entries, kind, _WHOSE_LIST), any_without=any_without)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _read_duration(value, _LONGEST_TTL, "write a number and a unit: 90s, 15m, 1h or 1d; at most 7d")


def _lifetime(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "off":
        return None
    return _read_duration(value, _LONGEST_LIFETIME, "write off, or a number and a unit: 90d or 12h; at most 3650d")


def _read_duration(text: str, longest: timedelta, fix: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    duration = timedelta(seconds=int(match[1]) * _DURATION_UNITS[match[2]]) if match else timedelta(0)
    if not timedelta(0) < duration <= longest:
        raise ValueError(fix)
    return duration


def _reminders(value: object) -> object:
    if not isinstance(value, str):
        return value
    days = _parts(value)
    if not all(re.fullmatch(r"\d{1,3}d", day) for day in days):
        message = 'write numbers of days before the expiry, separated by commas: 14d,3d,0d; "," for no reminder'
        raise ValueError(message)
    return tuple(sorted({timedelta(days=int(day[:-1])) for day in days}, reverse=True))


def _signing_secrets(value: object) -> object:
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


_LONGEST_NAME: Final = 253
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL: Final = re.compile(
    rf"(https://{_LABEL}(\.{_LABEL})*\.?|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{{1,5}})?(/[!\"$-.0->@-~/]*)?"
)


def _url(value: object) -> object:
    """Refuse what a client would raise at, once it is built or called, and what sends a token in the clear."""
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


_PRINTABLE: Final = r"[!#-&(-~]+"
"""A mark of quotation would be sent along, and refused."""


_HOST_FIX: Final = "is an address of this machine without a port: 127.0.0.1, 0.0.0.0 for IPv4, :: for IPv6 and IPv4"


def _host(value: object) -> object:
    """Return an address without its brackets, or a name as it is."""
    if not isinstance(value, str):
        return value
    address = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return str(ip_address(address))
    except ValueError:
        pass
    if address != value or len(value) > _LONGEST_NAME or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value):
        raise ValueError(_HOST_FIX)
    return value


def _path(value: object) -> object:
    if isinstance(value, str) and (value.startswith("~") or "$" in value):
        message = "is taken as it is written, so ~ and $ stand for nothing: write the path in full"
        raise ValueError(message)
    return value


def _pem(value: object) -> object:
    r"""Take `\n` for the end of a line: a file of variables has no other way to say it, and PEM has no backslash."""
    return value.replace("\\n", "\n") if isinstance(value, str) else value


class ListenSettings(BaseSettings):
    """Where the bot listens, which is all that a health check needs to know."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        case_sensitive=True,
        validate_default=False,
        enable_decoding=False,
    )

    http_host: Annotated[str, BeforeValidator(_host)] = Field("127.0.0.1", alias="R2_CREDENTIAL_HTTP_HOST")
    http_port: int = Field(3000, alias="R2_CREDENTIAL_HTTP_PORT", ge=0, le=65535)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then `.env`. A file stands for a name that is set in neither, else it is told."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = _plain(source.env_vars)
        variables = _variables(dotenv_settings, env_settings)
        surroundings = [_Surroundings(settings_cls, variables)] if _NETWORK_FIELD in settings_cls.model_fields else []
        return *surroundings, _NamedFiles(settings_cls, variables), env_settings, dotenv_settings


class Settings(ListenSettings):
    """Every setting of the bot, checked. The names in the environment are those of the aliases."""

    role: ClassVar[Role] = Role.ALL

    slack_bot_token: Annotated[
        Secret, _secret(rf"xoxb-{_PRINTABLE}", "is the bot token of the Slack app and starts with xoxb-")
    ] = Field(alias="SLACK_BOT_TOKEN")
    slack_app_token: Annotated[
        Secret | None, _secret(rf"xapp-{_PRINTABLE}", "is an app-level token and starts with xapp-")
    ] = Field(None, alias="SLACK_APP_TOKEN")
    slack_signing_secrets: Annotated[tuple[Secret, ...], BeforeValidator(_signing_secrets)] = Field(
        (), alias="SLACK_SIGNING_SECRET"
    )
    slack_api_url: Annotated[str, BeforeValidator(_url)] = Field("https://slack.com/api/", alias="SLACK_API_URL")
    cloudflare_account_id: Annotated[
        str, _text(r"[0-9a-f]{32}", "is 32 lower-case hexadecimal digits; the dashboard shows it under Account home")
    ] = Field(alias="CLOUDFLARE_ACCOUNT_ID")
    cloudflare_api_token: Annotated[
        Secret | None, _secret(_PRINTABLE, "is a Cloudflare API token without blanks and quotes")
    ] = Field(None, alias="CLOUDFLARE_API_TOKEN")
    cloudflare_email: Annotated[
        str | None, _text(r"[^@\s]+@[^@\s]+", "is the e-mail address that the API key belongs to")
    ] = Field(None, alias="CLOUDFLARE_EMAIL")
    cloudflare_api_key: Annotated[
        Secret | None, _secret(_PRINTABLE, "is a Cloudflare Global API key without blanks and quotes")
    ] = Field(None, alias="CLOUDFLARE_API_KEY")
    cloudflare_base_url: Annotated[str, BeforeValidator(_url)] = Field(
        "https://api.cloudflare.com/client/v4", alias="CLOUDFLARE_BASE_URL"
    )
    catalog_api: CatalogApi = Field(CatalogApi.AUTO, alias="R2_CREDENTIAL_CATALOG_API")
    allowed_users: Annotated[tuple[str, ...], _ids(SlackId.USER)] = Field((), alias="R2_CREDENTIAL_ALLOWED_USERS")
    allowed_usergroups: Annotated[tuple[str, ...], _ids(SlackId.USERGROUP)] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_USERGROUPS"
    )
    allowed_channels: Annotated[tuple[str, ...], _ids(SlackId.CHANNEL, any_without="channel")] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_CHANNELS"
    )
    allowed_buckets: Annotated[tuple[str, ...], _entries(bucket_globs.find_slip, any_without="bucket")] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_BUCKETS"
    )
    database_url: Annotated[
        Secret | None,
        _secret(
            r"sqlite:///.+|postgres(ql)?://.+",
            "is sqlite:///PATH (a relative path), sqlite:////PATH (an absolute one), or postgresql://USER@HOST/NAME",
        ),
    ] = Field(None, alias="R2_CREDENTIAL_DATABASE_URL")
    data_dir: Annotated[Path, BeforeValidator(_path)] = Field(Path("data"), alias="R2_CREDENTIAL_DATA_DIR")
    sealing_key: Annotated[
        Secret | None,
        _secret(r"(?s).*-----BEGIN PRIVATE KEY-----.*", "is a private key in PEM: `keygen PATH` makes one"),
        BeforeValidator(_pem),
    ] = Field(None, alias="R2_CREDENTIAL_SEALING_KEY")
    sealing_public_key: Annotated[
        Secret | None,
        _secret(r"(?s).*-----BEGIN PUBLIC KEY-----.*", "is a public key in PEM, as `keygen PATH` prints it"),
        BeforeValidator(_pem),
    ] = Field(None, alias="R2_CREDENTIAL_SEALING_PUBLIC_KEY")
    ttl: Annotated[timedelta, BeforeValidator(_duration)] = Field(timedelta(hours=1), alias="R2_CREDENTIAL_TTL")
    fresh_token_patience: Annotated[timedelta, BeforeValidator(_duration)] = Field(
        timedelta(seconds=60), alias="R2_CREDENTIAL_FRESH_TOKEN_PATIENCE"
    )
    max_token_lifetime: Annotated[timedelta | None, BeforeValidator(_lifetime)] = Field(
        None, alias="R2_CREDENTIAL_MAX_TOKEN_LIFETIME"
    )
    allow_enable: bool = Field(default=False, alias="R2_CREDENTIAL_ALLOW_ENABLE")
    expiry_reminders: Annotated[tuple[timedelta, ...], BeforeValidator(_reminders)] = Field(
        (timedelta(days=14), timedelta(days=3), timedelta(0)), alias="R2_CREDENTIAL_EXPIRY_REMINDERS"
    )
    contact: Annotated[
        str | None, BeforeValidator(lambda value: one_line(value).strip() if isinstance(value, str) else value)
    ] = Field(None, alias="R2_CREDENTIAL_CONTACT", max_length=200)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="R2_CREDENTIAL_LOG_LEVEL")
    log_format: Literal["json", "console"] | None = Field(None, alias="R2_CREDENTIAL_LOG_FORMAT")
    network: InstanceOf[Network] = Field(DIRECT, validation_alias=_NETWORK)

    @property
    def postgres_url(self) -> Secret | None:
        """Return the address of the PostgreSQL, or None where the database is an SQLite file."""
        url = self.database_url
        return url if url is not None and url.reveal().startswith("postgres") else None

    @property
    def database_path(self) -> Path:
        """Return the path of the SQLite file."""
        if self.database_url is None:
            return self.data_dir / "bot.sqlite"
        return Path(self.database_url.reveal().removeprefix("sqlite:///"))

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all_problems(cls, values: Mapping[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Look at the settings one by one and together before giving up, so that one start tells everything."""
        values = {name: value for name, value in values.items() if name not in _OTHERS[cls.role]}
        unreadable = {name: trouble for name, value in values.items() if (trouble := _trouble_with(value)) is not None}
        problems = [problem for name, value in unreadable.items() for problem in value.tell(name)]
        problems += _problems_together(values, cls.role)
        try:
            settings = handler({name: value for name, value in values.items() if name not in unreadable})
        except ValidationError as error:
            problems += _problems_of_fields(error, except_for=unreadable)
        if problems:
            raise SettingsError(problems)
        return settings


class GatewaySettings(Settings):
    """The settings of a process that only faces Slack."""

    role = Role.GATEWAY


class WorkerSettings(Settings):
    """The settings of a process that only faces Cloudflare, and posts results."""

    role = Role.WORKER


_SETTINGS_OF: Final[Mapping[Role, type[Settings]]] = {
    Role.ALL: Settings,
    Role.GATEWAY: GatewaySettings,
    Role.WORKER: WorkerSettings,
}


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for the value of a setting where there is none to check."""

    problem: str

    def tell(self, name: str) -> list[str]:
        """Return the lines that tell it."""
        return [f"{name}: {self.problem}"]


@dataclass(frozen=True, slots=True)
class _NoNetwork(_Unreadable):
    """Stands for the network where variables that are not ours make none; the problem names them."""

    def tell(self, name: str) -> list[str]:  # noqa: ARG002 - the problem has names of its own
        return self.problem.splitlines()


class _NamedFiles(PydanticBaseSettingsSource):
    """Takes the value of NAME from the file that NAME_FILE names, as Docker and systemd hand out secrets."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field.alias or field_name
        path = self._variables.get(name + _FILE_SUFFIX)
        if not path:
            return None, name, False
        if self._variables.get(name):
            return _Unreadable(f"and {name}{_FILE_SUFFIX} are both set: keep one of them"), name, False
        try:
            return plain_value(Path(path).read_text(encoding="utf-8")), name, False
        except (OSError, ValueError):  # no such file, no text, no possible path
            return _Unreadable(f"cannot be read from the file that {name}{_FILE_SUFFIX} names"), name, False

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}


class _Surroundings(PydanticBaseSettingsSource):
    """Makes the network of the variables that every program reads, from the environment and `.env` alike."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the interface
        try:
            return read_network(self._variables), _NETWORK, False
        except NetworkUnusable as unusable:
            return _NoNetwork("\n".join(unusable.problems)), _NETWORK, False

    def __call__(self) -> dict[str, Any]:
        return {_NETWORK: self.get_field_value(self.settings_cls.model_fields[_NETWORK_FIELD], _NETWORK_FIELD)[0]}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, what the operator should be warned of, and the files that secrets came from, by their settings."""

    settings: Settings
    warnings: list[str]
    secret_files: Mapping[str, Path] = field(default_factory=dict)


def load_settings(env_file: Path = Path(".env"), role: Role = Role.ALL) -> LoadedSettings:
    """Read and check every setting that the role needs; raises SettingsError with all problems at once."""
    try:
        unknown = _unknown_names(env_file)
        variables = _plain(dotenv_values(env_file) | os.environ)
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{env_file}: cannot be read as UTF-8 text"]) from None
    near = _near_names(variables, role)
    try:
        settings = _SETTINGS_OF[role](_env_file=env_file)
    except SettingsError as error:
        near += [line for line in unknown.in_environment if _MEANT in line]
        raise SettingsError([*unknown.in_env_file, *error.problems, *near]) from None
    if unknown.in_env_file:
        raise SettingsError(unknown.in_env_file)
    unused = [*_names_of_others(variables, role), *find_unused(variables), *_other_entrance(settings)]
    warnings = [*unknown.in_environment, *near, *unused]
    if role is Role.ALL and settings.postgres_url is not None and settings.sealing_key is None:
        warnings.append(
            "R2_CREDENTIAL_SEALING_KEY: is not set, so this process makes keys of its own; set it before a second "
            "process works on the same database, since that one could not open what this one seals"
        )
    files = _secret_files(variables, role) | ({str(env_file): env_file} if env_file.exists() else {})
    return LoadedSettings(settings=settings, warnings=warnings, secret_files=files)


def load_listen_settings(env_file: Path = Path(".env")) -> ListenSettings:
    """Read where the bot listens, whatever its role is and whatever else is wrong; raises SettingsError."""
    try:
        return ListenSettings(_env_file=env_file)
    except ValidationError as error:
        raise SettingsError([*_problems_of_fields(error, except_for=())]) from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{env_file}: cannot be read as UTF-8 text"]) from None


def _secret_files(variables: Mapping[str, str], role: Role) -> dict[str, Path]:
    fields = (each for each in Settings.model_fields.values() if each.alias and each.alias not in _OTHERS[role])
    names = [
        f"{each.alias}{_FILE_SUFFIX}"
        for each in fields
        if Secret in get_args(each.annotation) or each.annotation is Secret
    ]
    return {name: Path(variables[name]) for name in names if name in variables}


def _plain(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return what is set, without what only surrounds it; a name that is set to nothing is not set."""
    return {name: plain for name, value in variables.items() if (plain := plain_value(value or ""))}


def _trouble_with(value: object) -> "_Unreadable | None":
    if isinstance(value, str) and has_stray_quote(value):
        return _Unreadable("has a quotation mark at one end only: remove it")
    return value if isinstance(value, _Unreadable) else None


@dataclass(frozen=True, slots=True)
class _UnknownNames:
    in_env_file: list[str]
    in_environment: list[str]


def _unknown_names(env_file: Path) -> _UnknownNames:
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    known |= {name + _FILE_SUFFIX for name in known}

    def tell(variables: Mapping[str, str | None]) -> list[str]:
        names = sorted(name for name in variables if name.startswith(_OWN_PREFIX) and name not in known)
        return [f"{name}: is not a setting of this bot{_did_you_mean(name, known)}" for name in names]

    return _UnknownNames(tell(dotenv_values(env_file)), tell(os.environ))


def _near_names(variables: Mapping[str, str], role: Role) -> list[str]:
    """Find misspelt names of settings that are not set: other tools' names begin with SLACK and CLOUDFLARE as well."""
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    is_set = {name for name in known if variables.keys() & {name, name + _FILE_SUFFIX}}
    done = {name for group in _ALTERNATIVES if group & is_set for name in group}
    wanted = known - is_set - done - {*_OTHERS[role]}
    ours = known | {name + _FILE_SUFFIX for name in known}
    names = [name for name in variables if name not in ours and not name.startswith(_OWN_PREFIX)]
    near = find_near_names(names, wanted | {name + _FILE_SUFFIX for name in wanted})
    return [f"{name}: is not a setting of this bot{_MEANT}{meant}?" for name, meant in near]


_ALTERNATIVES: Final = (
    frozenset({"SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"}),
    frozenset({"CLOUDFLARE_API_TOKEN", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY"}),
)
"""Of each of these one is enough, so that nobody is missing the others."""


def _names_of_others(variables: Mapping[str, str], role: Role) -> list[str]:
    names = [name for name in _OTHERS[role] if variables.get(name) or variables.get(name + _FILE_SUFFIX)]
    return [f"{name}: a {role} does not need it and ignores it; do not let it have it" for name in names]


def _other_entrance(settings: Settings) -> Iterator[str]:
    if settings.slack_app_token is not None and settings.slack_signing_secrets:
        yield (
            "SLACK_SIGNING_SECRET: is not used, since SLACK_APP_TOKEN is set as well and means Socket Mode; unset the "
            "one that you do not want"
        )


def _did_you_mean(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{_MEANT}{close[0]}?" if close else ""


def _variables(*sources: PydanticBaseSettingsSource) -> dict[str, str]:
    """Return all variables of the sources; the later one wins."""
    return {
        name: value
        for source in sources
        if isinstance(source, EnvSettingsSource)
        for name, value in source.env_vars.items()
        if value
    }


def _problems_of_fields(error: ValidationError, *, except_for: Collection[str]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0])
        if name in except_for:
            continue
        if problem["type"] == "missing":
            yield f"{name}: {_MISSING[name]}"
        else:
            yield f"{name}: {problem.get('ctx', {}).get('error') or _FIXES[name]}"


_MISSING: Final = {
    "SLACK_BOT_TOKEN": "set it to the bot token (xoxb-...) from the Slack app's page OAuth & Permissions",
    "CLOUDFLARE_ACCOUNT_ID": "set it to the id of the Cloudflare account, 32 hexadecimal digits",
}


_FIXES: Final = {
    "R2_CREDENTIAL_ALLOW_ENABLE": "is true or false",
    "R2_CREDENTIAL_CATALOG_API": f"is one of {', '.join(CatalogApi)}",
    "R2_CREDENTIAL_CONTACT": "is a user, user group or channel id, or a text of at most 200 characters",
    "R2_CREDENTIAL_HTTP_HOST": _HOST_FIX,
    "R2_CREDENTIAL_HTTP_PORT": "is a port from 0 to 65535; 0 takes a free one",
    "R2_CREDENTIAL_LOG_LEVEL": "is debug, info, warning or error",
    "R2_CREDENTIAL_LOG_FORMAT": "is json or console",
}
"""What is said of a value that pydantic itself refused."""


def _problems_together(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    """Find what is wrong with the settings as a whole; looks at raw values, since single ones may be bad."""
    if role is not Role.WORKER and not values.get("SLACK_APP_TOKEN") and not values.get("SLACK_SIGNING_SECRET"):
        yield "SLACK_APP_TOKEN or SLACK_SIGNING_SECRET: set the first for Socket Mode, or the second for HTTP"
    if role is not Role.GATEWAY:
        yield from _problems_with_caller(values)
    if role is not Role.ALL:
        yield from _problems_with_parts(values, role)
    if not any(_names_somebody(values.get(name)) for name in _WHO):
        yield f"{' or '.join(_WHO)}: nobody is listed, so nobody could use the bot; list at least one id"


def _problems_with_caller(values: Mapping[str, Any]) -> Iterator[str]:
    if not values.get("CLOUDFLARE_API_TOKEN"):
        missing = [name for name in ("CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY") if not values.get(name)]
        if missing:
            yield (
                "CLOUDFLARE_API_TOKEN: set it (permission Workers R2 Data Catalog Write), or both CLOUDFLARE_EMAIL and "
                "CLOUDFLARE_API_KEY"
            )
    elif values.get("CLOUDFLARE_EMAIL") or values.get("CLOUDFLARE_API_KEY"):
        yield "CLOUDFLARE_API_TOKEN: is set beside CLOUDFLARE_EMAIL or CLOUDFLARE_API_KEY; keep only the token"


def _problems_with_parts(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    """Look for what joins gateways and workers: one PostgreSQL, and the two halves of one key."""
    url = values.get("R2_CREDENTIAL_DATABASE_URL")
    if not isinstance(url, str) or not url.startswith("postgres"):
        yield f"R2_CREDENTIAL_DATABASE_URL: a {role} needs the postgresql:// address that all of them share"
    if role is Role.GATEWAY and not values.get("R2_CREDENTIAL_SEALING_PUBLIC_KEY"):
        yield "R2_CREDENTIAL_SEALING_PUBLIC_KEY: set it to the public half of the workers' key; `keygen` printed it"
    if role is Role.WORKER and not values.get("R2_CREDENTIAL_SEALING_KEY"):
        yield "R2_CREDENTIAL_SEALING_KEY: set it to the private key (`keygen PATH` makes one), the same for all workers"


_WHO: Final = ("R2_CREDENTIAL_ALLOWED_USERS", "R2_CREDENTIAL_ALLOWED_USERGROUPS")


def _names_somebody(value: object) -> bool:
    return any(name.strip() for name in value.split(",")) if isinstance(value, str) else value is not None
