"""The tables on both engines, for tests of what reads them by itself."""

from tests.storage.conftest import engine, tables, tables_url  # noqa: F401 - fixtures
