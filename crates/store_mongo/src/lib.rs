//! The store on `MongoDB`.
