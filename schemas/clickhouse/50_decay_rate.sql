-- Decay of item vectors, calibrated on their successive versions: one row a window end and domain (METRICS.md, section 3).
-- Identity, partitions, deduplication and TTL as in 10_session_entropy.sql.
CREATE TABLE IF NOT EXISTS recwatch.decay_rate
(
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    domain          LowCardinality(String)                        COMMENT 'of the newer versions',
    updates         UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'versions with one before them',
    lambda_hat      Float64                CODEC(ZSTD(1))         COMMENT 'per hour',
    half_life_hours Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'null where lambda_hat is 0',
    retention_24h   Float64                CODEC(ZSTD(1))         COMMENT '0 to 1',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_start, window_end, domain)
SETTINGS non_replicated_deduplication_window = 10000;
