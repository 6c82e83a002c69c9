-- model: final.delivery_trip
-- about: Each delivery of an order: start, arrival, time, way, stops and mean speed.
-- partition: date
-- inputs: treated.deliverer_location
-- scope: history
-- order: order_id, trip
-- not_null: order_id, trip, deliverers, positions, started_at, last_at, distance_m, stops, stopped_s, without_start, date
-- nullable: arrived_at, duration_s, mean_speed_mps
-- unique: order_id, trip
-- accepted: started_at <= last_at AND (arrived_at IS NULL OR arrived_at = last_at)
-- accepted: distance_m >= 0 AND stops >= 0 AND stopped_s >= 60 * stops
-- references: order_id -> treated.deliverer_location.order_id
-- same: COUNT(DISTINCT order_id) == SELECT COUNT(DISTINCT order_id) FROM treated.deliverer_location
--
-- A trip begins at the first start and ends at the first arrived. An order whose id is used again, by a start after
-- an arrived, makes another trip. Positions before the start and after the arrival do not count; a trip without
-- a start begins at its first position. The way is haversine on a sphere of 6371008.8 m, of each deliverer
-- for himself. A stop is 60 seconds or more at less than 0.5 m/s from each position to the next. The partition is
-- the date of the start.
--
-- A trip's key is how often the order had arrived before the last start; a position counts until it has arrived once
-- more. What comes before any start has the key -1, and is no trip if one begins before anything arrived. Every step
-- reads the one before it alone, and every window looks back only: so engines compute each once, in little memory.
WITH ordered AS (
  SELECT
    order_id,
    deliverer_id,
    delivery_state,
    event_time,
    lat,
    lon,
    ROW_NUMBER() OVER (
      PARTITION BY order_id
      ORDER BY event_time, seq NULLS FIRST, lat, lon, writer_id, writer_seq
    ) AS number,
    COALESCE(SUM(CASE WHEN delivery_state = 'arrived' THEN 1 ELSE 0 END) OVER (
      PARTITION BY order_id
      ORDER BY event_time, seq NULLS FIRST, lat, lon, writer_id, writer_seq
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS arrivals_before
  FROM treated.deliverer_location
  WHERE order_id IS NOT NULL
),
keyed AS (
  SELECT
    *,
    COALESCE(MAX(CASE WHEN delivery_state = 'start' THEN arrivals_before END) OVER (
      PARTITION BY order_id
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ), -1) AS trip_key
  FROM ordered
),
points AS (
  SELECT
    *,
    LAG(event_time) OVER (PARTITION BY order_id, trip_key, deliverer_id ORDER BY number) AS previous_at,
    LAG(lat) OVER (PARTITION BY order_id, trip_key, deliverer_id ORDER BY number) AS previous_lat,
    LAG(lon) OVER (PARTITION BY order_id, trip_key, deliverer_id ORDER BY number) AS previous_lon
  FROM keyed
  WHERE arrivals_before = GREATEST(trip_key, 0)
),
steps AS (
  SELECT
    order_id,
    trip_key,
    deliverer_id,
    delivery_state,
    number,
    event_time,
    COALESCE(CAST(unix_micros(event_time) - unix_micros(previous_at) AS DOUBLE) / 1e6, CAST(0 AS DOUBLE)) AS seconds,
    CASE
      WHEN previous_lat IS NULL THEN CAST(0 AS DOUBLE)
      ELSE 2 * 6371008.8 * ASIN(SQRT(LEAST(
        CAST(1 AS DOUBLE),
        SIN(RADIANS(lat - previous_lat) / 2) * SIN(RADIANS(lat - previous_lat) / 2)
          + COS(RADIANS(previous_lat)) * COS(RADIANS(lat))
          * SIN(RADIANS(lon - previous_lon) / 2) * SIN(RADIANS(lon - previous_lon) / 2)
      )))
    END AS metres
  FROM points
),
stands AS (
  SELECT
    *,
    seconds > 0 AND metres < 0.5 * seconds AS is_still,
    SUM(CASE WHEN seconds > 0 AND metres < 0.5 * seconds THEN 0 ELSE 1 END) OVER (
      PARTITION BY order_id, trip_key, deliverer_id
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS stand
  FROM steps
),
parts AS (
  SELECT
    order_id,
    trip_key,
    deliverer_id,
    COUNT(*) AS positions,
    MIN(event_time) AS started_at,
    MAX(event_time) AS last_at,
    MAX(CASE WHEN delivery_state = 'arrived' THEN event_time END) AS arrived_at,
    SUM(metres) AS distance_m,
    SUM(CASE WHEN is_still THEN seconds ELSE CAST(0 AS DOUBLE) END) AS still_s
  FROM stands
  GROUP BY order_id, trip_key, deliverer_id, CASE WHEN is_still THEN stand ELSE 0 END
),
sums AS (
  SELECT
    order_id,
    trip_key,
    COUNT(DISTINCT deliverer_id) AS deliverers,
    CAST(SUM(positions) AS BIGINT) AS positions,
    MIN(started_at) AS started_at,
    MAX(last_at) AS last_at,
    MAX(arrived_at) AS arrived_at,
    CAST(unix_micros(MAX(last_at)) - unix_micros(MIN(started_at)) AS DOUBLE) / 1e6 AS seconds,
    SUM(distance_m) AS distance_m,
    SUM(CASE WHEN still_s >= 60 THEN 1 ELSE 0 END) AS stops,
    SUM(CASE WHEN still_s >= 60 THEN still_s ELSE CAST(0 AS DOUBLE) END) AS stopped_s
  FROM parts
  GROUP BY order_id, trip_key
),
neighbours AS (
  SELECT
    *,
    LEAD(trip_key) OVER (PARTITION BY order_id ORDER BY trip_key) AS next_key
  FROM sums
)
SELECT
  order_id,
  ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY trip_key) AS trip,
  deliverers,
  positions,
  started_at,
  last_at,
  arrived_at,
  CASE WHEN arrived_at IS NOT NULL THEN seconds END AS duration_s,
  distance_m,
  stops,
  stopped_s,
  CASE WHEN seconds > 0 THEN distance_m / seconds END AS mean_speed_mps,
  trip_key < 0 AS without_start,
  CAST(started_at AS DATE) AS date
FROM neighbours
WHERE trip_key >= 0 OR next_key IS NULL OR next_key > 0
