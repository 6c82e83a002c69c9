//! mqtt_client.
