-- Drift between domains, and of domains from their own past: one row a window end, kind, sources and target (METRICS.md,
-- section 4). Identity, partitions, deduplication and TTL as in 10_session_entropy.sql.
CREATE TABLE IF NOT EXISTS recwatch.domain_drift
(
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    kind            LowCardinality(String)                        COMMENT 'pair, or self: a domain against its own past',
    sources         LowCardinality(String)                        COMMENT 'joined with +',
    target          LowCardinality(String),
    n               UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'users of the sources (self: then)',
    m               UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'users of the target (self: now)',
    w1              Float64                CODEC(ZSTD(1))         COMMENT 'sliced Wasserstein-1 distance',
    max_sliced      Float64                CODEC(ZSTD(1))         COMMENT 'the largest of all directions',
    w1_scaled       Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'in standard deviations of the target, null where it has collapsed',
    noise_floor     Float64                CODEC(ZSTD(1))         COMMENT 'what equal distributions would show',
    significant     Bool                                          COMMENT 'w1 > 3 noise_floor',
    gamma_raw       Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'null below min_users, and for a collapsed target',
    gamma           Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0.05 to 0.95',
    traffic_share   Nullable(Float64)      CODEC(ZSTD(1))         COMMENT '0 to 1',
    sinkhorn        Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'null where not configured',
    out_of_range    UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'projections in the end bins that lie beyond',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_start, window_end, kind, sources, target)
SETTINGS non_replicated_deduplication_window = 10000;
