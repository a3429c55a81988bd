-- Aggregates of session entropy: one row a window end and group (METRICS.md, section 2).
--
-- A row is identified by its window and every possible dimension; a dimension that is not configured is the empty
-- string. The same row written twice is one row after a merge, and at once under FINAL: among equal keys the greatest
-- `revision` wins, among equal revisions the row inserted last. `window_end` is in the sorting key, so equal keys always
-- lie in one partition.
--
-- `non_replicated_deduplication_window` makes insert_deduplication_token work on a table that is not replicated.
-- It counts parts, not time. What it has forgotten is still one row, by its key.
--
-- No TTL is set. One on window_end would delete a replayed recording at once; to forget old rows, use inserted_at:
--   ALTER TABLE recwatch.session_entropy MODIFY TTL toDateTime(inserted_at) + INTERVAL 400 DAY
CREATE TABLE IF NOT EXISTS recwatch.session_entropy
(
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    domain          LowCardinality(String),
    surface         LowCardinality(String),
    user_segment    LowCardinality(String),
    rec_strategy    LowCardinality(String),
    ab_group        LowCardinality(String),
    item_type       LowCardinality(String),
    sessions_total  UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'sessions with an event in the window',
    events          UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'events of those sessions in the window',
    sessions        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'sessions with at least min_events events',
    mean_entropy    Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'bits, null where sessions is 0',
    mean_freshness  Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0 to 1, null where sessions is 0',
    freshness_p05   Nullable(Float64)      CODEC(ZSTD(1)),
    freshness_p50   Nullable(Float64)      CODEC(ZSTD(1)),
    freshness_p95   Nullable(Float64)      CODEC(ZSTD(1)),
    share_focused   Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0 to 1',
    share_balanced  Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0 to 1',
    share_scattered Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0 to 1',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_start, window_end, domain, surface, user_segment, rec_strategy, ab_group, item_type)
SETTINGS non_replicated_deduplication_window = 10000;
