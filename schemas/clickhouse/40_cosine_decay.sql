-- Similarity of successive items, decayed with the time between: one row a window end and group (METRICS.md, section 3).
-- Identity, partitions, deduplication and TTL as in 10_session_entropy.sql.
CREATE TABLE IF NOT EXISTS recwatch.cosine_decay
(
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    domain          LowCardinality(String)                        COMMENT 'dimensions as of the later event',
    surface         LowCardinality(String),
    user_segment    LowCardinality(String),
    rec_strategy    LowCardinality(String),
    ab_group        LowCardinality(String),
    item_type       LowCardinality(String),
    pairs           UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'successive events on different items',
    missing         UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'pairs without a vector, not in pairs',
    mean_cosine     Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '-1 to 1, null where pairs is 0',
    mean_decayed    Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '-1 to 1, null where pairs is 0',
    decayed_p05     Nullable(Float64)      CODEC(ZSTD(1)),
    decayed_p50     Nullable(Float64)      CODEC(ZSTD(1)),
    decayed_p95     Nullable(Float64)      CODEC(ZSTD(1)),
    mean_dt_seconds Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'between the two events',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_start, window_end, domain, surface, user_segment, rec_strategy, ab_group, item_type)
SETTINGS non_replicated_deduplication_window = 10000;
