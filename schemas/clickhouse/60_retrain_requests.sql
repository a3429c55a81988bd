-- Items that ask for retraining: one row a version that does, once until the condition has been false again (METRICS.md,
-- section 3). Rows have the time of the version instead of a window; for the rest identity, partitions, deduplication
-- and TTL are as in 10_session_entropy.sql.
CREATE TABLE IF NOT EXISTS recwatch.retrain_requests
(
    event_time      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'of the version',
    item_id         String                 CODEC(ZSTD(1)),
    domain          LowCardinality(String),
    model_version   LowCardinality(String),
    observation     Float64                CODEC(ZSTD(1))         COMMENT 'mean cosine to the nearest items',
    observations    UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'so far',
    slope           Float64                CODEC(ZSTD(1))         COMMENT 'mean step of the newest observations',
    norm            Float64                CODEC(ZSTD(1))         COMMENT 'of the vector',
    condition       Bool                                          COMMENT 'slope and norm below their limits',
    requested       Bool                                          COMMENT 'not since the condition was last false',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_time, item_id)
SETTINGS non_replicated_deduplication_window = 10000;
