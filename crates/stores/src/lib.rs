//! Which store a program uses: its settings, and opening it.
