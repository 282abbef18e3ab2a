"""The dialect of SQLAlchemy for ledgers in PostgreSQL; who has none need not import it."""

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg


class SharedPostgreSQL(PGDialect_psycopg):
    """PostgreSQL, whose statements are the same in all databases of servers of one version and way of quoting."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedPostgreSQL) and other._decides() == self._decides()

    def __hash__(self) -> int:
        return hash(type(self))

    def _decides(self) -> tuple[object, ...]:
        """What a statement's text depends on; known from the first connection on, before any is formed."""
        return self.server_version_info, self._backslash_escapes
