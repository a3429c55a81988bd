-- Freshness by session: one row a session and window end, for sessions with an event in the last slide
-- (METRICS.md, section 2). Identity, partitions, deduplication and TTL as in 10_session_entropy.sql:
--   ALTER TABLE recwatch.session_freshness MODIFY TTL toDateTime(inserted_at) + INTERVAL 90 DAY
CREATE TABLE IF NOT EXISTS recwatch.session_freshness
(
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    session_id      String                 CODEC(ZSTD(1)),
    domain          LowCardinality(String)                        COMMENT 'dimensions as of the newest event in the window',
    surface         LowCardinality(String),
    user_segment    LowCardinality(String),
    rec_strategy    LowCardinality(String),
    ab_group        LowCardinality(String),
    item_type       LowCardinality(String),
    events          UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'events of the session in the window',
    entropy         Float64                CODEC(ZSTD(1))         COMMENT 'bits',
    normalised      Float64                CODEC(ZSTD(1))         COMMENT '0 to 1',
    freshness       Float64                CODEC(ZSTD(1))         COMMENT '1 - normalised',
    decay_factor    Float64                CODEC(ZSTD(1))         COMMENT 'factor for the rank of items',
    band            LowCardinality(String)                        COMMENT 'focused, balanced or scattered',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_start, window_end, domain, surface, user_segment, rec_strategy, ab_group, item_type, session_id)
SETTINGS non_replicated_deduplication_window = 10000;
