//! system_tests.
