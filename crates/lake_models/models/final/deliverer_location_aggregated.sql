-- model: final.deliverer_location_aggregated
-- about: Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.
-- partition: date
-- inputs: treated.deliverer_location
-- scope: partition
-- order: delivery_state
-- not_null: date, date_deliver, count_orders, count_distinct_deliverers
-- nullable: delivery_state
-- unique: date_deliver, delivery_state
-- accepted: count_orders >= 0 AND count_distinct_deliverers >= 1
-- same_rows: SELECT COUNT(*) FROM (SELECT DISTINCT event_date, delivery_state FROM treated.deliverer_location) AS states
SELECT
  event_date AS date_deliver,
  delivery_state,
  COUNT(DISTINCT order_id) AS count_orders,
  COUNT(DISTINCT deliverer_id) AS count_distinct_deliverers,
  event_date AS date
FROM treated.deliverer_location
GROUP BY event_date, delivery_state
