"""What the tests of rotation share: the tables on both engines, as the tests of the storage have them."""

from tests.storage.conftest import engine, query, tables, tables_url

__all__ = ["engine", "query", "tables", "tables_url"]
