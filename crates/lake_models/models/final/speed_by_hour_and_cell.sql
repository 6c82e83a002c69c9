-- model: final.speed_by_hour_and_cell
-- about: Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).
-- partition: date
-- inputs: final.vehicle_position_data
-- scope: partition
-- order: hour_start, cell
-- not_null: hour_start, cell, vehicles, samples, mean_speed_mps, date
-- nullable: stddev_speed_mps
-- unique: hour_start, cell
-- accepted: CAST(hour_start AS DATE) = date
-- accepted: mean_speed_mps >= 0 AND vehicles BETWEEN 1 AND samples
-- accepted: (stddev_speed_mps IS NULL) = (samples = 1)
-- same: SUM(samples) == SELECT COUNT(*) FROM final.vehicle_position_data WHERE unix_micros(updated_at) - unix_micros(previous_at) BETWEEN 1 AND 300000000
--
-- A sample is the speed from a position to the next one of the vehicle, not more than 5 minutes later; its hour
-- and cell are those of the later position. The deviation is that of a sample (n - 1).
SELECT
  hour_start,
  cell,
  COUNT(DISTINCT vehicle_id) AS vehicles,
  COUNT(*) AS samples,
  AVG(speed_mps) AS mean_speed_mps,
  STDDEV_SAMP(speed_mps) AS stddev_speed_mps,
  date
FROM (
  SELECT
    vehicle_id,
    DATE_TRUNC('hour', updated_at) AS hour_start,
    h3_longlatash3string(lon, lat, 8) AS cell,
    driven_meters / (CAST(unix_micros(updated_at) - unix_micros(previous_at) AS DOUBLE) / 1e6) AS speed_mps,
    date
  FROM final.vehicle_position_data
  WHERE unix_micros(updated_at) - unix_micros(previous_at) BETWEEN 1 AND 300000000
) AS samples
GROUP BY date, hour_start, cell
