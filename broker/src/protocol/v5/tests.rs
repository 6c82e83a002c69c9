//! MQTT 5 as a client sends it, held to the meaning the crate gives it.
