-- Alerts: one row a record of an alert's life, which begins with FIRING and ends with RESOLVED. An alert_id is one life,
-- a fingerprint the rule and the group. Partitions, deduplication and TTL as in 10_session_entropy.sql.
CREATE TABLE IF NOT EXISTS recwatch.alerts
(
    alert_id        String                 CODEC(ZSTD(1))         COMMENT 'from firing to resolution',
    sequence        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'of the record in that life, from 1 on',
    fingerprint     String                 CODEC(ZSTD(1))         COMMENT 'worker, rule and group',
    state           LowCardinality(String)                        COMMENT 'FIRING or RESOLVED',
    reason          LowCardinality(String)                        COMMENT 'fired, changed, repeated, or cleared, no_data, rule_removed, state_reset',
    worker          LowCardinality(String),
    rule            LowCardinality(String),
    kind            LowCardinality(String)                        COMMENT 'threshold, deviation, change or absence',
    severity        LowCardinality(String),
    metric          LowCardinality(String)                        COMMENT 'empty for absence',
    value           Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'of the metric in the window',
    threshold       Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'beyond which the rule breaches',
    baseline        Nullable(Float64)      CODEC(ZSTD(1))         COMMENT 'what is usual',
    window_start    DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'open end of the window',
    window_end      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'closed end of the window',
    started_at      DateTime64(3, 'UTC')   CODEC(Delta, ZSTD(1))  COMMENT 'end of the window with which it began to fire',
    group           Map(String, String)    CODEC(ZSTD(1))         COMMENT 'dimensions and their values',
    samples         Map(String, UInt64)    CODEC(ZSTD(1))         COMMENT 'what the value rests on',
    attribution     Array(Tuple(dimensions String, carried_by String, share Float64, entropy Float64)) CODEC(ZSTD(1)) COMMENT 'what carries the excess, the most concentrated first',
    summary         String                 CODEC(ZSTD(1))         COMMENT 'one sentence',
    traceparent     Nullable(String)       CODEC(ZSTD(1))         COMMENT 'of an example event',
    revision        UInt64                 CODEC(T64, ZSTD(1))    COMMENT 'raised by whoever recomputes a period',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_end)
ORDER BY (window_end, alert_id, sequence)
SETTINGS non_replicated_deduplication_window = 10000;
