"""The settings of the bot: one frozen Settings, read once at the start. Nothing else reads the environment.

All problems are reported at once, each with the setting's name and the fix, never with a value.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, InstanceOf, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from bot.file_access import explain
from bot.model import bucket_globs
from bot.model.catalog import CatalogApi
from bot.model.foreign_text import one_line
from bot.model.role import Role
from bot.model.secret import Secret
from bot.model.slack_ids import SlackId
from bot.model.token_name import Scope
from bot.network import DIRECT, PROXIES, Network, find_unused
from bot.setting_names import find_misspelt_names, find_unknown_names, with_files
from bot.setting_problems import find_problems_of_fields, find_problems_together
from bot.setting_rotation import (
    DEFAULT_EVERY,
    DEFAULT_GRACE,
    DEFAULT_QUOTA,
    EVERY,
    GRACE,
    MINTING_TOKEN,
    QUOTA,
    SCOPE,
    find_short_grace,
)
from bot.setting_sources import (
    FILE_SUFFIX,
    NETWORK,
    NETWORK_FIELD,
    NamedFiles,
    NetworkVariables,
    find_env_file,
    find_no_env_file,
    find_repeated_names,
    find_trouble,
    find_unread_lines,
    merge_variables,
    plain_variables,
)
from bot.setting_values import (
    DEFAULT_HTTP_PORT,
    PRINTABLE,
    check_path,
    check_policy_path,
    check_url,
    ids_of,
    list_of,
    parse_audit_keys,
    parse_duration,
    parse_history,
    parse_host,
    parse_interval,
    parse_lifetime,
    parse_port_or_off,
    parse_reminders,
    parse_signing_secrets,
    secret_like,
    text_like,
    unescape_pem,
)

_OTHERS: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.ALL: (),
    Role.GATEWAY: (
        "CLOUDFLARE_API_TOKEN",
        "CLOUDFLARE_EMAIL",
        "CLOUDFLARE_API_KEY",
        "R2_CREDENTIAL_SEALING_KEY",
        MINTING_TOKEN,
    ),
    Role.WORKER: ("SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET", MINTING_TOKEN),
    Role.MINTER: (
        "SLACK_BOT_TOKEN",
        "SLACK_APP_TOKEN",
        "SLACK_SIGNING_SECRET",
        "CLOUDFLARE_API_TOKEN",
        "CLOUDFLARE_EMAIL",
        "CLOUDFLARE_API_KEY",
        "R2_CREDENTIAL_SEALING_KEY",
    ),
}
"""Secrets that a role must not hold. If one is set all the same, it is dropped and the operator is warned."""


_NEEDED: Final = frozenset({"SLACK_BOT_TOKEN", "CLOUDFLARE_ACCOUNT_ID", MINTING_TOKEN})
"""Every role needs two of them: where all are missing, a whole file is."""


_PUBLIC_KEY: Final = "R2_CREDENTIAL_SEALING_PUBLIC_KEY"
_BOT_TOKEN: Final = secret_like(rf"xoxb-{PRINTABLE}", "is the bot token of the Slack app and starts with xoxb-")


class SettingsError(Exception):
    """The settings cannot be used. `problems` has one line for each fault: the setting's name and the fix.

    An unknown name is quoted: a control character in it must not change what a terminal shows of the others.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = [one_line(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class ListenSettings(BaseSettings):
    """Where the bot listens: the only settings that a health check needs."""

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

    http_host: Annotated[str, BeforeValidator(parse_host)] = Field("127.0.0.1", alias="R2_CREDENTIAL_HTTP_HOST")
    http_port: int = Field(DEFAULT_HTTP_PORT, alias="R2_CREDENTIAL_HTTP_PORT", ge=0, le=65535)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over `.env`. Setting a name and its NAME_FILE, in either, is a problem."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = plain_variables(source.env_vars)
        variables = merge_variables(dotenv_settings, env_settings)
        network = [NetworkVariables(settings_cls, variables)] if NETWORK_FIELD in settings_cls.model_fields else []
        return *network, NamedFiles(settings_cls, variables), env_settings, dotenv_settings


class DatabaseSettings(ListenSettings):
    """Where the database is: all that a backup needs."""

    role: ClassVar[Role] = Role.ALL

    database_url: Annotated[
        Secret | None,
        secret_like(
            r"sqlite:///.+|postgres(ql)?://.+",
            "is sqlite:///PATH (a relative path), sqlite:////PATH (an absolute one), or postgresql://USER@HOST/NAME",
        ),
    ] = Field(None, alias="R2_CREDENTIAL_DATABASE_URL")
    data_dir: Annotated[Path, BeforeValidator(check_path)] = Field(Path("data"), alias="R2_CREDENTIAL_DATA_DIR")
    slack_bot_token: Annotated[Secret | None, _BOT_TOKEN] = Field(None, alias="SLACK_BOT_TOKEN")
    audit_keys: Annotated[tuple[Secret, ...], BeforeValidator(parse_audit_keys)] = Field(
        (), alias="R2_CREDENTIAL_AUDIT_KEY"
    )

    @property
    def postgres_url(self) -> Secret | None:
        """Return the URL of the PostgreSQL database, or None if the database is an SQLite file."""
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
    def _report_all_problems(cls, values: Mapping[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Check each setting and all of them together before giving up, so that one start reports every problem."""
        values = {name: value for name, value in values.items() if name not in _OTHERS[cls.role]}
        unreadable = {name: trouble for name, value in values.items() if (trouble := find_trouble(value)) is not None}
        problems = [problem for name, value in unreadable.items() for problem in value.lines(name)]
        problems += cls._find_problems_together(values, unreadable)
        try:
            settings = handler({name: value for name, value in values.items() if name not in unreadable})
        except ValidationError as error:
            problems += find_problems_of_fields(error, values, except_for=unreadable)
        if problems:
            raise SettingsError(problems)
        return settings

    @classmethod
    def _find_problems_together(cls, values: Mapping[str, Any], unreadable: Collection[str]) -> list[str]:  # noqa: ARG003 - a subclass has some
        return []


class Settings(DatabaseSettings):
    """The settings of any process of the bot, checked. The aliases are the names in the environment."""

    audit_webhook: Annotated[str | None, BeforeValidator(check_url)] = Field(None, alias="R2_CREDENTIAL_AUDIT_WEBHOOK")
    cloudflare_account_id: Annotated[
        str,
        text_like(r"[0-9a-f]{32}", "is 32 lower-case hexadecimal digits; the dashboard shows it under Account home"),
    ] = Field(alias="CLOUDFLARE_ACCOUNT_ID")
    cloudflare_api_token: Annotated[
        Secret | None, secret_like(PRINTABLE, "is a Cloudflare API token without blanks and quotes")
    ] = Field(None, alias="CLOUDFLARE_API_TOKEN")
    cloudflare_email: Annotated[
        str | None, text_like(r"[^@\s]+@[^@\s]+", "is the e-mail address that the API key belongs to")
    ] = Field(None, alias="CLOUDFLARE_EMAIL")
    cloudflare_api_key: Annotated[
        Secret | None, secret_like(PRINTABLE, "is a Cloudflare Global API key without blanks and quotes")
    ] = Field(None, alias="CLOUDFLARE_API_KEY")
    cloudflare_minting_token: Annotated[
        Secret | None, secret_like(PRINTABLE, "is a Cloudflare API token without blanks and quotes")
    ] = Field(None, alias=MINTING_TOKEN)
    cloudflare_base_url: Annotated[str, BeforeValidator(check_url)] = Field(
        "https://api.cloudflare.com/client/v4", alias="CLOUDFLARE_BASE_URL"
    )
    catalog_api: CatalogApi = Field(CatalogApi.AUTO, alias="R2_CREDENTIAL_CATALOG_API")
    allowed_users: Annotated[tuple[str, ...], ids_of(SlackId.USER)] = Field((), alias="R2_CREDENTIAL_ALLOWED_USERS")
    allowed_usergroups: Annotated[tuple[str, ...], ids_of(SlackId.USERGROUP)] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_USERGROUPS"
    )
    allowed_channels: Annotated[tuple[str, ...], ids_of(SlackId.CHANNEL, any_without="channel")] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_CHANNELS"
    )
    allowed_buckets: Annotated[tuple[str, ...], list_of(bucket_globs.find_slip, any_without="bucket")] = Field(
        (), alias="R2_CREDENTIAL_ALLOWED_BUCKETS"
    )
    policy: Annotated[Path | None, BeforeValidator(check_policy_path)] = Field(None, alias="R2_CREDENTIAL_POLICY")
    sealing_key: Annotated[
        Secret | None,
        secret_like(r"(?s).*-----BEGIN PRIVATE KEY-----.*", "is a private key in PEM: `keygen PATH` makes one"),
        BeforeValidator(unescape_pem),
    ] = Field(None, alias="R2_CREDENTIAL_SEALING_KEY")
    sealing_public_key: Annotated[
        Secret | None,
        secret_like(r"(?s).*-----BEGIN PUBLIC KEY-----.*", "is a public key in PEM, as `keygen PATH` prints it"),
        BeforeValidator(unescape_pem),
    ] = Field(None, alias=_PUBLIC_KEY)
    ttl: Annotated[timedelta, BeforeValidator(parse_duration)] = Field(timedelta(hours=1), alias="R2_CREDENTIAL_TTL")
    history: Annotated[timedelta, BeforeValidator(parse_history)] = Field(
        timedelta(days=365), alias="R2_CREDENTIAL_HISTORY"
    )
    fresh_token_patience: Annotated[timedelta, BeforeValidator(parse_duration)] = Field(
        timedelta(seconds=60), alias="R2_CREDENTIAL_FRESH_TOKEN_PATIENCE"
    )
    max_token_lifetime: Annotated[timedelta | None, BeforeValidator(parse_lifetime)] = Field(
        None, alias="R2_CREDENTIAL_MAX_TOKEN_LIFETIME"
    )
    rotate_every: Annotated[timedelta | None, BeforeValidator(parse_interval)] = Field(DEFAULT_EVERY, alias=EVERY)
    rotate_buckets: Annotated[tuple[str, ...], list_of(bucket_globs.find_slip, any_without="bucket")] = Field(
        (), alias="R2_CREDENTIAL_ROTATE_BUCKETS"
    )
    rotate_grace: Annotated[timedelta, BeforeValidator(parse_duration)] = Field(DEFAULT_GRACE, alias=GRACE)
    rotate_scope: Scope = Field(Scope.BUCKET, alias=SCOPE)
    rotate_quota: int = Field(DEFAULT_QUOTA, alias=QUOTA, ge=1, le=1_000_000)
    allow_enable: bool = Field(default=False, alias="R2_CREDENTIAL_ALLOW_ENABLE")
    expiry_reminders: Annotated[tuple[timedelta, ...], BeforeValidator(parse_reminders)] = Field(
        (timedelta(days=14), timedelta(days=3), timedelta(0)), alias="R2_CREDENTIAL_EXPIRY_REMINDERS"
    )
    contact: Annotated[
        str | None, BeforeValidator(lambda value: one_line(value).strip() if isinstance(value, str) else value)
    ] = Field(None, alias="R2_CREDENTIAL_CONTACT", max_length=200)
    metrics_host: Annotated[str, BeforeValidator(parse_host)] = Field("127.0.0.1", alias="R2_CREDENTIAL_METRICS_HOST")
    metrics_port: Annotated[int | None, BeforeValidator(parse_port_or_off)] = Field(
        None, alias="R2_CREDENTIAL_METRICS_PORT", ge=0, le=65535
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="R2_CREDENTIAL_LOG_LEVEL")
    log_format: Literal["json", "console"] | None = Field(None, alias="R2_CREDENTIAL_LOG_FORMAT")
    network: InstanceOf[Network] = Field(DIRECT, validation_alias=NETWORK)

    @classmethod
    def _find_problems_together(cls, values: Mapping[str, Any], unreadable: Collection[str]) -> list[str]:
        return list(find_problems_together(values, cls.role, except_for=unreadable))


class SlackSettings(Settings):
    """The settings of a process that speaks to Slack: all that there are. Without a role, it does everything."""

    slack_bot_token: Annotated[Secret, _BOT_TOKEN] = Field(alias="SLACK_BOT_TOKEN")
    slack_app_token: Annotated[
        Secret | None, secret_like(rf"xapp-{PRINTABLE}", "is an app-level token and starts with xapp-")
    ] = Field(None, alias="SLACK_APP_TOKEN")
    slack_signing_secrets: Annotated[tuple[Secret, ...], BeforeValidator(parse_signing_secrets)] = Field(
        (), alias="SLACK_SIGNING_SECRET"
    )
    slack_api_url: Annotated[str, BeforeValidator(check_url)] = Field("https://slack.com/api/", alias="SLACK_API_URL")


class GatewaySettings(SlackSettings):
    """The settings of a process that handles only Slack's requests."""

    role = Role.GATEWAY


class WorkerSettings(SlackSettings):
    """The settings of a process that delivers: it calls Cloudflare and posts results."""

    role = Role.WORKER


class MinterSettings(Settings):
    """The settings of a process that only makes and revokes tokens. What calls Slack takes `SlackSettings`."""

    role = Role.MINTER


_SETTINGS_OF: Final[Mapping[Role, type[Settings]]] = {
    Role.ALL: SlackSettings,
    Role.GATEWAY: GatewaySettings,
    Role.WORKER: WorkerSettings,
    Role.MINTER: MinterSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, warnings for the operator, and the files that hold secrets, by the names of their settings."""

    settings: Settings
    warnings: list[str]
    secret_files: Mapping[str, Path] = field(default_factory=dict)


def load_settings(env_file: Path = Path(".env"), role: Role = Role.ALL) -> LoadedSettings:
    """Read and check all settings that the role needs; raises SettingsError with all problems at once."""
    try:
        no_file = find_no_env_file(env_file)
        env_file, ignored = find_env_file(env_file)
        unknown = find_unknown_names(env_file, _names())
        unread = [*find_unread_lines(env_file), *find_repeated_names(env_file, with_files(_names()))]
        variables = plain_variables(dotenv_values(env_file) | os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable_env_file(env_file, error) from None
    near = find_misspelt_names(variables, _names(), _OTHERS[role])
    try:
        settings = _SETTINGS_OF[role](_env_file=env_file)
    except SettingsError as error:
        hints = no_file if variables.keys().isdisjoint(with_files(_NEEDED)) else []
        lines = [*unread, *unknown.in_env_file, *error.problems, *near, *unknown.probably_meant, *hints]
        raise SettingsError(lines) from None
    if unread or unknown.in_env_file:
        raise SettingsError([*unread, *unknown.in_env_file])
    unused = [
        *_ignored_secrets(variables, role),
        *find_unused(variables),
        *_unused_signing_secret(settings),
        *find_short_grace(settings.rotate_grace),
    ]
    warnings = [one_line(each) for each in (*ignored, *unknown.in_environment, *near, *unused)]
    if role is Role.ALL and settings.postgres_url is not None and settings.sealing_key is None:
        warnings.append(
            "R2_CREDENTIAL_SEALING_KEY: is not set, so this process generates keys that no other process has; set it "
            "before a second process uses the same database, which could not open what this one seals"
        )
    if settings.postgres_url is not None and not settings.audit_keys:
        warnings.append(
            "R2_CREDENTIAL_AUDIT_KEY: is not set, so what is recorded is signed with SLACK_BOT_TOKEN; set it for every "
            "process (`keygen --audit PATH` makes one), or the bot does not start once that token is replaced"
        )
    files = _secret_files(variables, role) | ({str(env_file): env_file} if env_file.is_file() else {})
    return LoadedSettings(settings=settings, warnings=warnings, secret_files=files)


def find_secret_variables() -> list[str]:
    """Return the names in the environment whose values are secrets, also those that the role ignores."""
    return [name for name in os.environ if name in _secret_names() or name.upper() in PROXIES]


def load_listen_settings(env_file: Path = Path(".env")) -> ListenSettings:
    """Read only where the bot listens, whatever is wrong with other settings; raises SettingsError."""
    try:
        return ListenSettings(_env_file=find_env_file(env_file)[0])
    except ValidationError as error:
        raise SettingsError([*find_problems_of_fields(error)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable_env_file(env_file, error) from None


def find_no_settings(env_file: Path = Path(".env")) -> list[str]:
    """Return a line if neither `.env` nor a variable sets anything: the command was run in another directory."""
    return [] if plain_variables(os.environ).keys() & with_files(_names()) else find_no_env_file(env_file)


def load_database_settings(env_file: Path = Path(".env")) -> DatabaseSettings:
    """Read only where the database is; raises SettingsError."""
    try:
        return DatabaseSettings(_env_file=find_env_file(env_file)[0])
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable_env_file(env_file, error) from None


def _unreadable_env_file(env_file: Path, error: OSError | UnicodeDecodeError) -> SettingsError:
    cause = explain(error, env_file) if isinstance(error, OSError) else "(it is not UTF-8 text)"
    return SettingsError([f"{env_file}: cannot be read {cause}"])


def _names() -> frozenset[str]:
    return frozenset(each.alias for each in SlackSettings.model_fields.values() if each.alias)


def _secret_files(variables: Mapping[str, str], role: Role) -> dict[str, Path]:
    secret = (each for each in _secret_names() if each not in _OTHERS[role] and each != _PUBLIC_KEY)
    names = [f"{each}{FILE_SUFFIX}" for each in secret]
    return {name: Path(variables[name]) for name in names if name in variables}


def _secret_names() -> list[str]:
    fields = [each for each in SlackSettings.model_fields.values() if each.alias]
    return [str(each.alias) for each in fields if Secret in get_args(each.annotation) or each.annotation is Secret]


def _ignored_secrets(variables: Mapping[str, str], role: Role) -> list[str]:
    names = [name for name in _OTHERS[role] if variables.get(name) or variables.get(name + FILE_SUFFIX)]
    return [f"{name}: a {role} does not need it and ignores it; keep it away from this process" for name in names]


def _unused_signing_secret(settings: Settings) -> Iterator[str]:
    if isinstance(settings, SlackSettings) and settings.slack_app_token is not None and settings.slack_signing_secrets:
        yield (
            "SLACK_SIGNING_SECRET: is not used, since SLACK_APP_TOKEN is set as well and means Socket Mode; unset the "
            "one that you do not want"
        )
