-- The final rows: one a key. Equal keys lie in one partition, so partitions need not be merged with each other.
CREATE OR REPLACE VIEW recwatch.alerts_final AS
SELECT *
FROM recwatch.alerts FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
