-- What is firing now: the newest record of each rule and group, where that is no resolution. Where the state of a worker was
-- reset, only what it has told since counts: it reads the time before again, and may tell records of older windows.
CREATE OR REPLACE VIEW recwatch.alerts_firing AS
SELECT * EXCEPT (reset_at)
FROM
(
    SELECT *
    FROM
    (
        SELECT *, maxIf(inserted_at, reason = 'state_reset') OVER (PARTITION BY fingerprint) AS reset_at
        FROM recwatch.alerts_final
    )
    WHERE inserted_at > reset_at OR reason = 'state_reset'
    ORDER BY reason = 'state_reset', window_end DESC, started_at DESC, sequence DESC
    LIMIT 1 BY fingerprint
)
WHERE state = 'FIRING';
