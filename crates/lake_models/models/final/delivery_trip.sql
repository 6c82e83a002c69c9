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
    ) AS number
  FROM treated.deliverer_location
  WHERE order_id IS NOT NULL
),
arrivals AS (
  SELECT
    *,
    COALESCE(SUM(CASE WHEN delivery_state = 'arrived' THEN 1 ELSE 0 END) OVER (
      PARTITION BY order_id
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS arrivals_before
  FROM ordered
),
trips AS (
  SELECT
    *,
    COALESCE(MAX(CASE WHEN delivery_state = 'start' THEN arrivals_before END) OVER (
      PARTITION BY order_id
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ), 0) AS trip_key
  FROM arrivals
),
bounds AS (
  SELECT
    order_id,
    trip_key,
    ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY trip_key) AS trip,
    first_number,
    arrived_number,
    without_start
  FROM (
    SELECT
      order_id,
      trip_key,
      COALESCE(MIN(CASE WHEN delivery_state = 'start' THEN number END), MIN(number)) AS first_number,
      MIN(CASE WHEN delivery_state = 'arrived' THEN number END) AS arrived_number,
      MIN(CASE WHEN delivery_state = 'start' THEN number END) IS NULL AS without_start
    FROM trips
    GROUP BY order_id, trip_key
  ) AS keys
),
points AS (
  SELECT
    trips.*,
    bounds.trip,
    bounds.arrived_number,
    bounds.without_start,
    LAG(trips.event_time) OVER (
      PARTITION BY trips.order_id, trips.trip_key, trips.deliverer_id ORDER BY trips.number
    ) AS previous_at,
    LAG(trips.lat) OVER (
      PARTITION BY trips.order_id, trips.trip_key, trips.deliverer_id ORDER BY trips.number
    ) AS previous_lat,
    LAG(trips.lon) OVER (
      PARTITION BY trips.order_id, trips.trip_key, trips.deliverer_id ORDER BY trips.number
    ) AS previous_lon
  FROM bounds
  JOIN trips ON trips.order_id = bounds.order_id AND trips.trip_key = bounds.trip_key
  WHERE trips.number >= bounds.first_number
    AND (bounds.arrived_number IS NULL OR trips.number <= bounds.arrived_number)
),
steps AS (
  SELECT
    *,
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
      PARTITION BY order_id, trip, deliverer_id
      ORDER BY number
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS stand
  FROM steps
),
stops AS (
  SELECT
    order_id,
    trip,
    deliverer_id,
    SUM(CASE WHEN is_still THEN seconds ELSE CAST(0 AS DOUBLE) END) AS still_s
  FROM stands
  GROUP BY order_id, trip, deliverer_id, stand
),
stop_sums AS (
  SELECT
    order_id,
    trip,
    SUM(CASE WHEN still_s >= 60 THEN 1 ELSE 0 END) AS stops,
    SUM(CASE WHEN still_s >= 60 THEN still_s ELSE CAST(0 AS DOUBLE) END) AS stopped_s
  FROM stops
  GROUP BY order_id, trip
),
sums AS (
  SELECT
    order_id,
    trip,
    without_start,
    COUNT(DISTINCT deliverer_id) AS deliverers,
    COUNT(*) AS positions,
    MIN(event_time) AS started_at,
    MAX(event_time) AS last_at,
    MAX(CASE WHEN number = arrived_number THEN event_time END) AS arrived_at,
    CAST(unix_micros(MAX(event_time)) - unix_micros(MIN(event_time)) AS DOUBLE) / 1e6 AS seconds,
    SUM(metres) AS distance_m
  FROM steps
  GROUP BY order_id, trip, without_start
)
SELECT
  sums.order_id,
  sums.trip,
  sums.deliverers,
  sums.positions,
  sums.started_at,
  sums.last_at,
  sums.arrived_at,
  CASE WHEN sums.arrived_at IS NOT NULL THEN sums.seconds END AS duration_s,
  sums.distance_m,
  stop_sums.stops,
  stop_sums.stopped_s,
  CASE WHEN sums.seconds > 0 THEN sums.distance_m / sums.seconds END AS mean_speed_mps,
  sums.without_start,
  CAST(sums.started_at AS DATE) AS date
FROM sums
JOIN stop_sums ON stop_sums.order_id = sums.order_id AND stop_sums.trip = sums.trip
