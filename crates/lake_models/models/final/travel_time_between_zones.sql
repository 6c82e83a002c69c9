-- model: final.travel_time_between_zones
-- about: Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).
-- partition: date
-- inputs: final.vehicle_position_data
-- scope: partition
-- order: hour_start, origin_zone, destination_zone
-- not_null: hour_start, origin_zone, destination_zone, travels, vehicles, mean_s, least_s, greatest_s
-- not_null: geometric_mean_s, date
-- nullable: stddev_s, geometric_stddev
-- unique: hour_start, origin_zone, destination_zone
-- accepted: origin_zone <> destination_zone
-- accepted: CAST(hour_start AS DATE) = date
-- accepted: least_s > 0 AND least_s <= mean_s * (1 + 1e-12) AND mean_s <= greatest_s * (1 + 1e-12) AND greatest_s <= 3600
-- accepted: (stddev_s IS NULL) = (travels = 1)
--
-- A travel is from the last position of a visit to one zone to the first position of a visit to another, with no
-- visit to either between, in not more than an hour. Drives end where positions are more than 5 minutes apart, and
-- at midnight. The geometric mean and deviation (a factor) are what fits the skew of travel times.
WITH points AS (
  SELECT
    vehicle_id,
    date,
    updated_at,
    h3_longlatash3string(lon, lat, 7) AS zone,
    CASE
      WHEN unix_micros(updated_at) - unix_micros(previous_at) <= 300000000 THEN 0
      ELSE 1
    END AS is_first,
    ROW_NUMBER() OVER (PARTITION BY vehicle_id, date ORDER BY updated_at, lat, lon) AS number
  FROM final.vehicle_position_data
),
drives AS (
  SELECT
    *,
    SUM(is_first) OVER (
      PARTITION BY vehicle_id, date
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS drive,
    LAG(zone) OVER (PARTITION BY vehicle_id, date ORDER BY number) AS previous_zone
  FROM points
),
numbered AS (
  SELECT
    *,
    SUM(CASE WHEN is_first = 0 AND zone = previous_zone THEN 0 ELSE 1 END) OVER (
      PARTITION BY vehicle_id, date
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS visit
  FROM drives
),
visits AS (
  SELECT
    vehicle_id,
    date,
    drive,
    visit,
    zone,
    MIN(updated_at) AS entered_at,
    MAX(updated_at) AS left_at
  FROM numbered
  GROUP BY vehicle_id, date, drive, visit, zone
),
next_visits AS (
  SELECT
    origin.vehicle_id,
    origin.date,
    origin.drive,
    origin.visit,
    origin.zone AS origin_zone,
    origin.left_at,
    destination.zone AS destination_zone,
    MIN(destination.visit) AS next_visit,
    MIN(destination.entered_at) AS entered_at
  FROM visits AS origin
  JOIN visits AS destination
    ON destination.vehicle_id = origin.vehicle_id
    AND destination.date = origin.date
    AND destination.drive = origin.drive
    AND destination.visit > origin.visit
    AND destination.zone <> origin.zone
    AND unix_micros(destination.entered_at) - unix_micros(origin.left_at) <= 3600000000
  GROUP BY
    origin.vehicle_id,
    origin.date,
    origin.drive,
    origin.visit,
    origin.zone,
    origin.left_at,
    destination.zone
),
travels AS (
  SELECT
    vehicle_id,
    date,
    origin_zone,
    destination_zone,
    MAX(left_at) AS left_at,
    MIN(entered_at) AS entered_at
  FROM next_visits
  GROUP BY vehicle_id, date, drive, origin_zone, destination_zone, next_visit
),
times AS (
  SELECT
    vehicle_id,
    date,
    DATE_TRUNC('hour', left_at) AS hour_start,
    origin_zone,
    destination_zone,
    CAST(unix_micros(entered_at) - unix_micros(left_at) AS DOUBLE) / 1e6 AS seconds
  FROM travels
  WHERE entered_at > left_at
)
SELECT
  hour_start,
  origin_zone,
  destination_zone,
  COUNT(*) AS travels,
  COUNT(DISTINCT vehicle_id) AS vehicles,
  AVG(seconds) AS mean_s,
  STDDEV_SAMP(seconds) AS stddev_s,
  MIN(seconds) AS least_s,
  MAX(seconds) AS greatest_s,
  EXP(AVG(LN(seconds))) AS geometric_mean_s,
  EXP(STDDEV_SAMP(LN(seconds))) AS geometric_stddev,
  date
FROM times
GROUP BY date, hour_start, origin_zone, destination_zone
