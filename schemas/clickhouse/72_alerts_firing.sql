-- What is firing now: the newest record of each rule and group, where that is no resolution.
CREATE OR REPLACE VIEW recwatch.alerts_firing AS
SELECT *
FROM
(
    SELECT *
    FROM recwatch.alerts_final
    ORDER BY window_end DESC, started_at DESC, sequence DESC
    LIMIT 1 BY fingerprint
)
WHERE state = 'FIRING';
