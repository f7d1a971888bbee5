"""Messages of PostgreSQL and PgBouncer that no other test makes a server send."""

import psycopg
import pytest

from bot.storage.refusals import judge_connecting

AT = 'connection failed: connection to server at "192.0.2.1", port 5432 failed: '
MANY = "Multiple connection attempts failed. All failures were:\n- host: 'db'"


@pytest.mark.parametrize(
    ("message", "sqlstate", "has_fix"),
    [
        pytest.param(f"{AT}FATAL:  the database system is starting up", "57P03", False, id="starting up"),
        pytest.param(f"{AT}FATAL:  the database system is shutting down", "57P03", False, id="shutting down"),
        pytest.param(f"{AT}FATAL:  the database system is in recovery mode", "57P03", False, id="recovering"),
        pytest.param(
            f"{AT}FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has "
            "not been yet reached.",
            "57P03",
            False,
            id="not yet there",
        ),
        pytest.param(f"{AT}FATAL:  sorry, too many clients already", "53300", False, id="full"),
        pytest.param(
            f"{AT}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "53300",
            False,
            id="full but for the superuser",
        ),
        pytest.param(f"{AT}FATAL:  no more connections allowed (max_client_conn)", "53300", False, id="full pooler"),
        pytest.param(f"{AT}FATAL:  server login has been failing, try again later", None, False, id="unknown words"),
        pytest.param(f"{AT}FATAL:  Passwort-Authentifizierung fehlgeschlagen", None, False, id="another language"),
        pytest.param(f"{AT}FATAL:  unsupported startup parameter: search_path", "08P01", True, id="pooler's parameter"),
        pytest.param(f"{AT}FATAL:  no such database: bot", "3D000", True, id="pooler's database"),
        pytest.param(
            f'{AT}FATAL:  no pg_hba.conf entry for host "192.0.2.9", user "bot", database "bot", no encryption',
            "28000",
            True,
            id="not let in",
        ),
        pytest.param(f"{AT}fe_sendauth: no password supplied", "28P01", True, id="no password"),
        pytest.param(f"{AT}SSL error: certificate verify failed", None, True, id="certificate"),
        pytest.param('invalid sslmode value: "requir"', None, True, id="value of a parameter"),
        pytest.param("bad value for connect_timeout: 'abc'", None, True, id="PGCONNECT_TIMEOUT"),
        pytest.param('connection is bad: definition of service "x" not found', None, True, id="PGSERVICE"),
        pytest.param(f'{AT}FATAL:  invalid value for parameter "TimeZone": "x"', "22023", True, id="PGTZ"),
        pytest.param(
            f'{MANY}: {AT}FATAL:  database "bot" does not exist\n- {AT}FATAL:  the database system is starting up',
            "57P03",
            False,
            id="one of two may still let us in",
        ),
    ],
)
def test_messages_are_classified(message: str, sqlstate: str | None, *, has_fix: bool) -> None:
    """Only a refusal that waiting does not change has a fix, and ends a start."""
    refusal = judge_connecting(psycopg.OperationalError(message))
    assert refusal is not None
    assert (refusal.sqlstate, refusal.fix is not None) == (sqlstate, has_fix)
    assert "192.0.2.1" not in refusal.reason


@pytest.mark.parametrize(
    "message",
    [f"{AT}Connection refused\n\tIs the server running on that host?", "connection timeout expired", f"{AT}timeout"],
)
def test_a_server_that_does_not_answer_is_not_a_refusal(message: str) -> None:
    """It is an outage."""
    assert judge_connecting(psycopg.OperationalError(message)) is None
