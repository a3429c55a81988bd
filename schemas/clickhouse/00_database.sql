-- Everything that recwatch writes lives in one database. clickhouse-writer --apply-ddl replaces the name `recwatch`
-- by the configured one; run by hand, these files create `recwatch`.
CREATE DATABASE IF NOT EXISTS recwatch;
