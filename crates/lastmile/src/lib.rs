//! lastmile.
