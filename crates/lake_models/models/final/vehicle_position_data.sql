-- model: final.vehicle_position_data
-- about: Every position of every deliverer and vehicle, with the metres driven since its previous one and that one's time.
-- partition: date
-- inputs: treated.deliverer_location
-- scope: history
-- order: vehicle_id, updated_at
-- not_null: vehicle_id, updated_at, lat, lon, driven_meters, date
-- nullable: previous_at
-- accepted: (previous_at IS NULL AND driven_meters = 0) OR previous_at <= updated_at
-- accepted: driven_meters >= 0 AND driven_meters <= 20015115
-- accepted: CAST(updated_at AS DATE) = date
-- same_rows: SELECT COUNT(*) FROM treated.deliverer_location
--
-- Haversine on a sphere of the mean earth radius, 6371008.8 m. The previous position is that of the same vehicle
-- on any date, so a late position changes the distance of the next one, which may lie in a later partition:
-- hence the scope. Positions at one instant are ordered by what they report, never by when they arrived.
SELECT
  vehicle_id,
  updated_at,
  lat,
  lon,
  CASE
    WHEN previous_lat IS NULL THEN CAST(0 AS DOUBLE)
    ELSE 2 * 6371008.8 * ASIN(SQRT(LEAST(
      CAST(1 AS DOUBLE),
      SIN(RADIANS(lat - previous_lat) / 2) * SIN(RADIANS(lat - previous_lat) / 2)
        + COS(RADIANS(previous_lat)) * COS(RADIANS(lat))
        * SIN(RADIANS(lon - previous_lon) / 2) * SIN(RADIANS(lon - previous_lon) / 2)
    )))
  END AS driven_meters,
  previous_at,
  date
FROM (
  SELECT
    deliverer_id AS vehicle_id,
    event_time AS updated_at,
    lat,
    lon,
    LAG(lat) OVER (
      PARTITION BY deliverer_id
      ORDER BY event_time, seq NULLS FIRST, lat, lon, writer_id, writer_seq
    ) AS previous_lat,
    LAG(lon) OVER (
      PARTITION BY deliverer_id
      ORDER BY event_time, seq NULLS FIRST, lat, lon, writer_id, writer_seq
    ) AS previous_lon,
    LAG(event_time) OVER (
      PARTITION BY deliverer_id
      ORDER BY event_time, seq NULLS FIRST, lat, lon, writer_id, writer_seq
    ) AS previous_at,
    event_date AS date
  FROM treated.deliverer_location
) AS steps
