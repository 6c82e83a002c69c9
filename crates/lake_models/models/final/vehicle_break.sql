-- model: final.vehicle_break
-- about: When each vehicle had a break; breaks that touch are one.
-- partition: date
-- inputs: treated.vehicle_life, treated.operating_period
-- scope: history
-- order: vehicle_id, break_start
-- not_null: vehicle_id, break_start, break_finish, date
-- nullable:
-- unique: vehicle_id, break_start
-- accepted: break_start < break_finish
--
-- A break that names a vehicle is that vehicle's, registered or not; others are of every vehicle that the
-- organisation ever registered. The partition is the date the break starts on.
SELECT
  vehicle_id,
  MIN(break_start) AS break_start,
  MAX(break_finish) AS break_finish,
  CAST(MIN(break_start) AS DATE) AS date
FROM (
  SELECT
    *,
    SUM(CASE WHEN break_start <= latest_finish THEN 0 ELSE 1 END) OVER (
      PARTITION BY vehicle_id
      ORDER BY break_start, break_finish
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS island
  FROM (
    SELECT
      *,
      MAX(break_finish) OVER (
        PARTITION BY vehicle_id
        ORDER BY break_start, break_finish
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ) AS latest_finish
    FROM (
      SELECT
        life.vehicle_id,
        period.operation_start AS break_start,
        period.operation_finish AS break_finish
      FROM treated.operating_period AS period
      JOIN treated.vehicle_life AS life
        ON life.organization_id = period.organization_id
      WHERE period.in_force AND period.kind = 'break' AND period.vehicle_id IS NULL
      UNION
      SELECT
        vehicle_id,
        operation_start AS break_start,
        operation_finish AS break_finish
      FROM treated.operating_period
      WHERE in_force AND kind = 'break' AND vehicle_id IS NOT NULL
    ) AS breaks
  ) AS running
) AS islands
GROUP BY vehicle_id, island
